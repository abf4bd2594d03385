"""Lowering "outer": C as a sum over the taps of the first axis of convolutions over the other axes.

    y[o] = sum_j C'(x[o * s + j * d - pad], w[j])

The places of the first axis, its planes, go into the batch. XLA has fast code for one and two spatial axes, not for
three. Which way is best depends on what is narrow:

- few channels: the planes that meet the taps become channels, and there is one convolution and no sum;
- few filters: the taps become filters; every plane is convolved with all of them at once, and the results are moved
  before they are added, so that the input is neither copied nor padded. With a stride s, a tap reads the planes with
  one remainder modulo s, and the taps with one remainder go together;
- neither: the same, with a convolution for each tap;
- many taps, or planes that few taps read: a loop over the taps, each with its own planes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, side_by_side, starts, total, window_at

Array = jax.Array

# most taps that are not a loop; most channels or filters of all taps together; most needless products
MOST_UNROLLED, TOGETHER, WASTE = 4, 64, 1.5


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    return "it needs two spatial axes or more" if problem.rank < 2 else None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    p, first, inner = problem, problem.axes(slice(0, 1)), problem.axes(slice(1, None))
    taps, channels, filters = len(w), w.shape[-2], w.shape[-1]

    def planes(x: Array, w: Array) -> Array:
        """Convolve planes (batch, n, ...) with one tap: (batch, n, places of a plane, filters)."""
        y = solve("convolve", x.reshape(-1, *x.shape[2:]), w, inner, unfinished=True)
        return y.reshape(*x.shape[:2], math.prod(inner.y), w.shape[-1])

    one = p.groups == 1  # with more, the taps would have to stand inside each group
    if one and 1 < channels < filters and taps * channels <= TOGETHER:  # one channel alone has a lowering of its own
        y = planes(side_by_side(pad(x, first.pads), first), jnp.concatenate(list(w), axis=-2))
    elif (taps <= MOST_UNROLLED or (one and filters <= channels and taps * filters <= TOGETHER)) and _all_read(first):
        y = _moved(x, w, first, planes)
    else:
        y = _loop(x, w, first, how, planes)
    return y.reshape(x.shape[0], *p.y, filters)


def _reads(first: Problem) -> list[tuple[int, int]]:
    """Give (shift, remainder) of each tap: y[o] reads plane (o + shift) * stride + remainder."""
    return [divmod(j * first.dilation[0] - first.pads[0][0], first.strides[0]) for j in range(first.w[0])]


def _all_read(first: Problem) -> bool:
    """Say whether most of the planes that have a tap's remainder are read by that tap."""
    computed = sum(len(range(remainder, first.x[0], first.strides[0])) for _, remainder in _reads(first))
    return 0 < computed <= WASTE * first.w[0] * first.y[0]


def _moved(x: Array, w: Array, first: Problem, planes: Any) -> Array:
    """Convolve whole planes with every tap, then move and add."""
    reads, stride, length, filters = _reads(first), first.strides[0], first.y[0], w.shape[-1]
    terms = []
    for remainder in sorted({remainder for _, remainder in reads if remainder < first.x[0]}):
        some = x if stride == 1 else lax.slice_in_dim(x, remainder, None, stride, axis=1)
        mine = [j for j, (_, other) in enumerate(reads) if other == remainder]
        if first.groups == 1 and len(mine) * filters <= TOGETHER:
            parts = jnp.split(planes(some, jnp.concatenate([w[j] for j in mine], axis=-1)), len(mine), axis=-1)
        else:
            parts = [planes(some, w[j]) for j in mine]
        for j, part in zip(mine, parts, strict=True):
            shift = reads[j][0]
            terms.append(pad(part, [(-shift, length + shift - part.shape[1])]))
    return total(terms)


def _loop(x: Array, w: Array, first: Problem, how: Arithmetic, planes: Any) -> Array:
    """Convolve the planes that one tap reads, tap after tap."""
    x, places = pad(x, first.pads), starts(first)
    shape = jax.eval_shape(planes, window_at(x, places[0], first), w[0]).shape
    return lax.fori_loop(
        0, len(w), lambda j, y: y + planes(window_at(x, places[j], first), w[j]), jnp.zeros(shape, how.wide)
    )
