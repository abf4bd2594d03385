"""Lowering "outer": C as a sum over the taps of the first axis of convolutions over the other axes.

    y[o] = sum_j C'(x[o * s + j * d - pad], w[j])

The places of the first axis go into the batch. XLA has fast code for one and two spatial axes, not for three. A long
sum is a loop, which XLA compiles in a fraction of the time.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, starts, total, window, window_at

Array = jax.Array

MOST_UNROLLED = 4


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    return "it needs two spatial axes or more" if problem.rank < 2 else None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    p, first, inner = problem, problem.axes(slice(0, 1)), problem.axes(slice(1, None))
    x = pad(x, first.pads)

    def term(shown: Array, part: Array) -> Array:
        return solve("convolve", shown.reshape(-1, *shown.shape[2:]), part, inner, unfinished=True)

    if len(w) <= MOST_UNROLLED:
        y = total(term(window(x, (j,), first), w[j]) for j in range(len(w)))
    else:
        places = starts(first)
        begin = jnp.zeros((x.shape[0] * p.y[0], *p.y[1:], w.shape[-1]), how.wide)
        y = lax.fori_loop(0, len(w), lambda j, y: y + term(window_at(x, places[j], first), w[j]), begin)
    return y.reshape(x.shape[0], *p.y, y.shape[-1])
