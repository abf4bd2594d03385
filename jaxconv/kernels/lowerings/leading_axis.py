"""Lowering "leading_axis": C and K as C and K over all axes but the first, for each tap of the first axis.

    C: y[o] = sum_j C'(x[o * s + j * d - pad], w[j])        K: w[j] = K'(x[o * s + j * d - pad], y[o]), o in the batch

The positions of the first axis, its planes, are moved into the batch. XLA has fast code for one and two spatial axes,
not for three. The best form of C depends on whether channels or filters are few:

- few channels: the planes that the taps read become channels, and there is a single convolution without a sum;
- few filters: the taps become filters; every plane is convolved with all of them at once, and the results are shifted
  before they are added, so that the input is neither copied nor padded. With a stride s, a tap reads the planes with
  one remainder modulo s, and the taps with equal remainders are computed together. The products are then wide: this
  is fast up to a few hundred stacked filters, as long as the results of a convolution stay in the cache;
- neither: as for few filters, but with a convolution for each tap;
- many taps, or planes that few taps read: a loop over the taps, each with its own planes.

K of few channels also uses the planes that the taps read as channels; otherwise it is computed for each tap.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.parts import entry_at
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, stack_windows, total, window, window_at, window_starts
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array

# the most taps without a loop, the most channels and filters stacked with taps, and the most products relative to those
# that are needed
MAX_UNROLLED, MAX_CHANNELS, MAX_FILTERS, MAX_WASTE = 4, 112, 384, 1.5
# the most entries of the results of stacked filters; up to NARROW filters are always stacked
LARGEST, NARROW = 1 << 23, 64
# the most channels of K stacked with taps, for a few taps and for more, which would need a loop
MAX_OF_FEW, MAX_OF_MANY = 128, 256


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    return "it needs two spatial axes or more" if problem.rank < 2 else None


def filters_fit(x: Sequence[Any], stacked: int) -> bool:
    """Return whether this number of filters, stacked with taps, is fast for an input of this shape."""
    positions = math.prod(n for n in x[:-1] if isinstance(n, int))
    return stacked <= NARROW or (stacked <= MAX_FILTERS and positions * stacked <= LARGEST)


def channels_fit(taps: int, channels: int) -> bool:
    """Return whether K stacks the taps of the first axis with the channels."""
    return taps > 1 and taps * channels <= (MAX_OF_FEW if taps <= MAX_UNROLLED else MAX_OF_MANY)


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    p, first, inner = problem, problem.axes(slice(0, 1)), problem.axes(slice(1, None))
    taps, channels, filters = len(w), w.shape[-2], w.shape[-1]

    def planes(x: Array, w: Array) -> Array:
        """Convolve planes (batch, n, ...) with one tap; return (batch, n, positions of a plane, filters)."""
        y = solve("convolve", x.reshape(-1, *x.shape[2:]), w, inner, unfinished=True)
        return y.reshape(*x.shape[:2], math.prod(inner.y), w.shape[-1])

    # with groups, the taps would have to be stacked in each group; a single channel has its own lowering
    stack_channels = p.groups == 1 and 1 < channels < filters and taps * channels <= MAX_CHANNELS
    stack_filters = p.groups == 1 and filters <= channels and filters_fit(x.shape, taps * filters)
    if stack_channels:
        y = planes(stack_windows(pad(x, first.pads), first), _stack_taps(w, -3))
    elif (taps <= MAX_UNROLLED or stack_filters) and _most_planes_read(first):
        y = _shift(x, w, first, planes)
    else:
        y = _loop(x, w, first, arithmetic, planes)
    return y.reshape(x.shape[0], *p.y, filters)


def _reads(first: Problem) -> list[tuple[int, int]]:
    """Return (shift, remainder) of each tap: y[o] reads plane (o + shift) * stride + remainder."""
    return [divmod(j * first.dilation[0] - first.pads[0][0], first.strides[0]) for j in range(first.w[0])]


def _most_planes_read(first: Problem) -> bool:
    """Return whether each tap reads most of the planes that have its remainder."""
    computed = sum(len(range(remainder, first.x[0], first.strides[0])) for _, remainder in _reads(first))
    return 0 < computed <= MAX_WASTE * first.w[0] * first.y[0]


def _shift(x: Array, w: Array, first: Problem, planes: Any) -> Array:
    """Convolve all planes with every tap, then shift and add."""
    reads, stride, length, filters = _reads(first), first.strides[0], first.y[0], w.shape[-1]
    terms = []
    for remainder in sorted({remainder for _, remainder in reads if remainder < first.x[0]}):
        some = x if stride == 1 else lax.slice_in_dim(x, remainder, None, stride, axis=1)
        mine = [j for j, (_, other) in enumerate(reads) if other == remainder]
        if first.groups == 1 and filters_fit(some.shape, len(mine) * filters):
            step = mine[1] - mine[0] if len(mine) > 1 else 1  # the taps of one remainder are equally far apart
            stacked = _stack_taps(lax.slice_in_dim(w, mine[0], mine[-1] + 1, step), -2)
            parts = jnp.split(planes(some, stacked), len(mine), axis=-1)
        else:
            parts = [planes(some, w[j]) for j in mine]
        for j, part in zip(mine, parts, strict=True):
            shift = reads[j][0]
            terms.append(pad(part, [(-shift, length + shift - part.shape[1])]))
    return total(terms)


def _stack_taps(w: Array, axis: int) -> Array:
    """Stack the kernels of all taps of the first axis along the channels (-3) or the filters (-2).

    For a concatenation, XLA would compile a loop for each tap.
    """
    w = jnp.moveaxis(w, 0, axis)
    return w.reshape(*w.shape[:axis], -1, *w.shape[axis + 2 :] if axis < -2 else ())


def _loop(x: Array, w: Array, first: Problem, arithmetic: Arithmetic, planes: Any) -> Array:
    """Loop over the taps, each with the planes that it reads."""
    x, starts = pad(x, first.pads), window_starts(first)
    shape = jax.eval_shape(planes, window_at(x, starts[0], first), w[0]).shape
    zeros = varying_zeros(shape, arithmetic.accumulate_dtype, x, w)

    def add(j: Array, y: Array) -> Array:
        start, kernel = (entry_at(a, j) for a in (starts, w))
        return y + planes(window_at(x, start, first), kernel)

    return lax.fori_loop(0, len(w), add, zeros)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    first, inner = problem.axes(slice(0, 1)), problem.axes(slice(1, None))
    x, y = pad(x, first.pads), y.reshape(-1, *y.shape[2:])
    taps, channels = first.taps, x.shape[-1]
    if problem.groups == 1 and channels_fit(taps, channels):
        planes = stack_windows(x, first).reshape(-1, *x.shape[2:-1], taps * channels)
        w = solve("correlate", planes, y, inner, unfinished=True)
        return jnp.moveaxis(w.reshape(*inner.w, taps, channels, -1), -3, 0)

    def tap(planes: Array) -> Array:
        return solve("correlate", planes.reshape(-1, *planes.shape[2:]), y, inner, unfinished=True)

    if first.taps <= MAX_UNROLLED:
        return jnp.stack([tap(window(x, (j,), first)) for j in range(first.taps)])
    return lax.map(lambda start: tap(window_at(x, start, first)), window_starts(first))


LEADING_AXIS = Lowering("leading_axis", {"convolve": convolve, "correlate": correlate}, limits, sums=("convolve",))
