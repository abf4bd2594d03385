"""Lowering "xla_extra_row": a two-dimensional C on all cores, by computing one row more than there is.

XLA's CPU backend gives a 2-D convolution to YNNPACK, which divides its work along the filters: up to 64 of them are one
piece and run on one core, and without padding it packs its operand several times slower still. It refuses an output
that is longer than the input, and then Eigen computes it, on all cores. So this lowering pads with rows of zeros until
the output is one row longer, and drops that row: one row of work for the second core.
"""

from dataclasses import replace

import jax
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.xla_nhwc import convolve as convolve_nhwc
from jaxconv.kernels.problem import Problem, Shapes

Array = jax.Array


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return why a problem is not supported, or None."""
    if problem.rank != 2:
        return f"it computes two spatial axes, not {problem.rank}"
    if problem.strides[0] > 1:
        return "with strides the output cannot be longer than the input"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    rows = problem.y[0]
    longer = max(problem.x[0] + 1, rows)
    (low, high), columns = problem.pads
    more = replace(problem, y=(longer, problem.y[1]), pads=((low, high + longer - rows), columns))
    return lax.slice_in_dim(convolve_nhwc(x, w, more, arithmetic), 0, rows, axis=1)


XLA_EXTRA_ROW = Lowering("xla_extra_row", {"convolve": convolve}, limits)
