"""Lowering "im2col": the stacked windows of all taps, and one matrix product, a block of rows at a time.

    C: y[o] = patch[o] . w        K: w = sum_o patch[o]^T y[o]        with patch[o] = (window_j(x)[o] for every tap j)

The patches of the whole input are larger than the input by the number of taps. Their memory would be allocated on every
call and would not fit a cache. So a loop runs over blocks of the first spatial axis, each with patches of a few
megabytes. It never splits the batch, which may be sharded over devices.
"""

import math
from typing import Any

import jax
from jax import lax

from jaxconv.geometry import dilate
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.parts import divisor, entry_at, slice_at, update_at
from jaxconv.kernels.problem import Problem, Shapes, exact
from jaxconv.kernels.taps import pad, stack_windows, transposed_copy, window_at, window_starts
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array

# the most entries of the patches in one block: they should fit the cache, and not be many times the input
BLOCK = 1 << 20
MIN_BLOCK, TIMES_INPUT = 1 << 14, 4
MAX_TAPS = 64


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if problem.taps > MAX_TAPS:
        return f"it takes kernels of up to {MAX_TAPS} taps, not {problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    filters = w.shape[-1]
    w = w.reshape(-1, filters)
    x = pad(x, problem.pads)
    rows, part = _block(x, problem)

    def block(start: Any) -> Array:
        return arithmetic.dot(_patches(x, start, part), w, ([problem.rank + 1], [0]))

    if rows == problem.y[0]:
        return block(0)

    def step(i: Array, y: Array) -> Array:
        return update_at(y, block(i * rows).astype(arithmetic.result_dtype), i * rows, 1)

    y = varying_zeros((x.shape[0], *problem.y, filters), arithmetic.result_dtype, x, w)
    return lax.fori_loop(0, problem.y[0] // rows, step, y)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``: like C, but a loop over the taps writes the patches into one array.

    XLA compiles this in a fraction of the time, and it runs as fast as a concatenation. The array is created in the
    outer loop, because XLA would create an array that is passed to the loop before the forward pass.
    """
    channels, filters = x.shape[-1], y.shape[-1]
    x = pad(x, problem.pads)
    rows, part = _block(x, problem)
    starts = window_starts(problem)

    def block(i: Array, w: Array) -> Array:
        shown = slice_at(x, i * rows * part.strides[0], part.x[0], 1)

        def write_tap(tap: Array, patches: Array) -> Array:
            entries = window_at(shown, entry_at(starts, tap), part).reshape(-1, channels)
            return update_at(patches, entries, tap * channels, 1)

        empty = varying_zeros((x.shape[0] * math.prod(part.y), problem.taps * channels), x.dtype, x)
        patches = lax.fori_loop(0, problem.taps, write_tap, empty)
        part_of_y = slice_at(y, i * rows, rows, 1).reshape(-1, filters)
        return w + arithmetic.dot(transposed_copy(part_of_y), patches, ([1], [0]))

    w = varying_zeros((filters, problem.taps * channels), arithmetic.accumulate_dtype, x, y)
    w = lax.fori_loop(0, problem.y[0] // rows, block, w)
    return w.T.reshape(*problem.w, channels, filters)


def _block(x: Array, problem: Problem) -> tuple[int, Problem]:
    """Return the number of rows of y in one block, a divisor of all rows, and the unpadded problem of one block."""
    p = problem
    batch = x.shape[0] if isinstance(x.shape[0], int) else 1
    row = batch * math.prod(p.y[1:]) * p.taps * x.shape[-1]
    entries = batch * math.prod(x.shape[1:])
    rows = divisor(p.y[0], min(BLOCK, max(MIN_BLOCK, TIMES_INPUT * entries)) // row)
    lengths = (dilate(rows, p.strides[0]) + dilate(p.w[0], p.dilation[0]) - 1, *x.shape[2:-1])
    return rows, exact(lengths, p.w, (rows, *p.y[1:]), p.strides, p.dilation, (0,) * p.rank, 1)


def _patches(x: Array, start: Any, part: Problem) -> Array:
    """Return the patches of a block, (batch, *positions, taps * channels), starting at row ``start`` of the output."""
    if x.shape[1] != part.x[0]:
        x = slice_at(x, start * part.strides[0], part.x[0], 1)
    return stack_windows(x, part)


IM2COL = Lowering("im2col", {"convolve": convolve, "correlate": correlate}, limits)
