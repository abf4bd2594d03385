"""Pads, windows and scatters of arrays in standard form, which the lowerings use."""

import functools
import math
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.geometry import dilate
from jaxconv.kernels.parts import as_bits, slice_at
from jaxconv.kernels.problem import Problem


def tap_indices(problem: Problem) -> list[tuple[int, ...]]:
    """Return the index of each tap in the kernel, in row-major order."""
    return list(np.ndindex(*problem.w))


def pad(x: Array, pads: Sequence[tuple[int, int]], first: int = 1) -> Array:
    """Pad the axes starting at ``first`` with zeros, or crop them."""
    return as_bits(lambda x: _padded(x, pads, first), x) if any(map(any, pads)) else x


def _padded(x: Array, pads: Sequence[tuple[int, int]], first: int) -> Array:
    zero = jnp.zeros((), x.dtype)
    for axis, (low, high) in enumerate(pads, start=first):
        if low or high:
            # as few axes as possible, since XLA takes five times as long to compile a pad of more axes, and runs it
            # slower; at least two of the result, since it splits only the first ones among the cores
            before, inner = x.shape[:axis], math.prod(x.shape[axis + 1 :])
            rows = math.prod(before[1:])
            if rows == 1:
                flat = lax.pad(x.reshape(before[0], -1, inner), zero, [(0, 0, 0), (low, high, 0), (0, 0, 0)])
            else:
                ends = (low * inner, high * inner, 0)
                flat = lax.pad(x.reshape(before[0], rows, -1), zero, [(0, 0, 0), (0, 0, 0), ends])
            x = flat.reshape(*before, x.shape[axis] + low + high, *x.shape[axis + 1 :])
    return x


def window(x: Array, tap: Sequence[int], problem: Problem) -> Array:
    """Return the entries of the padded input that one tap reads: an array with the spatial lengths of y."""
    return as_bits(lambda x: _window(x, tap, problem), x)


def _window(x: Array, tap: Sequence[int], problem: Problem) -> Array:
    p, rank = problem, problem.rank
    starts = [j * d for j, d in zip(tap, p.dilation, strict=True)]
    stops = [start + (o - 1) * s + 1 for start, o, s in zip(starts, p.y, p.strides, strict=True)]
    if isinstance(x.shape[0], int):
        rest = x.shape[rank + 1 :]
        return lax.slice(
            x, (0, *starts, *(0 for _ in rest)), (x.shape[0], *stops, *rest), (1, *p.strides, *(1 for _ in rest))
        )
    # a symbolic batch must not be sliced: slice one axis at a time, and only if needed
    for axis in range(rank):
        if (starts[axis], stops[axis], p.strides[axis]) != (0, x.shape[axis + 1], 1):
            x = lax.slice_in_dim(x, starts[axis], stops[axis], p.strides[axis], axis + 1)
    return x


def stack_windows(x: Array, problem: Problem) -> Array:
    """Concatenate the windows of all taps along the last axis."""
    return as_bits(lambda x: jnp.concatenate([window(x, tap, problem) for tap in tap_indices(problem)], axis=-1), x)


def window_at(x: Array, start: Array, problem: Problem) -> Array:
    """Return the window that starts at a traced position of the padded input, for loops over taps."""
    return as_bits(lambda x: _window_at(x, start, problem), x)


def _window_at(x: Array, start: Array, problem: Problem) -> Array:
    rank, rest = problem.rank, x.shape[problem.rank + 1 :]
    inner, spans = math.prod(rest), [dilate(o, s) for o, s in zip(problem.y, problem.strides, strict=True)]
    # the last spatial axis and those after it as one axis: XLA compiles that in a third of the time
    for axis in range(1, rank):
        x = slice_at(x, start[axis - 1], spans[axis - 1], axis)
    x = x.reshape(*x.shape[:rank], -1)
    x = slice_at(x, start[-1] * inner, spans[-1] * inner, rank)
    x = x.reshape(*x.shape[:rank], spans[-1], *rest)
    for axis, s in enumerate(problem.strides, start=1):
        x = x if s == 1 else lax.slice_in_dim(x, 0, None, s, axis)
    return x


def window_starts(problem: Problem) -> Array:
    """Return the position at which the window of each tap starts: (taps, rank)."""
    taps = np.array(tap_indices(problem), np.int32)
    return jnp.asarray(taps * np.array(problem.dilation, np.int32))


def scatter(y: Array, tap: Sequence[int], problem: Problem) -> Array:
    """Write y to the positions of x that one tap reads: the transpose of ``window`` and of the padding before it."""
    config = [(0, 0, 0)]
    for j, d, o, s, (low, _), n in zip(
        tap, problem.dilation, problem.y, problem.strides, problem.pads, problem.x, strict=True
    ):
        first = j * d - low
        config.append((first, n - first - dilate(o, s), s - 1))
    return lax.pad(y, jnp.zeros((), y.dtype), [*config, (0, 0, 0)])


def total(terms: Iterable[Array]) -> Array:
    """Return the sum of arrays of one shape."""
    return functools.reduce(lax.add, terms)


def transposed_copy(y: Array) -> Array:
    """Transpose a matrix, or a stack of them, in memory.

    The row-major product y^T x runs at twice the speed of x^T y, which contracts leading axes of both.
    """
    return lax.optimization_barrier(y.mT)
