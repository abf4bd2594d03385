"""Sequence masks, True at each unmasked step: their conversion, and their effect on a layer, derived from its windows.

The sequence of a sample runs from its first to its last unmasked step. Masked steps between them form masked gaps.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.errors import caller_level, explain
from jaxconv.windows import Window

Axes = tuple[int, ...]


def layouts(rank: int, channels: int | None = None) -> list[Axes]:
    """Return the axes of an input that a mask may lie along: all but ``channels``; None means both data formats.

    >>> layouts(3), layouts(3, 1)
    ([(0, 1), (0, 2)], [(0, 2)])
    """
    candidates = [rank - 1] + [1] * (rank > 2) if channels is None else [channels]
    return [tuple(axis for axis in range(rank) if axis != one) for one in candidates]


def fitting_axes(mask: tuple, shape: tuple, ways: Sequence[Axes], broadcast: bool = False) -> Axes | None:
    """Return the input axes that the axes of a mask lie along, by the first layout that fits, or None if none does."""
    for axes in ways:
        sizes = zip(mask, axes, strict=False)
        if 0 < len(mask) <= len(axes) and all(n == shape[a] or (broadcast and n == 1) for n, a in sizes):
            return axes[: len(mask)]
    return None


def mask_axes(mask: tuple, shape: tuple, ways: Sequence[Axes]) -> Axes:
    """Return the input axes of a mask that ``as_mask`` has accepted; all axes if no layout fits."""
    axes = fitting_axes(mask, shape, ways) or fitting_axes(mask, shape, ways, broadcast=True)
    return tuple(range(len(shape))) if axes is None else axes


def as_mask(
    mask: Any, shape: tuple, ways: Sequence[Axes], where: str, *, least: int = 1, broadcast: bool = False
) -> Array:
    """Convert a mask for an input of ``shape`` to booleans; numbers other than 0 count as True.

    It must have at least ``least`` axes; see :func:`fitting_axes`. Raises TypeError unless the mask contains booleans
    or real numbers, ValueError for a shape that does not fit the input; the message names shapes that do.
    """
    with explain(f"{where}: the mask is not an array of booleans"):
        mask = jnp.asarray(mask)
        if jnp.issubdtype(mask.dtype, jnp.complexfloating):
            raise TypeError(f"its type is {mask.dtype}")
    if mask.ndim < least or fitting_axes(mask.shape, shape, ways, broadcast) is None:
        allowed = sorted({tuple(shape[a] for a in axes[: max(mask.ndim, least)]) for axes in ways}, key=repr)
        what = f"{where}: mask of shape {mask.shape} does not fit input of shape {shape}"
        raise ValueError(f"{what}; valid shapes: {' or '.join(map(str, allowed))}, True at each unmasked step")
    return mask.astype(bool)


def broadcast_mask(mask: Array, shape: tuple, ways: Sequence[Axes]) -> Array:
    """Reshape a mask to the rank of an input of ``shape``: its axes where they belong, size 1 elsewhere."""
    axes = mask_axes(mask.shape, shape, ways)
    return lax.broadcast_in_dim(mask, [mask.shape[axes.index(a)] if a in axes else 1 for a in range(len(shape))], axes)


def fill_masked(x: Array, mask: Array, value: float = 0) -> Array:
    """Replace the masked steps of an input by a value; the mask broadcasts against the input.

    Replaced values get no gradient, so a NaN in a masked step reaches neither values nor gradients.
    """
    return jnp.where(mask, x, jnp.asarray(value, x.dtype))


def warn_mask_ends(where: str) -> None:
    """Warn that a layer cannot pass a mask on, and return None, the mask of its output."""
    reason = "this layer cannot tell which steps of its output are masked, and later layers get no mask"
    warnings.warn(f"{where}: the mask ends here: {reason}", stacklevel=caller_level())


# -- the sequences in a batch


class ValidRange(NamedTuple):
    """The position of each sample's sequence. start: its first step. length: its number of steps, possibly 0."""

    start: Array
    length: Array


def valid_range(mask: Array) -> ValidRange:
    """Return the position of each sample's sequence, for a mask (batch, time).

    >>> valid_range(jnp.array([[False, True, False, True, False], [False] * 5]))
    ValidRange(start=Array([1, 0], dtype=int32), length=Array([3, 0], dtype=int32))
    """
    start, behind = (jnp.argmax(m, axis=1).astype(jnp.int32) for m in (mask, mask[:, ::-1]))
    length = jnp.asarray(mask.shape[1], jnp.int32) - start - behind
    return ValidRange(start, jnp.where(mask.any(1), length, 0))


def range_mask(first: Array, count: Array, length: Any) -> Array:
    """Return the mask (batch, length) that is True at ``count`` steps, starting at ``first``."""
    step = jnp.arange(length, dtype=jnp.int32)[None]
    return (step >= first[:, None]) & (step < (first + count)[:, None])


# -- windows over the sequences


def _pads_of(window: Window, length: Array) -> tuple[Array, Array]:
    """Return ``window.pads`` for sequences of these lengths, which are traced."""
    if window.padding != "same":
        before, after = window.pads()
        return jnp.full_like(length, before), jnp.full_like(length, after)
    total = jnp.maximum(window.extent - window.stride + -length % window.stride, 0)
    return total // 2, total - total // 2


def _output_count(window: Window, length: Array) -> Array:
    """Return the number of outputs for sequences of these lengths, 0 for one that is too short for the window."""
    if window.transposed:
        count = (length - 1) * window.stride + window.tail
        return jnp.where(length > 0, jnp.maximum(count, 0), 0)
    before, after = _pads_of(window, length)
    count = (length + before + after - window.extent) // window.stride + 1
    least = jnp.maximum(before, after) if window.mode == "reflect" else jnp.zeros_like(length)
    return jnp.where(length > least, jnp.maximum(count, 0), 0)


def _sources(window: Window, mask: Array) -> tuple[Array, Array]:
    """Return the input step that each step of the padded input contains, and whether the sequence includes it."""
    start, length = (value[:, None] for value in valid_range(mask))
    steps = mask.shape[1] + sum(window.pads(mask.shape[1]))
    own = jnp.arange(steps, dtype=jnp.int32)[None] + start % window.stride - _pads_of(window, length)[0] - start
    most = jnp.maximum(length, 1)
    if window.mode == "circular":
        own = own % most
    elif window.mode == "replicate":
        own = jnp.clip(own, 0, most - 1)
    elif window.mode == "reflect":
        period = jnp.maximum(2 * (most - 1), 1)
        own = jnp.minimum(own % period, -own % period)
    return jnp.clip(start + own, 0, mask.shape[1] - 1), (own >= 0) & (own < length)


def align(x: Array, mask: Array, axis: int, window: Window, value: float = 0) -> tuple[Array, Array]:
    """Align each sequence with its own padding, as if it were not batched.

    A "valid" window over the result yields the outputs of the unbatched sequence, starting at step ``start // stride``.
    The mask is (batch, time). Returns the padded input, which contains ``value`` at masked steps, and its mask.
    """
    index, inside = _sources(window, mask)
    real = inside & jnp.take_along_axis(mask, index, 1, mode="clip")
    others = [a for a in range(1, x.ndim) if a != axis]
    x = jnp.take_along_axis(x, jnp.expand_dims(index, others), axis, mode="clip")
    return fill_masked(x, jnp.expand_dims(real, others), value), real


def windowed_mask(mask: Array, window: Window) -> Array:
    """Return the mask (batch, outputs) of a window's outputs: those of each sequence that see more than a gap."""
    start, length = valid_range(mask)
    if window.transposed:
        inside = range_mask(start, length, mask.shape[1])
        kind = jnp.where(inside, 1 + mask.astype(jnp.int32), 0)  # 1: in a masked gap, 2: an unmasked step
        before, after = window.pads(mask.shape[1])
        pads = (window.extent - 1 - before, window.extent - 1 - after, window.stride - 1)
        kind, stride, first = lax.pad(kind, np.int32(0), ((0, 0, 0), pads)), 1, start * window.stride
    else:
        index, inside = _sources(window, mask)
        real = jnp.take_along_axis(mask, index, 1, mode="clip").astype(jnp.int32)
        kind, stride, first = jnp.where(inside, 1 + real, 0), window.stride, start // window.stride
    sizes, strides, rates = (1, window.size), (1, stride), (1, window.dilation)
    sees = lax.reduce_window(kind, np.int32(0), lax.max, sizes, strides, "VALID", window_dilation=rates)
    return range_mask(first, _output_count(window, length), sees.shape[1]) & (sees != 1)


# -- masks of a layer, derived from its windows


def reader(windows: Sequence[Window], axis: int) -> tuple[int, Window] | None:
    """Return the output axis that reads an input axis, and its window, or None if the axis is reduced.

    Axes are counted with the batch.
    """
    for position, window in enumerate(windows):
        if axis == 1 + (position if window.axis is None else window.axis):
            return position + 1, window
    return None


def prepare(layer: Any, x: Any, mask: Any, is_derived: bool) -> tuple[Any, Any, Any]:
    """Return (layer, input, mask) such that ``layer.call`` computes each sequence as if it were not batched.

    Masked steps are replaced by ``layer.masked_value``, which contributes nothing. If the outputs of a sequence depend
    on its position, its steps are first aligned with their own padding; the returned layer does not pad, so other axes
    are padded here as well. The returned mask broadcasts against the returned input. With several inputs it is the list
    of masks, with None for an input without a mask.

    is_derived: whether the mask of the output follows from the windows. If the layer computes its own mask, its input
    is not aligned. Raises TypeError if the padding of the layer cannot be removed.
    """

    def fill(x: Array, mask: Array) -> Array:
        return fill_masked(x, broadcast_mask(mask, x.shape, layer.mask_layouts(x.ndim)), layer.masked_value)

    if isinstance(x, list):
        return layer, [v if m is None else fill(v, m) for v, m in zip(x, mask, strict=True)], mask
    ways = layer.mask_layouts(x.ndim)
    axes = mask_axes(mask.shape, x.shape, ways)
    windows = layer.windows(x.shape)
    found = None if len(axes) != 2 else reader(windows, axes[1])
    has_option = hasattr(layer, "padding")
    if found is None or found[1].reads_all or found[1].is_shift_equivariant or not (has_option or is_derived):
        return layer, fill(x, mask), broadcast_mask(mask, x.shape, ways)
    if not has_option and found[1].padding not in ("valid", (0, 0)):
        what = f"{layer.label}: a mask needs the layer without its padding along axis {axes[1]}"
        raise TypeError(f"{what}; give the class a field padding that can be 'valid', or override output_mask")
    x, mask = align(x, mask, axes[1], found[1], layer.masked_value)
    real = broadcast_mask(mask, x.shape, [axes])
    if not has_option:
        return layer, x, real
    for axis, window in enumerate(windows, 1):
        if axis != axes[1] and not window.reads_all and window.pads(x.shape[axis]) != (0, 0):
            x, inside = align(x, jnp.ones((x.shape[0], x.shape[axis]), bool), axis, window, layer.masked_value)
            real = real & jnp.expand_dims(inside, [a for a in range(1, x.ndim) if a != axis])
    bare = {"padding": "valid"} | ({"padding_mode": "zeros"} if hasattr(layer, "padding_mode") else {})
    return dataclasses.replace(layer, **bare), x, real


def derived_mask(layer: Any, shape: tuple, mask: Array) -> Any:
    """Return the mask of a layer's output, derived from its windows: the input's, or that of a window along one axis.

    Warns and returns None if no axis of the output corresponds to the steps of the input.
    """
    axes = mask_axes(mask.shape, shape, layer.mask_layouts(len(shape)))
    readers = [(axis, reader(layer.windows(shape), axis)) for axis in axes[1:]]
    if any(found is None or found[0] != axis for axis, found in readers):
        return warn_mask_ends(layer.label)
    windows = [found[1] for _, found in readers if found is not None]
    if all(window.aligned for window in windows):
        return mask
    if len(windows) != 1 or windows[0].reads_all:
        return warn_mask_ends(layer.label)
    return windowed_mask(mask, windows[0])
