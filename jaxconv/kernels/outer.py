"""Lowering "outer": C as a sum over the taps of the first axis of convolutions over the other axes.

    y[o] = sum_j C'(x[o * s + j * d - pad], w[j])

The places of the first axis go into the batch. XLA has fast code for one and two spatial axes, not for three.
"""

from typing import Any

import jax
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, total

Array = jax.Array


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    return "it needs two spatial axes or more" if problem.rank < 2 else None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    p, inner = problem, problem.axes(slice(1, None))
    x = pad(x, p.pads[:1])
    terms = []
    for j in range(p.w[0]):
        start = j * p.dilation[0]
        shown = lax.slice_in_dim(x, start, start + (p.y[0] - 1) * p.strides[0] + 1, p.strides[0], 1)
        terms.append(solve("convolve", shown.reshape(-1, *shown.shape[2:]), w[j], inner, unfinished=True))
    y = total(terms)
    return y.reshape(x.shape[0], *p.y, y.shape[-1])
