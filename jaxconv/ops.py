"""Convolutions as functions of arrays, with the signature of ``tf.keras.backend.conv1d``. Knows no layers."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv import kernels
from jaxconv.dtypes import promote

Array = jax.Array


def conv(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
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
            all zeros before), or (before, after) pairs, one for each spatial axis.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        dilation_rate: distance of neighbouring kernel taps, in input steps.
        precision: as in ``jax.lax.conv_general_dilated``.
        preferred_element_type: type of accumulation and result, of the kernel's kind; by default the kernel's own.

    Returns:
        (\\*batch, \\*new_spatial, filters), or (\\*batch, filters, \\*new_spatial).

    Raises:
        ValueError: an unknown name, sizes that are not positive, channels that do not divide into groups, an input
            shorter than the effective kernel, a 64-bit result while JAX computes in 32.
        TypeError: complex input with a real kernel, or a result of another kind (integers from floats, say).

    Source: https://www.tensorflow.org/versions/r2.3/api_docs/python/tf/keras/backend/conv1d

    >>> x, kernel = jnp.arange(1.0, 7).reshape(6, 1), jnp.ones((3, 1, 1))
    >>> conv(x, kernel, strides=2, padding="same")[:, 0]
    Array([ 6., 12., 11.], dtype=float32)
    """
    options = (strides, padding, data_format, dilation_rate)
    return _conv("conv", None, x, kernel, *options, precision, preferred_element_type)


def conv1d(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolve over time: :func:`conv` in one dimension.

    ``x`` is (\\*batch, time, channels), ``kernel`` (kernel_size, channels / groups, filters); the rest as there.

    >>> conv1d(jnp.arange(1.0, 7).reshape(1, 6, 1), jnp.ones((3, 1, 1)), padding="causal")[0, :, 0]
    Array([ 1.,  3.,  6.,  9., 12., 15.], dtype=float32)
    """
    options = (strides, padding, data_format, dilation_rate)
    return _conv("conv1d", 1, x, kernel, *options, precision, preferred_element_type)


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolve over an image: :func:`conv` in two dimensions.

    ``x`` is (\\*batch, rows, columns, channels), ``kernel`` (rows, columns, channels / groups, filters).

    >>> conv2d(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 5)), strides=2).shape
    (1, 3, 3, 5)
    """
    options = (strides, padding, data_format, dilation_rate)
    return _conv("conv2d", 2, x, kernel, *options, precision, preferred_element_type)


def conv3d(
    x: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Convolve over a volume: :func:`conv` in three dimensions.

    ``x`` is (\\*batch, depth, rows, columns, channels), ``kernel`` (depth, rows, columns, channels / groups, filters).

    >>> conv3d(jnp.ones((1, 4, 4, 4, 2)), jnp.ones((2, 2, 2, 2, 3)), padding="same").shape
    (1, 4, 4, 4, 3)
    """
    options = (strides, padding, data_format, dilation_rate)
    return _conv("conv3d", 3, x, kernel, *options, precision, preferred_element_type)


def _conv(
    where: str,
    rank: int | None,
    x: Any,
    kernel: Any,
    strides: Any,
    padding: Any,
    data_format: str | None,
    dilation_rate: Any,
    precision: Any,
    preferred_element_type: Any,
) -> Array:
    x, kernel = _same_type(where, jnp.asarray(x), jnp.asarray(kernel))
    if rank is None and not 1 <= kernel.ndim - 2 <= 3:
        raise ValueError(f"{where}: kernel of shape {kernel.shape} has no rank of 3, 4 or 5 (1, 2 or 3 spatial axes)")
    rank = kernel.ndim - 2 if rank is None else rank
    form = formats.canonical(data_format, where)
    if kernel.ndim != rank + 2:
        raise ValueError(f"{where}: kernel of shape {kernel.shape} has rank {kernel.ndim}; this needs rank {rank + 2}")
    if x.ndim < rank + 1:
        raise ValueError(f"{where}: input of shape {x.shape} has rank {x.ndim}; this needs at least {rank + 1}")
    batch = x.ndim - rank - 1
    if batch != 1:
        flat = x.reshape(math.prod(x.shape[:batch]), *x.shape[batch:])
        y = _conv(where, rank, flat, kernel, strides, padding, form, dilation_rate, precision, preferred_element_type)
        return y.reshape(*x.shape[:batch], *y.shape[1:])
    geometry = conv_geometry(where, x.shape, kernel.shape, strides, padding, form, dilation_rate)
    dtype = _result_type(where, kernel.dtype, preferred_element_type)
    return kernels.convolve(x, kernel, geometry, precision=precision, dtype=dtype)


def conv_geometry(
    where: str,
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    strides: Any,
    padding: Any,
    data_format: str,
    dilation_rate: Any,
) -> geo.Geometry:
    """Give the geometry of a convolution of arrays of these shapes, one batch axis. Raises as :func:`conv` does."""
    rank = len(kernel_shape) - 2
    steps = geo.as_sizes(strides, rank, "strides", where)
    rate = geo.as_sizes(dilation_rate, rank, "dilation_rate", where)
    pads = geo.as_padding(padding, rank, where, causal=rank == 1)
    *taps, width, filters = kernel_shape
    if 0 in kernel_shape:
        raise ValueError(f"{where}: kernel of shape {kernel_shape} is empty; every size must be at least 1")
    last = data_format == "channels_last"
    lengths = x_shape[1:-1] if last else x_shape[2:]
    groups = infer_groups(where, x_shape[-1 if last else 1], width, filters)
    geo.output_lengths(pads, lengths, taps, steps, rate, where)
    spatial = tuple(range(rank))
    dims = (0, rank + 1, *(axis + 1 for axis in spatial)) if last else (0, 1, *(axis + 2 for axis in spatial))
    zeros = geo.pads(pads, lengths, taps, steps, rate)
    ones = (1,) * rank
    w_dims = (rank + 1, rank, *spatial)
    return geo.Geometry(tuple(lengths), tuple(taps), steps, zeros, ones, rate, groups, dims, w_dims, dims)


def infer_groups(where: str, channels: int, width: int, filters: int) -> int:
    """Give the number of groups from the input's channels and the kernel's. Raises ValueError where they do not fit."""
    groups, rest = divmod(channels, width)
    if rest or groups == 0:
        raise ValueError(
            f"{where}: input has {channels} channels and the kernel takes {width}; "
            f"the input's must be a multiple of the kernel's (groups = input channels / kernel channels)"
        )
    if filters % groups:
        raise ValueError(
            f"{where}: {channels} input channels with {width} a group make {groups} groups, which do not divide "
            f"the kernel's {filters} filters; the filters must be a multiple of {groups}"
        )
    return groups


def _same_type(where: str, x: Array, kernel: Array) -> tuple[Array, Array]:
    """Cast the input to the kernel's type, as Keras does; an integer kernel goes to the input's type instead."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating) and not jnp.issubdtype(kernel.dtype, jnp.complexfloating):
        raise TypeError(
            f"{where}: input is complex ({x.dtype}) and the kernel is real ({kernel.dtype}); "
            "give a complex kernel, or real and imaginary parts as channels"
        )
    if not jnp.issubdtype(kernel.dtype, jnp.inexact):
        common = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else promote(x.dtype, kernel.dtype)
        common = jnp.dtype(jnp.int32) if common == jnp.bool_ else common
        return x.astype(common), kernel.astype(common)
    return x.astype(kernel.dtype), kernel


def _result_type(where: str, dtype: Any, preferred: Any) -> Any:
    """Give the type of the result. Raises for one that would cut off imaginary parts, fractions or bits in silence."""
    if preferred is None:
        return dtype
    wanted = jnp.dtype(preferred)
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(
            f"{where}: preferred_element_type={wanted.name} needs 64-bit types, which JAX has switched off; "
            "call jax.config.update('jax_enable_x64', True) first"
        )
    kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
    of, to = (next((kind for kind in kinds if jnp.issubdtype(d, kind)), None) for d in (dtype, wanted))
    if of is not to and (of, to) != (jnp.integer, jnp.floating):
        raise TypeError(
            f"{where}: preferred_element_type={wanted.name} cannot hold the result for a {dtype.name} kernel; "
            f"give a {of.__name__ if of else dtype.name} type"
        )
    return wanted
