"""Transposed convolutions as functions of arrays: the map T of :mod:`jaxconv.kernels`. Knows no layers."""

from typing import Any

from jax import Array

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv import kernels
from jaxconv.ops.operands import dimension_numbers, lengths_out, over_batch, result_type, same_type, spatial_rank
from jaxconv.windows import Window


def conv_transpose(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", output_padding: Any = None,
    data_format: str | None = None, dilation_rate: Any = 1, *, groups: int = 1, precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Transpose a convolution in one, two or three dimensions; the kernel's rank decides which.

    Every input step adds its multiple of the kernel to the output: ``x[o] * kernel[j]`` is added at step
    ``o * strides + j * dilation_rate``; the padding crops the edges. This is the gradient of :func:`conv` with the same
    options with respect to its input. The signature is that of ``keras.ops.conv_transpose``; additions to Keras:
    groups, strides with dilation, explicit padding.

    Args:
        x: input, (\\*batch, \\*spatial, channels), or (\\*batch, channels, \\*spatial) for "channels_first", with any
            number of batch axes, none included. Real numbers are cast to the kernel's type.
        kernel: (\\*kernel_size, filters / groups, channels) in both formats.
        strides: distance between neighbouring input steps in the output.
        padding: "valid" or "same"; or for each spatial axis a name or a pair (before, after) of steps to crop.
        output_padding: None for Keras's lengths, ``length * strides`` for "same" and ``(length - 1) * strides +
            max(effective kernel, strides)`` for "valid"; or the steps, below ``strides``, added to the shortest output.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        dilation_rate: distance between neighbouring kernel taps, in output steps.
        groups: number of channel groups; divides channels and filters.
        precision, preferred_element_type: as in :func:`conv`.

    Returns:
        (\\*batch, \\*new_spatial, filters), or (\\*batch, filters, \\*new_spatial).

    Raises:
        ValueError: an unknown name, sizes that are not positive, output_padding not below strides, channels that differ
            from the kernel's.
        TypeError: complex input with a real kernel.

    Source: Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285, chapter 4.

    >>> conv_transpose(jnp.ones((3, 1)), jnp.ones((3, 1, 1)), strides=2)[:, 0]
    Array([1., 1., 2., 1., 2., 1., 1.], dtype=float32)
    """
    options = (strides, padding, output_padding, data_format, dilation_rate, groups)
    return transpose("conv_transpose", None, x, kernel, *options, precision, preferred_element_type)


def conv1d_transpose(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", output_padding: Any = None,
    data_format: str | None = None, dilation_rate: Any = 1, *, groups: int = 1, precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Transpose a convolution of a sequence: :func:`conv_transpose` in one dimension.

    ``x`` is (\\*batch, time, channels), ``kernel`` (kernel_size, filters / groups, channels).

    >>> conv1d_transpose(jnp.ones((2, 5, 3)), jnp.ones((4, 6, 3)), strides=2, padding="same").shape
    (2, 10, 6)
    """
    options = (strides, padding, output_padding, data_format, dilation_rate, groups)
    return transpose("conv1d_transpose", 1, x, kernel, *options, precision, preferred_element_type)


def conv2d_transpose(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", output_padding: Any = None,
    data_format: str | None = None, dilation_rate: Any = 1, *, groups: int = 1, precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Transpose a convolution of an image: :func:`conv_transpose` in two dimensions.

    ``x`` is (\\*batch, rows, columns, channels), ``kernel`` (rows, columns, filters / groups, channels).

    >>> conv2d_transpose(jnp.ones((2, 5, 4, 3)), jnp.ones((2, 2, 6, 3)), strides=2).shape
    (2, 10, 8, 6)
    """
    options = (strides, padding, output_padding, data_format, dilation_rate, groups)
    return transpose("conv2d_transpose", 2, x, kernel, *options, precision, preferred_element_type)


def conv3d_transpose(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", output_padding: Any = None,
    data_format: str | None = None, dilation_rate: Any = 1, *, groups: int = 1, precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Transpose a convolution of a volume: :func:`conv_transpose` in three dimensions.

    ``x`` is (\\*batch, depth, rows, columns, channels), ``kernel`` (\\*kernel_size, filters / groups, channels).

    >>> conv3d_transpose(jnp.ones((2, 2, 2, 2, 3)), jnp.ones((3, 3, 3, 1, 3))).shape
    (2, 4, 4, 4, 1)
    """
    options = (strides, padding, output_padding, data_format, dilation_rate, groups)
    return transpose("conv3d_transpose", 3, x, kernel, *options, precision, preferred_element_type)


def transpose(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any, padding: Any, output_padding: Any,
    data_format: str | None, dilation_rate: Any, groups: int, precision: Any, preferred_element_type: Any,
) -> Array:  # fmt: skip
    """Compute :func:`conv_transpose`, with ``where`` as the name in messages."""
    x, kernel = same_type(where, x, kernel)
    rank = spatial_rank(where, kernel, rank)
    form = formats.canonical(data_format, where)
    dtype = result_type(where, kernel.dtype, preferred_element_type)

    def with_one_batch_axis(x: Array) -> Array:
        options = (strides, padding, output_padding, form, dilation_rate, groups)
        geometry = transposed_geometry(where, x.shape, kernel.shape, *options)
        return kernels.transpose(x, kernel, geometry, precision=precision, dtype=dtype)

    return over_batch(where, rank, x, with_one_batch_axis)


def as_output_padding(value: Any, strides: tuple[int, ...], where: str) -> tuple[int, ...] | None:
    """Return the canonical output padding: None, or one integer below the stride for each axis."""
    if value is None:
        return None
    sizes = geo.as_sizes(value, len(strides), "output_padding", where, 0)
    if any(m >= s for m, s in zip(sizes, strides, strict=True)):
        raise ValueError(
            f"{where}: output_padding={sizes} is not below strides={strides} on every axis; "
            f"the largest legal value is {tuple(s - 1 for s in strides)}"
        )
    return sizes


def transposed_geometry(
    where: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Any, padding: Any,
    output_padding: Any, data_format: str, dilation_rate: Any, groups: Any,
) -> geo.Geometry:  # fmt: skip
    """Return the geometry of the convolution whose transpose this is: our input is its output."""
    *taps, _, channels = kernel_shape
    rank = len(taps)
    steps = geo.as_sizes(strides, rank, "strides", where)
    rate = geo.as_sizes(dilation_rate, rank, "dilation_rate", where)
    rule = geo.as_padding(padding, rank, where, causal=False)
    extra = as_output_padding(output_padding, steps, where)
    groups = geo.as_size(groups, "groups", where)
    dims = dimension_numbers(rank, data_format)
    if x_shape[dims[1]] != channels:
        raise ValueError(
            f"{where}: input of shape {x_shape} has {x_shape[dims[1]]} channels and the kernel takes {channels}, "
            "its last axis; they must be equal"
        )
    if channels % groups:
        raise ValueError(
            f"{where}: {channels} input channels do not divide into groups={groups}; they must be a multiple"
        )
    lengths = tuple(x_shape[axis] for axis in dims[2:])
    each = zip(taps, steps, rate, geo.each_axis(rule, rank), extra or (None,) * rank, strict=True)
    windows = [Window(k, s, d, one, "zeros", True, more) for k, s, d, one, more in each]
    out = lengths_out(windows, lengths, where)
    zeros = tuple(window.pads(length) for window, length in zip(windows, lengths, strict=True))
    w_dims = (rank + 1, rank, *range(rank))
    return geo.Geometry(out, tuple(taps), steps, zeros, (1,) * rank, rate, groups, dims, w_dims, dims)
