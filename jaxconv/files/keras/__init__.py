"""Keras's model files: the archive, the config, the weights, and writing them."""
