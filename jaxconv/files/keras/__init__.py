"""Reading and writing of Keras's model files: the archive, the config and the weights."""
