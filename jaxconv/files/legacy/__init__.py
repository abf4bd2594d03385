"""What Keras 1 and 2 wrote differently: names, options, calls of functions, kernels, and the layout of HDF5 weights."""
