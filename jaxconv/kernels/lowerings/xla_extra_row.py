"""Lowering "xla_extra_row": a two-dimensional C or K on all cores, with one additional row.

XLA's CPU backend gives a 2-D convolution to YNNPACK, which divides its work along the filters: up to 64 of them are one
piece and run on one core, and without padding it packs its operand several times slower still. It does not support an
output or a kernel that is longer than the input; then Eigen computes the convolution, on all cores.

- C pads with rows of zeros until the output is one row longer than the input, and drops the additional rows.
- K is a convolution of x with the kernel y, so it adds rows of zeros to y until that has one row more than x. XLA
  exchanges the operands of a convolution whose kernel has more positions than its input, and has only a slow loop for
  the result; the columns of x are therefore padded beforehand, which leaves x with more positions than y.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.xla_nhwc import convolve as convolve_nhwc
from jaxconv.kernels.lowerings.xla_nhwc import correlate as correlate_nhwc
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad

Array = jax.Array


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    p = problem
    if p.rank != 2:
        return f"it computes two spatial axes, not {p.rank}"
    if p.strides[0] > 1:
        return "with strides the output cannot be longer than the input"
    if name == "correlate" and p.groups > 1:
        return f"it computes the kernel gradient of one group, not {p.groups}"
    if name == "correlate" and _longer(p) * p.y[1] > p.x[0] * (p.x[1] + sum(p.pads[1])):
        return "it needs an input with more positions than the longer output has"
    return None


def _longer(problem: Problem) -> int:
    """Return the number of rows that YNNPACK does not support: one more than the input has."""
    return max(problem.x[0] + 1, problem.y[0])


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    rows = problem.y[0]
    longer = _longer(problem)
    (low, high), columns = problem.pads
    more = replace(problem, y=(longer, problem.y[1]), pads=((low, high + longer - rows), columns))
    return lax.slice_in_dim(convolve_nhwc(x, w, more, arithmetic), 0, rows, axis=1)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    p, more = problem, _longer(problem) - problem.y[0]
    (low, high), columns = p.pads
    y = jnp.pad(y, ((0, 0), (0, more), (0, 0), (0, 0)))
    # the barrier keeps XLA from moving the padding back into the convolution
    x = lax.optimization_barrier(pad(x, (columns,), 2))
    wider = replace(p, x=(p.x[0], x.shape[2]), y=(_longer(p), p.y[1]), pads=((low, high + more), (0, 0)))
    return correlate_nhwc(x, y, wider, arithmetic)


XLA_EXTRA_ROW = Lowering("xla_extra_row", {"convolve": convolve, "correlate": correlate}, limits)
