"""The three bilinear maps of a convolution and their lowerings. Must not import layers."""

from jaxconv.kernels.maps import convolve, correlate, transpose

__all__ = ["convolve", "correlate", "transpose"]
