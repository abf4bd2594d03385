"""Lowering "dots": matrix products of the channels, for each kernel tap.

    C: y = sum_j window_j(x) w[j]        T: x = sum_j scatter_j(y w[j]^T)        K: w[j] = window_j(x)^T y

``window_j`` shows the padded input to tap j. A kernel of one tap is a single product. The products of T have an operand
in common and are one, with the taps side by side, for which the kernel is not copied; so are those of C where the
filters are few: window_j(x) w[j] = window_j(x w[j]), and x need not be cut nor padded. K runs through the taps in a
loop: one window is in memory at a time, it stays in the cache, and none is cut out before y is there. (XLA computes
what needs no y before the forward pass, and keeps it until the backward pass.)
Half types reach the matrix units only this way: products of bfloat16, sums in float32.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, scatter, starts, total, turned, window, window_at

Array = jax.Array

# C and T write a step for each tap into the program
MOST_TAPS = 64


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if name != "correlate" and problem.taps > MOST_TAPS:
        return f"it takes kernels of up to {MOST_TAPS} taps, not {problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    p, taps, (channels, filters) = problem, list(np.ndindex(*problem.w)), w.shape[-2:]
    if len(taps) > 1 and few_filters(p, channels, filters):
        kernel = jnp.moveaxis(w.reshape(-1, channels, filters), 0, 1).reshape(channels, -1)
        products = how.dot(x, kernel, ([x.ndim - 1], [0]))
        parts = (lax.slice_in_dim(products, i * filters, (i + 1) * filters, axis=-1) for i in range(len(taps)))
        return total(_move(part, tap, p) for part, tap in zip(parts, taps, strict=True))
    x = pad(x, p.pads)
    return total(how.dot(window(x, tap, p), w[tap], ([x.ndim - 1], [0])) for tap in taps)


def few_filters(problem: Problem, channels: int, filters: int) -> bool:
    """Say whether what the input gives to all taps is hardly larger than the input itself, and most of it is needed."""
    all_read = max(problem.strides) == 1 and math.prod(problem.x) <= 2 * math.prod(problem.y)
    return all_read and 2 * problem.taps * filters <= 3 * channels


def _move(products: Array, tap: tuple[int, ...], p: Problem) -> Array:
    """Bring the products of one tap to the places of y that read them."""
    first = [low - j * d for (low, _), j, d in zip(p.pads, tap, p.dilation, strict=True)]
    return pad(products, [(low, o - n - low) for low, o, n in zip(first, p.y, p.x, strict=True)])


def transpose(y: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``T(y, w)``."""
    channels, filters = w.shape[-2:]
    taps = list(np.ndindex(*problem.w))
    products = how.dot(y, w.reshape(-1, filters), ([y.ndim - 1], [1]))
    if len(taps) == 1:
        return scatter(products, taps[0], problem)
    parts = (lax.slice_in_dim(products, i * channels, (i + 1) * channels, axis=-1) for i in range(len(taps)))
    return total(scatter(part, tap, problem) for part, tap in zip(parts, taps, strict=True))


def correlate(x: Array, y: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1], y.shape[-1]
    x, y = pad(x, problem.pads), y.reshape(-1, filters)
    if problem.taps == 1:
        out = how.dot(window(x, (0,) * problem.rank, problem).reshape(-1, channels), y, ([0], [0]))
    else:
        y = turned(y)

        def product(start: Array) -> Array:
            return how.dot(y, window_at(x, start, problem).reshape(-1, channels), ([1], [0]))

        out = lax.map(product, starts(problem)).mT
    return out.reshape(*problem.w, channels, filters)
