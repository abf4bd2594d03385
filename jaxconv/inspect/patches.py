"""The values of a model for many changes of its input, each computed from the unchanged values and the difference.

A value is the unchanged array, with a batch of one, and for each change a patch that replaces a part of it. A layer is
applied to the patch and to the neighbouring values that its windows read; a convolution, only to the difference of the
patch. If the declared windows do not limit the effect of a change, the patch is the whole array.
"""

import dataclasses
import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.activations import linear
from jaxconv.contract import Window
from jaxconv.contract.masks import reader
from jaxconv.contract.spatial import without_padding
from jaxconv.dtypes import promote
from jaxconv.inspect.calls import LeafCall, is_convolution
from jaxconv.inspect.reach import Span, follow, union

Spans = dict[int, Span]  # by axis, counted with the batch; the other axes change entirely
STORED = 16  # the number of multiply-adds in the time that it takes to store a product and to add it


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A value for several changes.

    base: (1, ...), the unchanged array. patch: (changes, ...), or None if no change affects this value.
    """

    base: Array
    patch: Array | None = None
    spans: Spans = dataclasses.field(default_factory=dict)

    def read(self, spans: Spans, index: Array, fill: float = 0) -> Array:
        """Return the changed values in these spans, which contain the patch on each of its axes: (changes, ...).

        Args:
            spans: the parts to read; other axes are read entirely. Steps outside the array are ``fill``.
            index: (changes,), the numbers of the changes, by which the spans are indexed.
        """
        base, patch = self.base, self.patch
        own = {axis: span for axis, span in self.spans.items() if patch is not None}
        pads, starts, offsets, cuts = [(0, 0, 0)] * base.ndim, {}, {}, [slice(None)] * base.ndim
        sizes = list(base.shape[1:])
        for axis in sorted({*spans, *own}):
            length = base.shape[axis]
            span = spans.get(axis, Span(np.zeros_like(next(iter({**own, **spans}.values())).starts), length))
            first, last = span.starts, span.starts + span.width
            before = after = 0
            if axis in own:
                offset = own[axis].starts - span.starts
                before = max(0, -int(offset.min()))
                after = max(0, int((offset + own[axis].width).max()) - span.width)
                offsets[axis] = offset + before
                cuts[axis] = slice(before, before + span.width)
            pads[axis] = (max(0, before - int(first.min())), max(0, int(last.max()) + after - length), 0)
            starts[axis] = first - before + pads[axis][0]
            sizes[axis - 1] = span.width + before + after
        padded = lax.pad(base, jnp.asarray(fill, base.dtype), pads)
        if not starts:
            return jnp.broadcast_to(base, (len(index), *base.shape[1:])) if patch is None else patch
        out = _slices(padded[0], starts, sizes, index)
        if patch is not None:
            out = _insert(out, patch, offsets, index)
        return out[tuple(cuts)]


def _at(table: np.ndarray, index: Array) -> Any:
    """Return the entries of a table of static integers, or one number if all are equal."""
    return int(table[0]) if (table == table[0]).all() else jnp.asarray(table, jnp.int32)[index]


def _slices(x: Array, starts: dict[int, np.ndarray], sizes: list[int], index: Array) -> Array:
    """Return a slice of an array without batch for each change."""
    found = {axis - 1: _at(start, index) for axis, start in starts.items()}
    fixed = [found.get(axis, 0) if isinstance(found.get(axis, 0), int) else 0 for axis in range(x.ndim)]
    moving = [axis for axis, start in found.items() if not isinstance(start, int)]
    limits = [n if axis in moving else fixed[axis] + sizes[axis] for axis, n in enumerate(x.shape)]
    x = lax.slice(x, fixed, limits)
    if not moving:
        return jnp.broadcast_to(x[None], (len(index), *x.shape))

    def one(begin: list[Array]) -> Array:
        where = [begin[moving.index(axis)] if axis in moving else jnp.int32(0) for axis in range(x.ndim)]
        return lax.dynamic_slice(x, where, sizes)

    return jax.vmap(one)([found[axis] for axis in moving])


def _insert(x: Array, patch: Array, offsets: dict[int, np.ndarray], index: Array) -> Array:
    """Replace the part of each slice that starts at these offsets."""
    if patch.shape == x.shape:
        return patch
    found = [_at(offsets[axis], index) if axis in offsets else 0 for axis in range(1, x.ndim)]
    if all(isinstance(offset, int) for offset in found):
        return lax.dynamic_update_slice(x, patch, [0, *found])
    where = [jnp.broadcast_to(jnp.asarray(offset, jnp.int32), index.shape) for offset in found]
    return jax.vmap(lambda x, patch, where: lax.dynamic_update_slice(x, patch, where))(x, patch, where)


def compute(call: LeafCall, params: Any, inputs: list[Value], bases: list[Array], index: Array) -> list[Value]:
    """Return the outputs of a call from its inputs and its unchanged outputs."""
    if all(value.patch is None for value in inputs):
        return [Value(base) for base in bases]
    if len(bases) == 1:
        for way in (_pooled, _added, _patched):
            found = way(call, params, inputs, bases[0], index)
            if found is not None:
                return [found]
    patches, _ = call.infer(call.layer, params, [value.read({}, index) for value in inputs])
    return [Value(base, patch) for base, patch in zip(bases, patches, strict=True)]


def _shared_spans(inputs: list[Value]) -> Spans:
    """Return, for each axis of which all changed inputs change a part, the union of these parts."""
    changed = [value for value in inputs if value.patch is not None]
    axes = set.intersection(*(set(value.spans) for value in changed))
    return {axis: union([v.spans[axis] for v in changed], changed[0].base.shape[axis]) for axis in axes}


def _patched(call: LeafCall, params: Any, inputs: list[Value], base: Array, index: Array) -> Value | None:
    """Return the output if the windows limit the effect of a change along at least one axis, otherwise None."""
    shapes = [value.base.shape for value in inputs]
    windows = call.layer.windows(call.structure.unflatten(shapes))
    reads: Spans = {}
    moved: dict[int, tuple[Span, np.ndarray | None]] = {}
    windowed: dict[int, Window] = {}
    for axis, span in _shared_spans(inputs).items():
        found = reader(windows, axis)
        if found is None or found[1].reads_all or (len(inputs) > 1 and found[0] != axis):
            continue
        out, window = found
        if window.pointwise:
            reads[axis], moved[out] = span, (span, None)
        elif len(inputs) == 1 and out == axis and (window.mode == "zeros" or window.pads(shapes[0][axis]) == (0, 0)):
            reading = follow(window, span, shapes[0][axis])
            reads[axis], windowed[axis] = reading.reads, window
            moved[out] = reading.span, reading.cut if window.transposed else None
    if not moved:
        return None
    computed = _compute_spans(call, params, inputs, reads, windowed, index)
    return None if computed is None else _cut(computed, base, moved, index)


def _compute_spans(
    call: LeafCall, params: Any, inputs: list[Value], reads: Spans, windowed: dict[int, Window], index: Array
) -> Array | None:
    """Return the outputs of a layer without padding for the parts that its windows read, or None if it rejects them."""
    shapes = [value.base.shape for value in inputs]
    bare, pads = _without_padding(call.layer, windowed, shapes[0])
    if bare is None:
        return None
    pools, fill = hasattr(bare, "pool_size"), 0.0
    if windowed and pools:
        fill = bare.masked_value
        if not jnp.issubdtype(inputs[0].base.dtype, jnp.floating):
            return None
    given = [value.read(reads, index, fill) for value in inputs]
    if any(map(any, pads.values())):
        edges = [(*pads.get(axis, (0, 0)), 0) for axis in range(given[0].ndim)]
        given = [lax.pad(given[0], jnp.asarray(fill, given[0].dtype), edges)]
    if not _fits(call, bare, shapes, [x.shape for x in given]):
        return None
    spans = [(reads[axis], shapes[0][axis]) for axis in windowed]
    outside = any(int(r.starts.min()) < 0 or int(r.starts.max()) + r.width > length for r, length in spans)
    if pools and fill == 0 and (outside or any(map(any, pads.values()))):  # a mean, in which padding does not count
        real = _real(reads, pads, shapes[0], given[0].shape, index)
        return bare.call(params, bare._input(given[0]), train=False, key=None, mask=real)[0]
    return call.infer(bare, params, given)[0][0]


def _without_padding(layer: Any, windowed: dict[int, Window], shape: tuple) -> tuple[Any, dict[int, tuple[int, int]]]:
    """Return the layer without padding along these axes, or None if there is none, and the padding along the others."""
    if not windowed:
        return layer, {}
    if hasattr(layer, "pool_size"):  # one rule for all axes
        each = [(axis, window) for axis, window in enumerate(layer.windows(shape), 1) if not window.pointwise]
        pads = {axis: window.pads(shape[axis]) for axis, window in each if axis not in windowed}
        return dataclasses.replace(layer, padding="valid"), pads
    if not hasattr(layer, getattr(layer, "edges", "padding")):
        padded = any(window.pads(shape[axis]) != (0, 0) for axis, window in windowed.items())
        return (None if padded else layer), {}
    return without_padding(layer, windowed), {}


def _fits(call: LeafCall, bare: Any, shapes: list[tuple], given: list[tuple]) -> bool:
    """Return whether a layer takes a part of its input with the same weights, which then do not depend on position."""

    def weights(layer: Any, shapes: list[tuple]) -> Any:
        shapes = call.structure.unflatten([(None, *shape[1:]) for shape in shapes])
        layer.output_shape(shapes)
        found = jax.eval_shape(lambda key: layer.init_params(key, layer.read_shape(shapes)), jax.random.key(0))
        return jax.tree.map(jnp.shape, found)

    try:
        return weights(call.layer, shapes) == weights(bare, given)
    except ValueError:
        return False


def _real(reads: Spans, pads: dict[int, tuple[int, int]], shape: tuple, given: tuple, index: Array) -> Array:
    """Return a mask of the steps read that are not padding, in the shape ``given``."""
    real = jnp.ones(given, bool)
    for axis in range(1, len(given)):
        start = jnp.asarray(reads[axis].starts, jnp.int32)[index] if axis in reads else jnp.zeros_like(index)
        start = lax.broadcast_in_dim(start - pads.get(axis, (0, 0))[0], given, (0,))
        steps = start + lax.broadcasted_iota(jnp.int32, given, axis)
        real &= (steps >= 0) & (steps < shape[axis])
    return real


def _cut(y: Array, base: Array, moved: dict[int, tuple], index: Array) -> Value | None:
    """Cut the computed outputs to their spans; return None if they do not cover them."""
    starts = {axis: cut for axis, (_, cut) in moved.items() if cut is not None}
    sizes = [moved[axis][0].width if axis in moved else n for axis, n in enumerate(base.shape)]
    for axis, size in enumerate(sizes[1:], 1):
        least = size + int(starts[axis].max()) if axis in starts else size
        if y.shape[axis] < least or (axis not in starts and y.shape[axis] != size):
            return None
    if starts:
        found = [_at(starts[axis], index) if axis in starts else 0 for axis in range(1, y.ndim)]
        where = [jnp.broadcast_to(jnp.asarray(start, jnp.int32), index.shape) for start in found]
        y = jax.vmap(lambda y, where: lax.dynamic_slice(y, where, sizes[1:]))(y, where)
    return Value(base, y, {axis: span for axis, (span, _) in moved.items() if not span.covers(base.shape[axis])})


def _added(call: LeafCall, params: Any, inputs: list[Value], base: Array, index: Array) -> Value | None:
    """Return the output of a convolution: the unchanged one plus the convolution of the difference of its input.

    If ``n`` steps change, ``n + extent - 1`` outputs change. Each of these reads all taps, most of them over unchanged
    steps; here each of the ``n`` steps is multiplied by all taps once. None for other layers, or if this is not less
    work.
    """
    layer, value = call.layer, inputs[0]
    if not is_convolution(layer) or layer.activation is not linear or base.dtype not in (np.float32, np.float64):
        return None
    shape, channel = value.base.shape, 1 if layer.data_format == "channels_first" else -1
    kernel = params["kernel"].astype(base.dtype)
    axes = [axis for axis in range(1, base.ndim) if axis != channel % base.ndim]
    windows = {axis: layer.windows(shape)[axis - 1] for axis in axes}
    if layer.groups > 1 or any(w.stride > 1 or w.mode != "zeros" for w in windows.values()):
        return None
    own = {axis: value.spans.get(axis, Span(np.zeros(1, int), shape[axis])) for axis in axes}
    outs = {axis: follow(window, own[axis], shape[axis]).span for axis, window in windows.items()}
    steps, outputs = (math.prod(span.width for span in spans.values()) for spans in (own, outs))
    if steps * (shape[channel] + STORED) > outputs * shape[channel]:
        return None
    read = {axis: span for axis, span in own.items() if axis in value.spans}
    change = value.read(read, index).astype(base.dtype) - Value(value.base.astype(base.dtype)).read(read, index)
    products = jnp.tensordot(jnp.moveaxis(change, channel, -1), jnp.flip(kernel, range(layer.rank)), [[-1], [-2]])
    terms = []
    for tap in np.ndindex(*layer.kernel_size):
        shifts = [t * rate for t, rate in zip(tap, layer.dilation_rate, strict=True)]
        edges = [(n, w.extent - 1 - n, 0) for n, w in zip(shifts, windows.values(), strict=True)]
        term = products[(slice(None),) * (1 + layer.rank) + tap]
        terms.append(lax.pad(term, jnp.zeros((), term.dtype), [(0, 0, 0), *edges, (0, 0, 0)]))
    y = jnp.moveaxis(functools.reduce(operator.add, terms), -1, channel)
    edges, moved = [(0, 0, 0)] * y.ndim, {}
    for axis, window in windows.items():  # the first of these outputs may lie before the first output of the layer
        cut = outs[axis].starts - (own[axis].starts + window.pads(shape[axis])[0] - window.extent + 1)
        edges[axis] = (max(0, -int(cut.min())), max(0, int(cut.max()) + outs[axis].width - y.shape[axis]), 0)
        moved[axis] = (outs[axis], cut + edges[axis][0])
    found = _cut(lax.pad(y, jnp.zeros((), y.dtype), edges), base, moved, index)
    if found is None or found.patch is None:
        return None
    return dataclasses.replace(found, patch=found.patch + Value(base).read(found.spans, index))


def _pooled(call: LeafCall, params: Any, inputs: list[Value], base: Array, index: Array) -> Value | None:
    """Return the output of global pooling from the parts before, in and after the patch, or None for other layers."""
    layer, value = call.layer, inputs[0]
    axes = [axis for axis in getattr(layer, "axes", ()) if axis in value.spans] if hasattr(layer, "keepdims") else []
    if not axes:
        return None
    axis, x = axes[0], value.base
    span, length = value.spans[axis], x.shape[axis]
    wide, maximum = promote(x.dtype, np.float32), layer.masked_value != 0
    patch = value.read({axis: span}, index).astype(wide)
    patch = patch.max(layer.axes, keepdims=True) if maximum else patch.sum(layer.axes, keepdims=True)
    others = tuple(other for other in layer.axes if other != axis)
    x = x.astype(wide)
    x = x.max(others, keepdims=True) if maximum else x.sum(others, keepdims=True)
    accumulate, combine = (lax.cummax, jnp.maximum) if maximum else (lax.cumsum, jnp.add)
    sizes, neutral = [1 if a == axis else n for a, n in enumerate(x.shape)][1:], jnp.asarray(layer.masked_value, wide)
    y = patch
    for reverse, starts in ((False, span.starts), (True, span.starts + span.width)):
        edge = [(int(not reverse), int(reverse), 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
        sums = lax.pad(accumulate(x, axis, reverse=reverse), neutral, edge)
        y = combine(y, _slices(sums[0], {axis: starts}, sizes, index))
    if not maximum:
        y = y / jnp.asarray(length * math.prod(value.base.shape[other] for other in others), wide)
    return Value(base, (y if layer.keepdims else y.squeeze(tuple(layer.axes))).astype(base.dtype))
