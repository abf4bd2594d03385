"""Differences in the files of Keras 1 and 2: names, options, kernels, and the layout of HDF5 weights."""
