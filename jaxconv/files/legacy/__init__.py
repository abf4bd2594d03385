"""What Keras 1 and 2 wrote differently: names, kernels and transposed convolutions."""
