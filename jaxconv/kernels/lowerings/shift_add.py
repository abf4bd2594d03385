"""Lowering "shift_add": depthwise convolutions as sums over taps of shifted inputs, each times one weight per channel.

    C: y = sum_j window_j(x) w[j]      T: x = sum_j scatter_j(y w[j])      K: w[j] = sum over places of window_j(x) y

There is nothing to contract, so a matrix product would be mostly zeros; the sum of all taps is one fused loop over
memory. K needs as many sums as there are taps. They are one reduction of many operands, which XLA computes in a single
pass, and in two stages: over short runs that stay in the first-level cache, then over what is left.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, scatter, tap_indices, total, window

Array = jax.Array

MAX_TAPS = 256
RUN = 16


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return why a problem is not supported, or None."""
    channels = shapes["w"][-2]
    if channels > 1:
        return f"it computes groups of one channel, not {channels}"
    if problem.taps > MAX_TAPS:
        return f"it takes kernels of up to {MAX_TAPS} taps, not {problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    filters = w.shape[-1] // problem.groups
    padded = _materialize(pad(x, problem.pads))
    terms = []
    for tap, weights in _weights(w, problem, arithmetic):
        shown = arithmetic.upcast(window(padded, tap, problem))
        if filters > 1:
            shown, weights = shown[..., None], weights.reshape(problem.groups, filters)
        terms.append(shown * _broadcast(weights, shown.ndim))
    return total(terms).reshape(*terms[0].shape[: x.ndim - 1], w.shape[-1])


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
    """Compute ``K(x, y)``."""
    filters = y.shape[-1] // problem.groups
    padded = _materialize(pad(x, problem.pads))
    y = arithmetic.upcast(y)
    if filters > 1:
        y = y.reshape(*y.shape[:-1], problem.groups, filters)
    terms = []
    for tap in tap_indices(problem):
        shown = arithmetic.upcast(window(padded, tap, problem))
        terms.append((shown[..., None] if filters > 1 else shown) * y)
    length, axis = problem.y[-1], problem.rank
    if length % RUN == 0 and length > 4 * RUN:
        terms = [t.reshape(*t.shape[:axis], length // RUN, RUN, *t.shape[axis + 1 :]) for t in terms]
        axis += 1
    partial = _sums(terms, (axis,))
    sums = [jnp.sum(part, tuple(range(axis))) for part in partial]
    return jnp.stack([s.reshape(1, -1) for s in sums]).reshape(*problem.w, 1, problem.groups * filters)


def _sums(arrays: list[Array], axes: tuple[int, ...]) -> list[Array]:
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


SHIFT_ADD = Lowering("shift_add", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, limits)
