"""Convolutions as functions of arrays, with Keras's signatures."""

from jaxconv.ops.convolution import (
    conv,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    conv_transpose,
    depthwise_conv,
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    separable_conv,
    separable_conv1d,
    separable_conv2d,
    separable_conv3d,
)
from jaxconv.ops.operands import conv_geometry

__all__ = [
    "conv",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "conv_geometry",
    "conv_transpose",
    "depthwise_conv",
    "depthwise_conv1d",
    "depthwise_conv2d",
    "depthwise_conv3d",
    "separable_conv",
    "separable_conv1d",
    "separable_conv2d",
    "separable_conv3d",
]
