"""The largest value of each window, on CPU as maxima of shifted slices: six times as fast there as a window reduction.

Knows arrays and windows over all axes. Derivatives are those of the window reduction: of equal values, the first one
gets them.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import Array, lax

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

MAX_SLICES = 16  # with more, over all axes, a window reduction is as fast


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def largest(x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    """Return the maximum of each window of floats; padding counts as minus infinity.

    60 x 60 x 16 images, 32 of them, window 3, stride 2, on one core: 1.76 ms as a window reduction, 0.30 ms as slices.

    Args:
        x: any shape. window, strides, padding: one for each axis of ``x``.

    >>> largest(np.array([3.0, 1.0, 2.0], np.float32), (2,), (1,), ((0, 1),))
    Array([3., 2., 2.], dtype=float32)
    """
    static = all(isinstance(n, int) for n, size in zip(x.shape, window, strict=True) if size > 1)
    if not static or sum(size for size in window if size > 1) > MAX_SLICES:
        return _reduced(x, window, strides, padding)
    slices = functools.partial(_sliced, window=window, strides=strides, padding=padding)
    reduced = functools.partial(_reduced, window=window, strides=strides, padding=padding)
    return lax.platform_dependent(x, cpu=slices, default=reduced)


@largest.defjvp
def _jvp(window: Sizes, strides: Sizes, padding: Pads, primals: Any, tangents: Any) -> tuple[Array, Array]:
    return jax.jvp(lambda x: _reduced(x, window, strides, padding), primals, tangents)


def _reduced(x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, window, strides, padding)


def _sliced(x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    x = lax.pad(x, np.array(-np.inf, x.dtype), [(*pair, 0) for pair in padding])
    for axis, (size, stride) in enumerate(zip(window, strides, strict=True)):
        if (size, stride) == (1, 1):
            continue
        last = (x.shape[axis] - size) // stride * stride  # the start of the last window
        steps = [lax.slice_in_dim(x, tap, tap + last + 1, stride, axis) for tap in range(size)]
        x = functools.reduce(lax.max, steps)
    return x
