"""Lowering "stacked_taps": C as one matrix product, with the taps divided between its two sides.

    y[o] = sum_j z[o + j * d - pad, j]        z[i, j] = sum_k window_k(x[i]) w[j, k]

The taps k of all axes but the first are stacked with the channels, the taps j of the first axis with the filters. For a
kernel of 3x3 taps, this copies a third of the windows of all taps, and the product is wider. A loop runs over parts of
the batch, so that the copies and products of a few images stay in the cache.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.parts import divisor, in_parts
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, stack_windows, total

Array = jax.Array

BLOCK = 1 << 21  # the most entries of the stacked windows and of the products of one part
MAX_TAPS = 32  # on either side


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if problem.strides[0] > 1:
        return "with a stride of the first axis, most products would not be needed"
    if max(problem.w[0], math.prod(problem.w[1:])) > MAX_TAPS:
        return f"it takes up to {MAX_TAPS} taps of the first axis and of the others, not {problem.w}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    images = _images(x, w, problem)
    return in_parts(lambda part: _part(part, w, problem, arithmetic), x, images, arithmetic.result_dtype)


def _images(x: Array, w: Array, problem: Problem) -> int:
    """Return the number of images in one part: a divisor of the batch, or all of a symbolic one."""
    stacked = math.prod(problem.w[1:]) * x.shape[-1] + problem.w[0] * w.shape[-1]
    return divisor(x.shape[0], BLOCK // (problem.x[0] * math.prod(problem.y[1:]) * stacked))


def _part(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    p, taps, filters = problem, problem.w[0], w.shape[-1]
    inner = p.axes(slice(1, None))
    rows = pad(x.reshape(-1, *x.shape[2:]), inner.pads)  # the rows of all images are a batch
    rows = stack_windows(rows, inner) if inner.rank else rows
    kernel = jnp.moveaxis(w.reshape(taps, -1, filters), 0, 1).reshape(-1, taps * filters)
    products = arithmetic.dot(rows, kernel, ([rows.ndim - 1], [0])).reshape(*x.shape[:2], -1, taps * filters)
    terms = []
    for j in range(taps):
        low = p.pads[0][0] - j * p.dilation[0]
        part = lax.slice_in_dim(products, j * filters, (j + 1) * filters, axis=-1)
        terms.append(pad(part, [(low, p.y[0] - p.x[0] - low)]))
    return total(terms).astype(arithmetic.result_dtype).reshape(x.shape[0], *p.y, filters)


STACKED_TAPS = Lowering("stacked_taps", {"convolve": convolve}, limits)
