"""Convolutions as functions of arrays, with the signature of ``tf.keras.backend.conv1d``. Knows no layers."""

from typing import Any

from jax import Array

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv import kernels
from jaxconv.ops.operands import (
    as_padding_mode,
    check_mode,
    dimension_numbers,
    infer_groups,
    lengths_out,
    over_batch,
    result_type,
    same_type,
    spatial_rank,
)
from jaxconv.windows import Window


def conv(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve in one, two or three dimensions; the kernel's rank decides which.

    Cross-correlation, as in Keras, on each axis:
    ``y[o, f] = sum over j, c of x[o * strides + j * dilation_rate - pad, c] kernel[j, c, f]``.
    Groups are inferred: input channels divided by the kernel's. Differs from ``tf.keras.backend.conv1d``: strides and
    dilation go together, ``"causal"`` is right in both data formats, padding can be explicit, names may have any case.

    Args:
        x: input, (\\*batch, \\*spatial, channels), or (\\*batch, channels, \\*spatial) for "channels_first", with any
            number of batch axes, none included. Real numbers are cast to the kernel's type.
        kernel: (\\*kernel_size, channels / groups, filters) in both formats.
        strides: output steps, in input steps; one integer or one for each spatial axis.
        padding: "valid" (none), "same" (length / strides rounded up; the odd zero goes after), "causal" (one dimension:
            all zeros before); or for each spatial axis one of these names, also "causal", or a pair (before, after).
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        dilation_rate: distance between neighbouring kernel taps, in input steps.
        padding_mode: the values of the padding: "zeros", "reflect", "replicate" or "circular".
        precision: as in ``jax.lax.conv_general_dilated``.
        preferred_element_type: type of accumulation and result, of the kernel's kind; by default the kernel's own.

    Returns:
        (\\*batch, \\*new_spatial, filters), or (\\*batch, filters, \\*new_spatial).

    Raises:
        ValueError: an unknown name, sizes that are not positive, channels that do not divide into groups, an input
            shorter than the effective kernel, a 64-bit result while JAX computes in 32 bits.
        TypeError: complex input with a real kernel, or a result of another kind, such as integers from floats.

    Source: https://www.tensorflow.org/versions/r2.3/api_docs/python/tf/keras/backend/conv1d

    >>> x, kernel = jnp.arange(1.0, 7).reshape(6, 1), jnp.ones((3, 1, 1))
    >>> conv(x, kernel, strides=2, padding="same")[:, 0]
    Array([ 6., 12., 11.], dtype=float32)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return convolve("conv", None, x, kernel, *options, precision, preferred_element_type)


def conv1d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve over time: :func:`conv` in one dimension.

    ``x`` is (\\*batch, time, channels), ``kernel`` (kernel_size, channels / groups, filters).

    >>> conv1d(jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.ones((3, 1, 1)), padding="causal")[0, :, 0]
    Array([ 1.,  3.,  6.,  9., 12., 15.], dtype=float32)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return convolve("conv1d", 1, x, kernel, *options, precision, preferred_element_type)


def conv2d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve over an image: :func:`conv` in two dimensions.

    ``x`` is (\\*batch, rows, columns, channels), ``kernel`` (rows, columns, channels / groups, filters).

    >>> conv2d(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), strides=2).shape
    (1, 3, 3, 5)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return convolve("conv2d", 2, x, kernel, *options, precision, preferred_element_type)


def conv3d(
    x: Any, kernel: Any, strides: Any = 1, padding: Any = "valid", data_format: str | None = None,
    dilation_rate: Any = 1, *, padding_mode: str = "zeros", precision: Any = None, preferred_element_type: Any = None,
) -> Array:  # fmt: skip
    """Convolve over a volume: :func:`conv` in three dimensions.

    ``x`` is (\\*batch, depth, rows, columns, channels), ``kernel`` (depth, rows, columns, channels / groups, filters).

    >>> conv3d(jnp.ones((1, 4, 4, 4, 2)), jnp.ones((2, 2, 2, 2, 3)), padding="same").shape
    (1, 4, 4, 4, 3)
    """
    options = (strides, padding, data_format, dilation_rate, padding_mode)
    return convolve("conv3d", 3, x, kernel, *options, precision, preferred_element_type)


def convolve(
    where: str, rank: int | None, x: Any, kernel: Any, strides: Any, padding: Any, data_format: str | None,
    dilation_rate: Any, padding_mode: str, precision: Any, preferred_element_type: Any,
) -> Array:  # fmt: skip
    """Compute :func:`conv`, with ``where`` as the name in messages."""
    x, kernel = same_type(where, x, kernel)
    rank = spatial_rank(where, kernel, rank)
    form, mode = formats.canonical(data_format, where), as_padding_mode(padding_mode, where)
    dtype = result_type(where, kernel.dtype, preferred_element_type)

    def with_one_batch_axis(x: Array) -> Array:
        geometry = conv_geometry(where, x.shape, kernel.shape, strides, padding, form, dilation_rate)
        check_mode(where, mode, geometry.x_lengths, geometry.padding)
        return kernels.convolve(x, kernel, geometry, precision=precision, dtype=dtype, mode=mode)

    return over_batch(where, rank, x, with_one_batch_axis)


def conv_geometry(
    where: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Any, padding: Any, data_format: str,
    dilation_rate: Any,
) -> geo.Geometry:  # fmt: skip
    """Return the geometry of a convolution of arrays of these shapes, one batch axis. Raises as :func:`conv` does."""
    *taps, width, filters = kernel_shape
    rank = len(taps)
    steps = geo.as_sizes(strides, rank, "strides", where)
    rate = geo.as_sizes(dilation_rate, rank, "dilation_rate", where)
    rule = geo.as_padding(padding, rank, where, causal=True)
    dims = dimension_numbers(rank, data_format)
    lengths = tuple(x_shape[axis] for axis in dims[2:])
    groups = infer_groups(where, x_shape[dims[1]], width, filters)
    each = zip(taps, steps, rate, geo.each_axis(rule, rank), strict=True)
    windows = [Window(*sizes) for sizes in each]
    lengths_out(windows, lengths, where)
    zeros = tuple(window.pads(length) for window, length in zip(windows, lengths, strict=True))
    w_dims = (rank + 1, rank, *range(rank))
    return geo.Geometry(lengths, tuple(taps), steps, zeros, (1,) * rank, rate, groups, dims, w_dims, dims)
