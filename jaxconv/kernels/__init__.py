"""The three bilinear maps of a convolution and their lowerings. Knows arrays and geometry; no layers, no params."""

from jaxconv.kernels.maps import convolve, correlate, transpose

__all__ = ["convolve", "correlate", "transpose"]
