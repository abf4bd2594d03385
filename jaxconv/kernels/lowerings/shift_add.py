"""Lowering "shift_add": depthwise convolutions as sums over taps of shifted inputs, each times one weight per channel.

    C: y = sum_j window_j(x) w[j]      T: x = sum_j scatter_j(y w[j])      K: w[j] = sum over positions of window_j(x) y

There is nothing to contract, so a matrix product would be mostly zeros; the sum of all taps is one fused loop over
memory. K needs as many sums as there are taps. Up to nine of them are one reduction of several operands, in two stages:
over short runs, for which the compiler vectorizes along the channels, then over the rest. A large batch is computed
part by part, so that the sums of its runs stay in the cache.
C and K of a long kernel loop over boxes of taps, each of which is such a sum.

An output is computed only from the entries in its own window: a NaN or a large value reaches the same outputs as in the
direct sum, and ``|error| <= taps * eps * sum_j |window_j(x) w[j]|`` for each of them.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.geometry import dilate
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.parts import divisor, entry_at, part_at
from jaxconv.kernels.problem import Problem, Shapes, Sizes, exact
from jaxconv.kernels.taps import pad, scatter, tap_indices, total, window, window_at
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array

MAX_TAPS = 64  # of C and T in one step; more are slow to compile and to run
BOX = 32  # taps in one step of a loop over a longer kernel, and of K in one step
TOGETHER = 9  # the most arrays that K sums in one pass
# the most products that K adds in one step, for all taps and positions of a run: with more, the compiler does not
# vectorize the sum (14x14x512, 3x3 taps: 0.9 ms with runs of 7 positions, 4.7 with 14); the longest run
UNROLLED, LONGEST_RUN = 72, 16
PART = 1 << 20  # entries of x in one step of K: its padded copy and the sums of the runs stay in the cache
FEW_TAPS = 9  # of kernels with several axes: up to so many, one step computes several parts


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    channels = shapes["w"][-2]
    if channels > 1:
        return f"it computes groups of one channel, not {channels}"
    if name == "transpose" and problem.taps > MAX_TAPS:
        return f"it takes kernels of up to {MAX_TAPS} taps, not {problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    x = _materialize(pad(x, problem.pads))
    if problem.taps <= MAX_TAPS:
        return _convolve_box(x, w, problem, arithmetic)

    def add_box(y: Array, x: Array, start: Array, box: Problem) -> Array:
        part = lax.dynamic_slice(w, tuple(start), (*box.w, *w.shape[-2:]), allow_negative_indices=False)
        return y + _convolve_box(x, part, box, arithmetic)

    y = varying_zeros((x.shape[0], *problem.y, w.shape[-1]), arithmetic.accumulate_dtype, x, w)
    return _for_each_box(add_box, y, x, problem)


def _convolve_box(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute ``C(x, w)`` of a padded input, in one step."""
    filters = w.shape[-1] // problem.groups
    terms = []
    for tap, weights in _weights(w, problem, arithmetic):
        shown = arithmetic.upcast(window(x, tap, problem))
        if filters > 1:
            shown, weights = shown[..., None], weights.reshape(problem.groups, filters)
        terms.append(shown * _broadcast(weights, shown.ndim))
    return total(terms).reshape(*terms[0].shape[: x.ndim - 1], w.shape[-1])


def _for_each_box(step: Callable[..., Array], carry: Array, x: Array, problem: Problem) -> Array:
    """Loop over the boxes of taps: ``carry = step(carry, inputs of the box, its start in w, its problem)``.

    A box has at most BOX taps. Those at the end of an axis may be shorter: they are not extended with zeros, which
    would turn an infinite entry into NaN.
    """
    room, axes = BOX, list[list[tuple[int, Sequence[int]]]]()
    for k in reversed(problem.w):
        size = -(-k // -(-k // room))
        room //= size
        rest = [(k % size, range(k - k % size, k, size))] if k % size else []
        axes.insert(0, [(size, range(0, k - size + 1, size)), *rest])
    for parts in itertools.product(*axes):
        box = tuple(size for size, _ in parts)
        firsts = np.array(list(itertools.product(*(first for _, first in parts))), np.int32)
        carry = _loop_over_equal_boxes(step, carry, x, problem, box, firsts)
    return carry


def _loop_over_equal_boxes(
    step: Callable[..., Array], carry: Array, x: Array, problem: Problem, box: Sizes, firsts: np.ndarray
) -> Array:
    p, in_kernel = problem, jnp.asarray(np.pad(firsts, ((0, 0), (0, 2))))  # and all channels and filters
    starts = jnp.asarray(firsts * np.array(p.dilation, np.int32))
    reach = tuple(dilate(o, s) + dilate(k, d) - 1 for o, s, k, d in zip(p.y, p.strides, box, p.dilation, strict=True))
    part = exact(reach, box, p.y, p.strides, p.dilation, (0,) * p.rank, p.groups)
    whole = replace(part, y=reach, strides=(1,) * p.rank)

    def body(i: Array, carry: Array) -> Array:
        shown = _materialize(window_at(x, entry_at(starts, i), whole))
        return step(carry, shown, entry_at(in_kernel, i), part)

    return lax.fori_loop(0, len(firsts), body, carry)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    filters = w.shape[-1] // problem.groups
    if filters > 1:
        y = y.reshape(*y.shape[:-1], problem.groups, filters)
    terms = []
    for tap, weights in _weights(w, problem, arithmetic):
        if filters == 1:
            term = arithmetic.upcast(y) * _broadcast(weights, y.ndim)
        else:
            weights = _broadcast(weights.reshape(problem.groups, filters), y.ndim)
            term = jnp.sum(arithmetic.upcast(y) * weights, axis=-1)
        terms.append(scatter(term, tap, problem))
    return total(terms)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``, part by part for a large batch."""
    if problem.taps > BOX:
        return _correlate_as_convolution(x, y, problem, arithmetic, solve)
    return correlate_in_parts(_correlate_part, x, y, problem, arithmetic, _parts_at_once(problem))


def correlate_in_parts(
    part: Callable[[Array, Array, Problem, Arithmetic], Array], x: Array, y: Array, problem: Problem,
    arithmetic: Arithmetic, at_once: int = 1,
) -> Array:  # fmt: skip
    """Compute ``K(x, y)``, for a large batch as a sum over its parts, whose operands stay in the cache.

    at_once: the most parts that are computed in one step, without a loop.
    """
    batch, size = x.shape[0], math.prod(problem.x) * x.shape[-1]
    if not isinstance(batch, int) or batch * size <= at_once * PART:
        return part(x, y, problem, arithmetic)
    images = divisor(batch, PART // size)

    def add(i: Array, w: Array) -> Array:
        one, other = (part_at(a, i, images) for a in (x, y))
        return w + part(one, other, problem, arithmetic)

    kernel = (*problem.w, x.shape[-1] // problem.groups, y.shape[-1])
    return lax.fori_loop(0, batch // images, add, varying_zeros(kernel, arithmetic.accumulate_dtype, x, y))


def _parts_at_once(problem: Problem) -> int:
    """Return the most parts that take longer in a loop than in one step."""
    is_image, few_taps, is_strided = problem.rank > 1, problem.taps <= FEW_TAPS, max(problem.strides) > 1
    return (2 if is_image and few_taps else 1) * (2 if is_image and is_strided else 1)


def _correlate_part(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute ``K(x, y)`` in one step."""
    x = _materialize(pad(x, problem.pads))
    filters = y.shape[-1] // problem.groups
    y = arithmetic.upcast(y)
    if filters > 1:
        y = y.reshape(*y.shape[:-1], problem.groups, filters)
    terms = []
    for tap in tap_indices(problem):
        shown = arithmetic.upcast(window(x, tap, problem))
        terms.append((shown[..., None] if filters > 1 else shown) * y)
    sums = sum_over_positions(terms, problem)
    return jnp.stack([s.reshape(1, -1) for s in sums]).reshape(*problem.w, 1, problem.groups * filters)


def _correlate_as_convolution(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)`` as C of x with the kernel y: the samples are groups, strides and dilation are exchanged."""
    p, batch = problem, x.shape[0]
    low = tuple(before for before, _ in p.pads)
    swapped = exact(p.x, p.y, p.w, p.dilation, p.strides, low, batch * p.groups)
    x, y = (jnp.moveaxis(a, 0, -2).reshape(*a.shape[1:-1], 1, batch * a.shape[-1]) for a in (x, y))
    w = convolve(jnp.moveaxis(x, -2, 0), y, swapped, arithmetic, solve)
    return jnp.sum(w.reshape(*p.w, batch, 1, -1), axis=p.rank)


def sum_over_positions(terms: Sequence[Array], problem: Problem) -> list[Array]:
    """Sum arrays of the batch and spatial lengths of y over these axes, a few arrays in one pass.

    A pass has two stages: over short runs of the last axis, which the compiler unrolls, then over the rest.
    """
    passes = -(-len(terms) // TOGETHER)
    together = -(-len(terms) // passes)
    parts = [terms[i : i + together] for i in range(0, len(terms), together)]
    return [one for part in parts for one in _sum_together(part, problem.rank, min(LONGEST_RUN, UNROLLED // together))]


def _sum_together(terms: Sequence[Array], axis: int, run: int) -> list[Array]:
    """Sum arrays over the axes up to ``axis``, which is split into runs; the rest of it is summed separately."""
    length = terms[0].shape[axis]
    whole = length - length % run
    if not whole:
        return [jnp.sum(one, tuple(range(axis))) for one in _sums(terms, (axis,))]
    runs = [lax.slice_in_dim(t, 0, whole, axis=axis) for t in terms]
    runs = [t.reshape(*t.shape[:axis], whole // run, run, *t.shape[axis + 1 :]) for t in runs]
    sums = [jnp.sum(one, tuple(range(axis + 1))) for one in _sums(runs, (axis + 1,))]
    if whole == length:
        return sums
    rest = _sums([lax.slice_in_dim(t, whole, length, axis=axis) for t in terms], (axis,))
    return [one + jnp.sum(more, tuple(range(axis))) for one, more in zip(sums, rest, strict=True)]


def _sums(arrays: Sequence[Array], axes: tuple[int, ...]) -> list[Array]:
    """Sum several arrays over the same axes in one pass."""
    zeros = [jnp.zeros((), array.dtype) for array in arrays]
    return lax.reduce(arrays, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], axes)


def _materialize(x: Array) -> Array:
    """Keep XLA from testing for the padding in the inner loop of each tap."""
    return lax.optimization_barrier(x)


def _weights(w: Array, problem: Problem, arithmetic: Arithmetic) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield each tap with its weights, one for each filter."""
    rows = arithmetic.upcast(w).reshape(problem.taps, -1)
    for i, tap in enumerate(tap_indices(problem)):
        yield tap, lax.index_in_dim(rows, i, keepdims=False)


def _broadcast(weights: Array, ndim: int) -> Array:
    return weights.reshape((1,) * (ndim - weights.ndim) + weights.shape)


SHIFT_ADD = Lowering(
    "shift_add",
    {"convolve": convolve, "transpose": transpose, "correlate": correlate},
    limits,
    sums=("convolve", "transpose"),
)
