"""Lowering "lines": K of two axes or more as one-dimensional K's, one for each tap of all axes but the last.

    w[j, i] = K'(x[rows that tap j reads], y)[i]

Every row of every image is one sample of the one-dimensional problem. There the samples are the channels of XLA's
convolution, whose kernel is y: one well-filled matrix product, for which no window is ever copied.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.direct import convolution
from jaxconv.kernels.problem import Problem, exact, pad, starts, window, window_at

Array = jax.Array


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    return None


def correlate(x: Array, y: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``K(x, y)``."""
    p, rank = problem, problem.rank
    outer, last = p.axes(slice(0, rank - 1)), p.axes(slice(rank - 1, None))
    x = pad(x, p.pads[:-1])
    kernel = jnp.moveaxis(how.widen(y).reshape(-1, p.y[-1], y.shape[-1]), 0, 1)  # (places, samples, filters)
    kernel = lax.optimization_barrier(kernel)
    # strides of the convolution and distances in its kernel change places
    low = last.pads[0][0]
    swapped = exact(last.x, last.y, last.w, last.dilation, last.strides, (low,), 1)

    def row(shown: Array) -> Array:
        samples = jnp.transpose(shown.reshape(-1, *shown.shape[rank:]), (2, 1, 0))  # (channels, places, samples)
        return jnp.moveaxis(convolution(how.widen(samples), kernel, swapped, how), 0, 1)

    if outer.taps == 1:
        rows = row(window(x, (0,) * outer.rank, outer))
    else:  # a loop, so that the samples of one tap are in memory at a time
        rows = lax.map(lambda start: row(window_at(x, start, outer)), starts(outer))
    return rows.reshape(*p.w, x.shape[-1], y.shape[-1])
