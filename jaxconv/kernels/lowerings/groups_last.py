"""Lowering "groups_last": groups of a few channels as sums over channels and taps, with the groups as the last axis.

    C: y_f = sum_c,j window_j(x_c) w[j, c, f]        K: w[j, c, f] = sum over positions of window_j(x_c) y_f

x_c is channel c of every group. There is too little to contract for a matrix product, and a product of several groups
is mostly zeros; these sums waste nothing, and the vector units run along the groups. A value that is not finite stays
in its group.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.shift_add import correlate_in_parts, sum_over_positions
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, tap_indices, total, window, window_at, window_starts

Array = jax.Array

MAX_PAIRS = 32  # of a channel and a filter, which are the operands of one reduction of K
MAX_TERMS = 288  # of C; more are slow to compile


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if problem.groups == 1:
        return "it needs more than one group"
    pairs = shapes["w"][-2] * shapes["w"][-1] // problem.groups
    if pairs > MAX_PAIRS:
        return f"it takes groups of up to {MAX_PAIRS} pairs of a channel and a filter, not {pairs}"
    if name == "convolve" and pairs * problem.taps > MAX_TERMS:
        return f"it takes up to {MAX_TERMS} terms of taps, channels and filters, not {pairs * problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    x, channels = _groups_last(pad(x, problem.pads), problem.groups), w.shape[-2]
    rows = jnp.swapaxes(arithmetic.upcast(w).reshape(problem.taps, channels, problem.groups, -1), -1, -2)
    terms = []
    for i, tap in enumerate(tap_indices(problem)):
        shown = arithmetic.upcast(window(x, tap, problem))
        for c in range(channels):
            weights = rows[i, c]  # (filters, groups)
            part = lax.slice_in_dim(shown, c, c + 1, axis=shown.ndim - 2)
            terms.append(part * weights.reshape((1,) * (part.ndim - 2) + weights.shape))
    y = lax.optimization_barrier(total(terms).astype(arithmetic.result_dtype))
    return jnp.swapaxes(y, -1, -2).reshape(*y.shape[:-2], -1)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    return correlate_in_parts(_correlate_part, x, y, problem, arithmetic)


def _correlate_part(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute ``K(x, y)``: a loop over the taps, each one reduction of all pairs of a channel and a filter."""
    x, y = _groups_last(pad(x, problem.pads), problem.groups), _groups_last(y, problem.groups)
    channels, filters, y = x.shape[-2], y.shape[-2], arithmetic.upcast(y)

    def tap(start: Array) -> Array:
        shown = arithmetic.upcast(window_at(x, start, problem))
        parts, outputs = (
            [lax.index_in_dim(a, i, a.ndim - 2, keepdims=False) for i in range(a.shape[-2])] for a in (shown, y)
        )
        return jnp.stack(sum_over_positions([part * output for part in parts for output in outputs], problem))

    w = lax.map(tap, window_starts(problem)).reshape(*problem.w, channels, filters, problem.groups)
    return jnp.swapaxes(w, -1, -2).reshape(*problem.w, channels, -1)


def _groups_last(a: Array, groups: int) -> Array:
    """Split the channels and move the groups last, (..., channels, groups), in memory."""
    a = a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)
    return lax.optimization_barrier(jnp.swapaxes(a, -1, -2))


GROUPS_LAST = Lowering("groups_last", {"convolve": convolve, "correlate": correlate}, limits, sums=("convolve",))
