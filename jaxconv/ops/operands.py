"""Checks and conversions common to all convolution functions: dtypes, ranks, batch axes, groups, padding modes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxconv import geometry as geo
from jaxconv.dtypes import promote
from jaxconv.kernels.halo import PADDING_MODES
from jaxconv.registry import nearest
from jaxconv.windows import Window


def _as_array(where: str, what: str, value: Any) -> Array:
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: the {what} is of type {type(value).__name__}; give an array of numbers") from error


def same_type(where: str, x: Any, kernel: Any) -> tuple[Array, Array]:
    """Cast the input to the kernel's dtype, as Keras does; an integer kernel is cast to the input's dtype instead."""
    x, kernel = _as_array(where, "input", x), _as_array(where, "kernel", kernel)
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


def result_type(where: str, dtype: Any, preferred: Any) -> Any:
    """Return the dtype of the result.

    Raises TypeError for one that would drop imaginary parts or fractions, ValueError for 64 bits if JAX disables them.
    """
    if preferred is None:
        return dtype
    wanted = jnp.dtype(preferred)
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(
            f"{where}: preferred_element_type={wanted.name} needs 64-bit types, which are disabled in JAX; "
            "call jax.config.update('jax_enable_x64', True) first"
        )
    kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
    have, want = (next((kind for kind in kinds if jnp.issubdtype(d, kind)), None) for d in (dtype, wanted))
    if have is not want and (have, want) != (jnp.integer, jnp.floating):
        raise TypeError(
            f"{where}: preferred_element_type={wanted.name} cannot hold the result for a {dtype.name} kernel; "
            f"give a {have.__name__ if have else dtype.name} type"
        )
    return wanted


def spatial_rank(where: str, kernel: Any, rank: int | None) -> int:
    """Return the number of spatial axes of a kernel (\\*taps, channels, filters); it must be ``rank`` unless None."""
    shape = jnp.shape(kernel)
    if rank is None and not 1 <= len(shape) - 2 <= 3:
        raise ValueError(f"{where}: kernel of shape {shape} has rank {len(shape)}; this needs rank 3, 4 or 5")
    if rank is not None and len(shape) != rank + 2:
        raise ValueError(f"{where}: kernel of shape {shape} has rank {len(shape)}; this needs rank {rank + 2}")
    if 0 in shape:
        raise ValueError(f"{where}: kernel of shape {shape} is empty; every size must be at least 1")
    return len(shape) - 2


def over_batch(where: str, rank: int, x: Array, function: Callable[[Array], Array]) -> Array:
    """Apply a function of (batch, ...) arrays to an input with any number of batch axes, or none."""
    if x.ndim < rank + 1:
        raise ValueError(f"{where}: input of shape {x.shape} has rank {x.ndim}; this needs at least {rank + 1}")
    batch = x.ndim - rank - 1
    if batch == 1:
        return function(x)
    y = function(x.reshape(math.prod(x.shape[:batch]), *x.shape[batch:]))
    return y.reshape(*x.shape[:batch], *y.shape[1:])


def dimension_numbers(rank: int, data_format: str) -> tuple[int, ...]:
    """Return the axes (batch, channels, \\*spatial) of an input."""
    spatial = tuple(range(rank))
    if data_format == "channels_last":
        return (0, rank + 1, *(axis + 1 for axis in spatial))
    return (0, 1, *(axis + 2 for axis in spatial))


def other_format(shape: Sequence[int], rank: int, data_format: str, channels: int) -> str:
    """Return the end of a message about channels: the other data format, if the channels match in it, or ""."""
    other = "channels_first" if data_format == "channels_last" else "channels_last"
    fits = shape[-1 if other == "channels_last" else -1 - rank] == channels
    return f"; with data_format={other!r} it would have {channels}" if fits else ""


def infer_groups(where: str, channels: int, width: int, filters: int, hint: str = "") -> int:
    """Return the number of groups: input channels / kernel channels. Raises ValueError if they do not divide.

    hint: the end of the message.
    """
    groups, rest = divmod(channels, width)
    if rest or groups == 0:
        raise ValueError(
            f"{where}: input has {channels} channels and the kernel {width}; "
            f"the input's must be a multiple of the kernel's (groups = input channels / kernel channels){hint}"
        )
    if filters % groups:
        raise ValueError(
            f"{where}: {channels} input channels with {width} a group make {groups} groups, which do not divide "
            f"the kernel's {filters} filters; the filters must be a multiple of {groups}"
        )
    return groups


def as_padding_mode(mode: Any, where: str) -> str:
    """Return the canonical name of a padding mode. Raises ValueError for an unknown one."""
    if not isinstance(mode, str) or mode.lower() not in PADDING_MODES:
        raise ValueError(f"{where}: unknown padding_mode {mode!r}; {nearest(str(mode), PADDING_MODES)}")
    return mode.lower()


def as_output_padding(value: Any, strides: tuple[int, ...], where: str) -> tuple[int, ...] | None:
    """Return the canonical output padding: None, or one integer below the stride for each axis."""
    if value is None:
        return None
    sizes = geo.as_sizes(value, len(strides), "output_padding", where, 0)
    if any(m >= s for m, s in zip(sizes, strides, strict=True)):
        raise ValueError(
            f"{where}: output_padding={sizes} is not below strides={strides} on every axis; "
            f"the largest valid value is {tuple(s - 1 for s in strides)}"
        )
    return sizes


def lengths_out(windows: Sequence[Window], lengths: Sequence[int], where: str) -> tuple[int, ...]:
    """Return the output length of each spatial axis. Raises ValueError if an input is too short, or empty."""
    out = []
    for axis, (window, length) in enumerate(zip(windows, lengths, strict=True)):
        place = f"{where}: spatial axis {axis}" if len(windows) > 1 else where
        if isinstance(length, int) and length < 1:
            raise ValueError(f"{place}: input of length 0; the shortest valid input is 1")
        out.append(window.output_length(length, place))
    return tuple(out)


def conv_geometry(
    where: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Any, padding: Any, data_format: str,
    dilation_rate: Any,
) -> geo.Geometry:  # fmt: skip
    """Return the geometry of a convolution for these shapes, with one batch axis. Raises the errors of :func:`conv`."""
    *taps, width, filters = kernel_shape
    rank = len(taps)
    steps = geo.as_sizes(strides, rank, "strides", where)
    rate = geo.as_sizes(dilation_rate, rank, "dilation_rate", where)
    rule = geo.as_padding(padding, rank, where, causal=True)
    dims = dimension_numbers(rank, data_format)
    lengths = tuple(x_shape[axis] for axis in dims[2:])
    groups = infer_groups(where, x_shape[dims[1]], width, filters, other_format(x_shape, rank, data_format, width))
    each = zip(taps, steps, rate, geo.each_axis(rule, rank), strict=True)
    windows = [Window(*sizes) for sizes in each]
    lengths_out(windows, lengths, where)
    zeros = tuple(window.pads(length) for window, length in zip(windows, lengths, strict=True))
    w_dims = (rank + 1, rank, *range(rank))
    return geo.Geometry(lengths, tuple(taps), steps, zeros, (1,) * rank, rate, groups, dims, w_dims, dims)


def transposed_geometry(
    where: str, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Any, padding: Any,
    output_padding: Any, data_format: str, dilation_rate: Any, groups: Any,
) -> geo.Geometry:  # fmt: skip
    """Return the geometry of the convolution that is transposed: the input here is its output."""
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
            f"its last axis; they must be equal{other_format(x_shape, rank, data_format, channels)}"
        )
    if channels % groups:
        what = f"{channels} input channels are not a multiple of groups={groups}"
        raise ValueError(f"{where}: {what}; groups must divide the input channels and the filters")
    lengths = tuple(x_shape[axis] for axis in dims[2:])
    each = zip(taps, steps, rate, geo.each_axis(rule, rank), extra or (None,) * rank, strict=True)
    windows = [Window(k, s, d, one, "zeros", True, more) for k, s, d, one, more in each]
    out = lengths_out(windows, lengths, where)
    zeros = tuple(window.pads(length) for window, length in zip(windows, lengths, strict=True))
    w_dims = (rank + 1, rank, *range(rank))
    return geo.Geometry(out, tuple(taps), steps, zeros, (1,) * rank, rate, groups, dims, w_dims, dims)


def check_mode(where: str, mode: str, lengths: Any, zeros: geo.Pairs) -> None:
    """Raise ValueError if an input is too short for its reflection."""
    for length, pair in zip(lengths, zeros, strict=True):
        if mode == "reflect" and isinstance(length, int) and max(pair) >= length:
            raise ValueError(
                f"{where}: padding_mode 'reflect' by {max(pair)} needs a longer input than length {length}; "
                f"the shortest valid input is {max(pair) + 1}"
            )


def pad(where: str, x: Array, mode: str, zeros: geo.Pairs, axes: tuple[int, ...]) -> Array:
    """Pad the spatial axes with values of the input."""
    check_mode(where, mode, [x.shape[axis] for axis in axes], zeros)
    widths = [(0, 0)] * x.ndim
    for axis, pair in zip(axes, zeros, strict=True):
        widths[axis] = pair
    return jnp.pad(x, widths, mode=PADDING_MODES[mode])
