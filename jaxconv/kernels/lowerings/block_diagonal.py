"""Lowering "block_diagonal": grouped convolutions as a few dense ones, each over several groups.

Groups of four channels leave the matrix units empty. This lowering puts as many groups into one dense convolution as
make 32 channels, with a kernel that is zero between the groups: more products, but ten times as many a second. K of
such a block computes the products between the groups too, and keeps the diagonal; K of groups of eight channels and
more is a loop over the groups, each one product of all stacked windows.

Zero times NaN is NaN: C and T of data that are not finite are computed group by group, so that such a value stays in
its group, as in ``vmap`` over models of which one diverged. The check takes 1 to 4 percent of the time of large
convolutions, and 0.02 to 0.04 ms of small ones.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.matmul import correlate as correlate_by_products
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, stack_windows, transposed_copy

Array = jax.Array

WIDTH = 32
# K, one group at a time: the fewest channels and filters, the largest kernel, and the largest stacked windows
MIN_CHANNELS_ALONE, MAX_TAPS, MAX_GROWTH = 8, 64, 5
# more dense convolutions than these are one loop, which takes twice the time, so that the program stays short
MAX_UNROLLED = 8


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return why a problem is not supported, or None."""
    return "it needs more than one group" if problem.groups == 1 else None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    return _map_groups("convolve", x, w, problem, arithmetic, solve)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    return _map_groups("transpose", y, w, problem, arithmetic, solve)


def _map_groups(name: str, a: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute one map in blocks of several groups, or of one where the data are not finite."""
    together = _groups_per_block(problem, *w.shape[-2:])

    def of(together: int, unrolled: int = MAX_UNROLLED) -> Callable[[Array, Array], Array]:
        return lambda a, w: _map_blocks(name, a, w, problem, solve, together, unrolled).astype(arithmetic.result_dtype)

    return of(1)(a, w) if together == 1 else lax.cond(jnp.all(jnp.isfinite(a)), of(together), of(1, 1), a, w)


def _map_blocks(name: str, a: Array, w: Array, problem: Problem, solve: Solve, together: int, unrolled: int) -> Array:
    """Compute one map block by block, each of some groups; more than ``unrolled`` of them in a loop."""
    w = _dense(w, problem.groups, together)
    blocks, dense = w.shape[0], replace(problem, groups=1)
    if blocks == 1:
        return solve(name, a, w[0], dense)
    width = a.shape[-1] // blocks
    if blocks <= unrolled:
        parts = [lax.slice_in_dim(a, i * width, (i + 1) * width, axis=-1) for i in range(blocks)]
        return jnp.concatenate([solve(name, part, w[i], dense) for i, part in enumerate(parts)], axis=-1)
    out = jnp.moveaxis(lax.map(lambda pair: solve(name, pair[0], pair[1], dense), (_blocks_first(a, blocks), w)), 0, -2)
    return out.reshape(*out.shape[:-2], math.prod(out.shape[-2:]))


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1] // problem.groups, y.shape[-1] // problem.groups
    # the stacked windows of one group are taps / groups times as large as x
    few_taps = problem.taps <= min(MAX_TAPS, MAX_GROWTH * problem.groups)
    if MIN_CHANNELS_ALONE <= min(channels, filters) < WIDTH and few_taps:
        return _correlate_groups(x, y, problem, arithmetic)
    together = _groups_per_block(problem, channels, y.shape[-1])
    blocks, dense = problem.groups // together, replace(problem, groups=1)
    if blocks <= MAX_UNROLLED:
        pairs = zip(jnp.split(x, blocks, axis=-1), jnp.split(y, blocks, axis=-1), strict=True)
        parts = jnp.stack([solve("correlate", *pair, dense) for pair in pairs])
    else:  # by products: XLA's convolution of the kernel gradient is several times slower inside a loop
        both = (_blocks_first(x, blocks), _blocks_first(y, blocks))
        parts = lax.map(lambda pair: correlate_by_products(pair[0], pair[1], dense, arithmetic, solve), both)
    # (blocks, *w, groups of a block * channels, groups of a block * filters): keep equal groups
    parts = parts.reshape(blocks, *problem.w, together, channels, together, filters)
    kept = jnp.diagonal(parts, axis1=-4, axis2=-2)  # (blocks, *w, channels, filters, groups of a block)
    kept = jnp.swapaxes(jnp.moveaxis(kept, 0, -1), -1, -3)  # (*w, channels, blocks, groups of a block, filters)
    return kept.reshape(*problem.w, channels, problem.groups * filters)


def _correlate_groups(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute ``K(x, y)`` in a loop over the groups."""
    x, y = (_blocks_first(a, problem.groups) for a in (pad(x, problem.pads), y))
    channels, filters = x.shape[-1], y.shape[-1]

    def group(pair: tuple[Array, Array]) -> Array:
        x, y = pair
        return arithmetic.dot(y, stack_windows(x, problem).reshape(y.shape[-1], -1), ([1], [0]))

    w = lax.map(group, (x, transposed_copy(y.reshape(problem.groups, -1, filters))))
    w = w.reshape(problem.groups, filters, problem.taps, channels)
    return w.transpose(2, 3, 0, 1).reshape(*problem.w, channels, -1)


def _groups_per_block(problem: Problem, channels: int, all_filters: int) -> int:
    """Return how many groups make one block: a divisor of their number, for about WIDTH channels and filters."""
    groups, narrow = problem.groups, min(channels, all_filters // problem.groups)
    return next(n for n in range(min(groups, max(1, -(-WIDTH // narrow))), 0, -1) if groups % n == 0)


def _dense(w: Array, groups: int, together: int) -> Array:
    """Return the kernels of the blocks, (blocks, *w, channels, filters), zero between the groups of each."""
    *spatial, channels, filters = w.shape
    blocks, own = groups // together, filters // groups
    w = jnp.moveaxis(w.reshape(*spatial, channels, blocks, together, own), -3, 0)
    if together == 1:
        return w.reshape(blocks, *spatial, channels, own)
    eye = jnp.eye(together, dtype=bool).reshape(together, 1, together, 1)
    w = jnp.where(eye, w[..., None, :, :, :], jnp.zeros((), w.dtype))  # not a product: w may be NaN
    return w.reshape(blocks, *spatial, together * channels, together * own)


def _blocks_first(a: Array, blocks: int) -> Array:
    return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, a.shape[-1] // blocks), -2, 0)


BLOCK_DIAGONAL = Lowering(
    "block_diagonal", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, limits
)
