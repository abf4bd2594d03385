"""Lowering "dots": one matrix product for each kernel tap.

    C: y = sum_j window_j(x) w[j]        T: x = sum_j scatter_j(y w[j]^T)        K: w[j] = window_j(x)^T y

``window_j`` shows the padded input to tap j. A kernel of one tap is a single product; where there are more, K runs
through them in a loop, so that one window is in memory at a time, and that one stays in the cache.
Half types reach the matrix units only this way: products of bfloat16, sums in float32.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, scatter, starts, total, window, window_at

Array = jax.Array

# K: below this many bytes all windows fit into the cache beside each other, and need no loop
CACHED = 16 << 20
# C and T write one product for each tap into the program
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
    x = pad(x, problem.pads)
    channels = ([x.ndim - 1], [0])
    return total(how.dot(window(x, tap, problem), w[tap], channels) for tap in np.ndindex(*problem.w))


def transpose(y: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``T(y, w)``."""
    filters = ([y.ndim - 1], [1])
    return total(scatter(how.dot(y, w[tap], filters), tap, problem) for tap in np.ndindex(*problem.w))


def correlate(x: Array, y: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1], y.shape[-1]
    x, y = pad(x, problem.pads), y.reshape(-1, filters)
    taps = list(np.ndindex(*problem.w))

    def product(shown: Array) -> Array:
        return how.dot(shown.reshape(-1, channels), y, ([0], [0]))

    if len(taps) == 1:
        out = product(window(x, taps[0], problem))
    elif at_once(problem, problem.shapes("correlate", x.shape, (*x.shape[:1], *problem.y, filters)), x.dtype):
        # the row-major product y^T x runs at twice the speed of x^T y, which contracts leading axes of both
        turned = lax.optimization_barrier(y.T)
        rows = [window(x, tap, problem).reshape(-1, channels) for tap in taps]
        out = jnp.stack([how.dot(turned, row, ([1], [0])) for row in rows]).mT
    else:
        out = lax.map(lambda start: product(window_at(x, start, problem)), starts(problem))
    return out.reshape(*problem.w, channels, filters)


def at_once(problem: Problem, shapes: Any, dtype: Any) -> bool:
    """Say whether the windows of all taps fit into the cache, and are not far larger than what they come from."""
    sizes = {letter: math.prod(n for n in shape if isinstance(n, int)) for letter, shape in shapes.items()}
    windows = sizes["y"] // shapes["y"][-1] * problem.taps * shapes["x"][-1]
    return windows * jnp.dtype(dtype).itemsize <= CACHED and windows <= 3 * sum(sizes.values())
