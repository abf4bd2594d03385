"""Depthwise and separable convolutions as functions of arrays: as many groups as channels. Knows no layers."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxconv import data_format as formats
from jaxconv.ops.convolution import convolve
from jaxconv.ops.operands import spatial_rank


def depthwise_conv(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve each channel with its own kernels, in one, two or three dimensions; the kernel's rank decides which.

    Output channel ``c * depth_multiplier + m`` is input channel c convolved with ``kernel[..., c, m]``.

    Args:
        x: input, as in :func:`conv`.
        kernel: (\\*kernel_size, channels, depth_multiplier) in both formats.
        strides, padding, data_format, dilation_rate and the others: as in :func:`conv`.

    Returns:
        (\\*batch, \\*new_spatial, channels * depth_multiplier), or channels first.

    Raises:
        ValueError, TypeError: as :func:`conv`; input and kernel with different numbers of channels.

    >>> depthwise_conv(jnp.ones((4, 2)), jnp.array([[[1.0], [2.0]]]))[0]
    Array([1., 2.], dtype=float32)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return depthwise("depthwise_conv", None, x, kernel, *options, precision, preferred_element_type)


def depthwise_conv1d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve each channel of a sequence with its own kernels: :func:`depthwise_conv` in one dimension.

    >>> depthwise_conv1d(jnp.ones((2, 8, 3)), jnp.ones((3, 3, 2))).shape
    (2, 6, 6)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return depthwise("depthwise_conv1d", 1, x, kernel, *options, precision, preferred_element_type)


def depthwise_conv2d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve each channel of an image with its own kernels: :func:`depthwise_conv` in two dimensions.

    >>> depthwise_conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 1))).shape
    (2, 6, 6, 3)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return depthwise("depthwise_conv2d", 2, x, kernel, *options, precision, preferred_element_type)


def depthwise_conv3d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve each channel of a volume with its own kernels: :func:`depthwise_conv` in three dimensions.

    >>> depthwise_conv3d(jnp.ones((2, 4, 4, 4, 3)), jnp.ones((2, 2, 2, 3, 1))).shape
    (2, 3, 3, 3, 3)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return depthwise("depthwise_conv3d", 3, x, kernel, *options, precision, preferred_element_type)


def separable_conv(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve each channel separately, then mix the channels: :func:`depthwise_conv`, then a convolution of one tap.

    Args:
        x: input, as in :func:`conv`.
        depthwise_kernel: (\\*kernel_size, channels, depth_multiplier).
        pointwise_kernel: (1, ..., channels * depth_multiplier, filters).
        strides, padding, data_format, dilation_rate, padding_mode: of the depthwise convolution.
        precision, preferred_element_type: of both convolutions.

    Returns:
        (\\*batch, \\*new_spatial, filters), or channels first.

    Raises:
        ValueError, TypeError: as :func:`conv`; kernels whose shapes do not match.

    >>> separable_conv(jnp.ones((8, 3)), jnp.ones((3, 3, 2)), jnp.ones((1, 6, 5))).shape
    (6, 5)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    kernels = (depthwise_kernel, pointwise_kernel)
    return separable("separable_conv", None, x, *kernels, *options, precision, preferred_element_type)


def separable_conv1d(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve a sequence channel by channel, then mix the channels: :func:`separable_conv` in one dimension.

    >>> separable_conv1d(jnp.ones((2, 8, 3)), jnp.ones((3, 3, 2)), jnp.ones((1, 6, 4))).shape
    (2, 6, 4)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    kernels = (depthwise_kernel, pointwise_kernel)
    return separable("separable_conv1d", 1, x, *kernels, *options, precision, preferred_element_type)


def separable_conv2d(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve an image channel by channel, then mix the channels: :func:`separable_conv` in two dimensions.

    >>> separable_conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 1)), jnp.ones((1, 1, 3, 4))).shape
    (2, 6, 6, 4)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    kernels = (depthwise_kernel, pointwise_kernel)
    return separable("separable_conv2d", 2, x, *kernels, *options, precision, preferred_element_type)


def separable_conv3d(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any = 1, padding: Any = "valid",
    data_format: str | None = None, dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve a volume channel by channel, then mix the channels: :func:`separable_conv` in three dimensions.

    >>> separable_conv3d(jnp.ones((2, 4, 4, 4, 3)), jnp.ones((2, 2, 2, 3, 1)), jnp.ones((1, 1, 1, 3, 4))).shape
    (2, 3, 3, 3, 4)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    kernels = (depthwise_kernel, pointwise_kernel)
    return separable("separable_conv3d", 3, x, *kernels, *options, precision, preferred_element_type)


def depthwise(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any, padding: Any, data_format: str | None,
    dilation_rate: Any, padding_mode: str, precision: Any, preferred_element_type: Any,
) -> Array:  # fmt: skip
    """Compute :func:`depthwise_conv`, with ``where`` as the name in messages."""
    spatial_rank(where, kernel, rank)
    kernel = jnp.asarray(kernel)
    *taps, channels, multiplier = kernel.shape
    grouped = kernel.reshape(*taps, 1, channels * multiplier)
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    _check_channels(where, x, channels, len(taps), data_format)
    return convolve(where, rank, x, grouped, *options, precision, preferred_element_type)


def separable(
    where: str, rank: int | None, x: Any, depthwise_kernel: Any, pointwise_kernel: Any, strides: Any, padding: Any,
    data_format: str | None, dilation_rate: Any, padding_mode: str, precision: Any, preferred_element_type: Any,
) -> Array:  # fmt: skip
    """Compute :func:`separable_conv`, with ``where`` as the name in messages."""
    rank = spatial_rank(where, depthwise_kernel, rank)
    first, second = jnp.shape(depthwise_kernel), jnp.shape(pointwise_kernel)
    if second[:-2] != (1,) * rank or len(second) != rank + 2 or second[-2] != first[-2] * first[-1]:
        raise ValueError(
            f"{where}: pointwise kernel of shape {second} does not fit the depthwise kernel of shape {first}; "
            f"it must be {(*(1,) * rank, first[-2] * first[-1])} and the filters"
        )
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    x = depthwise(where, rank, x, depthwise_kernel, *options, precision, preferred_element_type)
    options = (1, "valid", data_format, 1, "zeros")
    return convolve(where, rank, x, pointwise_kernel, *options, precision, preferred_element_type)


def _check_channels(where: str, x: Any, channels: int, rank: int, data_format: str | None) -> None:
    form, shape = formats.canonical(data_format, where), jnp.shape(x)
    axis = -1 if form == "channels_last" else -1 - rank
    if len(shape) > rank and shape[axis] != channels:
        raise ValueError(
            f"{where}: input of shape {shape} has {shape[axis]} channels and the kernel {channels}; they must be equal"
        )
