"""Lowering "blocks": grouped convolutions as a few dense ones, each over several groups.

Groups of four channels leave the matrix units empty. We put as many groups into one dense convolution as make 32
channels, with a kernel that is zero between the groups: more products, but ten times as many a second. K of such a
block computes the products between the groups too, and keeps the diagonal; K of groups of eight channels and more is a
loop over them, each one product of all taps side by side.
"""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem, pad, side_by_side, turned

Array = jax.Array

WIDTH = 32
# K, one group at a time: its least channels and filters, its largest kernel, and how large its patches may be
LEAST_ALONE, MOST_TAPS, MOST_TIMES = 8, 32, 5
# beyond this many dense convolutions they are one loop, so that the program stays short
MOST_UNROLLED = 4


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    return "it needs more than one group" if problem.groups == 1 else None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    return _by_blocks("convolve", x, _dense(w, problem.groups, _together(problem, w.shape)), problem, w.shape, solve)


def transpose(y: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``T(y, w)``."""
    return _by_blocks("transpose", y, _dense(w, problem.groups, _together(problem, w.shape)), problem, w.shape, solve)


def _by_blocks(name: str, a: Array, w: Array, problem: Problem, w_shape: tuple[int, ...], solve: Any) -> Array:
    """Compute one map on each block; ``w`` has the blocks in front."""
    blocks, dense = w.shape[0], replace(problem, groups=1)
    if blocks == 1:
        return solve(name, a, w[0], dense)
    width = a.shape[-1] // blocks
    if blocks <= MOST_UNROLLED:
        parts = [lax.slice_in_dim(a, i * width, (i + 1) * width, axis=-1) for i in range(blocks)]
        return jnp.concatenate([solve(name, part, w[i], dense) for i, part in enumerate(parts)], axis=-1)
    out = lax.map(lambda pair: solve(name, *pair, dense), (_blocks_first(a, blocks), w))
    return _blocks_last(out)


def correlate(x: Array, y: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1] // problem.groups, y.shape[-1] // problem.groups
    # the patches of one group are taps / groups times as large as x
    few_taps = problem.taps <= min(MOST_TAPS, MOST_TIMES * problem.groups)
    if LEAST_ALONE <= min(channels, filters) < WIDTH and few_taps:
        return _one_by_one(x, y, problem, how)
    together = _together(problem, (*problem.w, channels, y.shape[-1]))
    blocks, dense = problem.groups // together, replace(problem, groups=1)
    if blocks <= MOST_UNROLLED:
        pairs = zip(jnp.split(x, blocks, axis=-1), jnp.split(y, blocks, axis=-1), strict=True)
        parts = jnp.stack([solve("correlate", *pair, dense) for pair in pairs])
    else:
        both = (_blocks_first(x, blocks), _blocks_first(y, blocks))
        parts = lax.map(lambda pair: solve("correlate", *pair, dense), both)
    # (blocks, *w, groups of a block * channels, groups of a block * filters): keep equal groups
    parts = parts.reshape(blocks, *problem.w, together, channels, together, filters)
    kept = jnp.diagonal(parts, axis1=-4, axis2=-2)  # (blocks, *w, channels, filters, groups of a block)
    kept = jnp.swapaxes(jnp.moveaxis(kept, 0, -1), -1, -3)  # (*w, channels, blocks, groups of a block, filters)
    return kept.reshape(*problem.w, channels, problem.groups * filters)


def _one_by_one(x: Array, y: Array, problem: Problem, how: Arithmetic) -> Array:
    """Compute ``K(x, y)`` in a loop over the groups."""
    x, y = (_blocks_first(a, problem.groups) for a in (pad(x, problem.pads), y))
    channels, filters = x.shape[-1], y.shape[-1]

    def group(pair: tuple[Array, Array]) -> Array:
        x, y = pair
        return how.dot(y, side_by_side(x, problem).reshape(y.shape[-1], -1), ([1], [0]))

    w = lax.map(group, (x, turned(y.reshape(problem.groups, -1, filters))))
    w = w.reshape(problem.groups, filters, problem.taps, channels)
    return w.transpose(2, 3, 0, 1).reshape(*problem.w, channels, -1)


def _together(problem: Problem, w_shape: tuple[int, ...]) -> int:
    """Give how many groups make one block: a divisor of their number, for about WIDTH channels and filters."""
    groups, narrow = problem.groups, min(w_shape[-2], w_shape[-1] // problem.groups)
    return next(n for n in range(min(groups, max(1, -(-WIDTH // narrow))), 0, -1) if groups % n == 0)


def _dense(w: Array, groups: int, together: int) -> Array:
    """Give the kernels of the blocks, (blocks, *w, channels, filters), zero between the groups of each."""
    *spatial, channels, filters = w.shape
    blocks, own = groups // together, filters // groups
    w = jnp.moveaxis(w.reshape(*spatial, channels, blocks, together, own), -3, 0)
    if together == 1:
        return w.reshape(blocks, *spatial, channels, own)
    eye = jnp.eye(together, dtype=w.dtype).reshape(together, 1, together, 1)
    w = w[..., None, :, :, :] * eye.reshape((1,) * (w.ndim - 3) + eye.shape)
    return w.reshape(blocks, *spatial, together * channels, together * own)


def _blocks_first(a: Array, blocks: int) -> Array:
    return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, a.shape[-1] // blocks), -2, 0)


def _blocks_last(a: Array) -> Array:
    a = jnp.moveaxis(a, 0, -2)
    return a.reshape(*a.shape[:-2], math.prod(a.shape[-2:]))
