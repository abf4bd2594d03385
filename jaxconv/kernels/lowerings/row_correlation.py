"""Lowering "row_correlation": K as one-dimensional K's, one for each tap of all axes but the last.

    w[j, i] = K'(x[rows that tap j reads], y)[i]

Every row of every image is one sample of the one-dimensional problem. There the samples are the channels of XLA's
convolution, whose kernel is y: one wide matrix product, for which no window is copied.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.xla_nhwc import convolve as convolve_nhwc
from jaxconv.kernels.problem import Problem, Shapes, exact
from jaxconv.kernels.taps import pad, window, window_at, window_starts

Array = jax.Array


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    return f"it computes one group, not {problem.groups}" if problem.groups > 1 else None


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    p, rank = problem, problem.rank
    outer, last = p.axes(slice(0, rank - 1)), p.axes(slice(rank - 1, None))
    x = pad(x, p.pads[:-1])
    kernel = jnp.moveaxis(arithmetic.upcast(y).reshape(-1, p.y[-1], y.shape[-1]), 0, 1)  # (positions, samples, filters)
    kernel = lax.optimization_barrier(kernel)
    # the strides of the convolution and the dilation of its kernel are exchanged
    swapped = exact(last.x, last.y, last.w, last.dilation, last.strides, (last.pads[0][0],), 1)

    def row(shown: Array) -> Array:
        samples = jnp.transpose(shown.reshape(-1, *shown.shape[rank:]), (2, 1, 0))  # (channels, positions, samples)
        return jnp.moveaxis(convolve_nhwc(samples, kernel, swapped, arithmetic), 0, 1)

    if outer.taps == 1:
        rows = row(window(x, (0,) * outer.rank, outer))
    else:  # a loop, so that the samples of one tap are in memory at a time
        rows = lax.map(lambda start: row(window_at(x, start, outer)), window_starts(outer))
    return rows.reshape(*p.w, x.shape[-1], y.shape[-1])


ROW_CORRELATION = Lowering("row_correlation", {"correlate": correlate}, limits)
