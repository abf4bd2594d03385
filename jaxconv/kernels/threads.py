"""Lowering "threads": a two-dimensional C on all cores, by asking for one row more than there is.

XLA's CPU backend gives a 2-D convolution to YNNPACK, which cuts its work along the filters: up to 64 of them are one
piece and run on one core, and without padding it packs its operand several times slower still. It refuses an output
that is longer than the input, and then Eigen computes it, on all cores. So we append rows of zeros until the output is
one row longer, and cut that row off: one row of work for the second core.
"""

from dataclasses import replace
from typing import Any

import jax
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.direct import convolution
from jaxconv.kernels.problem import Problem

Array = jax.Array


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    if problem.rank != 2:
        return f"it computes two spatial axes, not {problem.rank}"
    if problem.strides[0] > 1:
        return "with strides the output cannot be longer than the input"
    return None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    rows = problem.y[0]
    longer = max(problem.x[0] + 1, rows)
    (low, high), columns = problem.pads
    more = replace(problem, y=(longer, problem.y[1]), pads=((low, high + longer - rows), columns))
    y = convolution(how.widen(x), how.widen(w), more, how)
    return lax.slice_in_dim(y, 0, rows, axis=1)
