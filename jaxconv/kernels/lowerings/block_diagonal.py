"""Lowering "block_diagonal": grouped convolutions as a few dense ones of several groups each, or group by group.

Groups of four channels do not fill the matrix units. A dense convolution combines enough groups for 32 channels, with a
kernel that is zero between the groups: it computes more products, but ten times as many per second. K of such a block
also computes the products between the groups, and keeps the diagonal.

If the products of one group are wide enough, each group is computed separately, without any waste: C with the taps of
the first axis stacked with the filters and the others with the channels, as in the lowering "stacked_taps"; K of many
taps likewise, and K of few taps with all of them stacked with the channels. With 7x7 taps, groups of eight channels
have products of 56 x 56. A loop runs over the groups, or over batches of them, so that the stacks stay in the cache.

Zero times NaN is NaN: dense C and T of data that are not finite are computed group by group, so that such a value stays
in its group, as in ``vmap`` over models of which one diverged. The check takes 1 to 4 percent of the time of large
convolutions, and 0.02 to 0.04 ms of small ones.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.kernels.apart import apart
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings import stacked_taps
from jaxconv.kernels.lowerings.matmul import correlate as correlate_by_products
from jaxconv.kernels.parts import divisor, entry_at, slice_at
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import pad, stack_windows, transposed_copy

Array = jax.Array

WIDTH = 32
# each group separately: the fewest channels and filters, with taps on both sides of the products and on one; the most
# taps; the largest stacked operands of K, relative to x; the most entries of one step
MIN_DIVIDED, MIN_ALONE, MAX_TAPS, MAX_GROWTH, STEP = 4, 8, 64, 6, 1 << 20
MAX_OF_SIGNALS, MANY_GROUPS = 8, 16  # C of one axis: the most channels and filters, and the fewest groups
FEW_TAPS = 25  # K: with up to so many, all are stacked with the channels
MAX_WASTE = 2  # products with taps on both sides, relative to the necessary ones
# more dense convolutions run in a loop, so that the program stays short; the loop takes up to 1.2 times as long
MAX_UNROLLED = 8
# the channels and filters with which one group is a block; 28x28x24 in 8 groups, k3x3: C 10.8 -> 7.2, T 10.7 -> 7.9,
# K 9.9 -> 7.8
WIDE = 20


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    return "it needs more than one group" if problem.groups == 1 else None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    channels, filters = w.shape[-2], w.shape[-1] // problem.groups
    if is_alone("convolve", problem, channels, filters):
        return _convolve_groups(x, w, problem, arithmetic, solve)
    return _map_groups("convolve", x, w, problem, arithmetic, solve)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    return _map_groups("transpose", y, w, problem, arithmetic, solve)


def _map_groups(name: str, a: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute one map in blocks of several groups, or of one group if the data are not finite."""
    together = _groups_per_block(problem, *w.shape[-2:])

    def of(together: int, unrolled: int = MAX_UNROLLED) -> Callable[[Array, Array], Array]:
        return lambda a, w: _map_blocks(name, a, w, problem, solve, together, unrolled).astype(arithmetic.result_dtype)

    return of(1)(a, w) if together == 1 else lax.cond(jnp.all(jnp.isfinite(a)), of(together), of(1, 1), a, w)


def _map_blocks(name: str, a: Array, w: Array, problem: Problem, solve: Solve, together: int, unrolled: int) -> Array:
    """Compute one map block by block, in a loop if there are more than ``unrolled`` blocks."""
    w = _dense(w, problem.groups, together)
    blocks, dense = w.shape[0], replace(problem, groups=1)
    if blocks == 1:
        return solve(name, a, w[0], dense)

    def block(i: Array) -> Array:
        kernel = apart(lambda w: entry_at(w, i), w)
        return solve(name, _block(a, i, a.shape[-1] // blocks), kernel, dense)

    if blocks <= unrolled:
        return jnp.concatenate([block(i) for i in _numbers(blocks)], axis=-1)
    out = lax.map(block, jnp.arange(blocks))
    out = jnp.moveaxis(out, 0, -2)
    return out.reshape(*out.shape[:-2], math.prod(out.shape[-2:]))


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1] // problem.groups, y.shape[-1] // problem.groups
    if is_alone("correlate", problem, channels, filters):
        return _correlate_groups(x, y, problem, arithmetic)
    together = _groups_per_block(problem, channels, y.shape[-1])
    blocks, dense = problem.groups // together, replace(problem, groups=1)
    widths = together * channels, together * filters
    one, other = (jax.ShapeDtypeStruct((*a.shape[:-1], n), a.dtype) for a, n in zip((x, y), widths, strict=True))

    def block(i: Array) -> Array:
        return solve("correlate", _block(x, i, widths[0]), _block(y, i, widths[1]), dense)

    # programs of "winograd" are long, and one in a loop is as fast as several
    if blocks > 1 and solve.chosen("correlate", one, other, dense) == "winograd":
        parts = lax.map(block, jnp.arange(blocks))
    elif blocks <= MAX_UNROLLED:
        parts = jnp.stack([block(i) for i in _numbers(blocks)])
    else:  # by products: XLA's convolution of the kernel gradient is many times slower inside a loop
        both = (_blocks_first(x, blocks), _blocks_first(y, blocks))
        parts = lax.map(lambda pair: correlate_by_products(pair[0], pair[1], dense, arithmetic, solve), both)
    # (blocks, *w, groups of a block * channels, groups of a block * filters): keep equal groups
    parts = parts.reshape(blocks, *problem.w, together, channels, together, filters)
    kept = jnp.diagonal(parts, axis1=-4, axis2=-2)  # (blocks, *w, channels, filters, groups of a block)
    kept = jnp.swapaxes(jnp.moveaxis(kept, 0, -1), -1, -3)  # (*w, channels, blocks, groups of a block, filters)
    return kept.reshape(*problem.w, channels, problem.groups * filters)


def is_alone(name: str, problem: Problem, channels: int, filters: int) -> bool:
    """Return whether C or K of each group is computed separately: its products are wide, unlike its convolution."""
    first = _beside_filters(name, problem)
    beside_channels = problem.taps // first.taps
    if name == "convolve":
        fits = first.rank == 1 and max(first.taps, beside_channels) <= stacked_taps.MAX_TAPS
    else:
        fits = first.taps + beside_channels <= MAX_GROWTH * problem.groups
    most = WIDTH - 1
    if problem.groups <= MAX_UNROLLED and (name == "convolve" or max(problem.strides) == 1):
        most = WIDE - 1
    if name == "convolve" and problem.rank == 1:
        most = MAX_OF_SIGNALS if problem.groups >= MANY_GROUPS else 0
    wide = (MIN_DIVIDED if first.rank else MIN_ALONE) <= min(channels, filters) <= most
    return wide and fits and problem.taps <= MAX_TAPS


def _beside_filters(name: str, problem: Problem) -> Problem:
    """Return the first axis or none, whose taps are stacked with the filters. The others are with the channels."""
    p = problem
    few_wasted = p.strides[0] == 1 and p.x[0] <= MAX_WASTE * p.y[0]
    many_taps = name == "convolve" or (p.rank > 1 and p.taps > FEW_TAPS)
    return p.axes(slice(0, 1 if few_wasted and many_taps else 0))


def _convolve_groups(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``, each group separately."""
    dense = replace(problem, groups=1)
    x, w = _blocks_first(x, problem.groups), _dense(w, problem.groups, 1)

    def group(pair: tuple[Array, Array]) -> Array:
        return stacked_taps.convolve(pair[0], pair[1], dense, arithmetic, solve)

    together = _groups_per_step("convolve", problem, x.shape[1], x.shape[-1], w.shape[-1])
    y = lax.map(group, (x, w), batch_size=together)
    return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], -1)


def _correlate_groups(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute ``K(x, y)``, each group separately."""
    p, groups, filters = problem, problem.groups, y.shape[-1] // problem.groups
    first = _beside_filters("correlate", p)
    inner = p.axes(slice(first.rank, None))
    x = _blocks_first(pad(x, [*((0, 0),) * first.rank, *inner.pads]), groups)
    y = transposed_copy(y.reshape(-1, groups * filters))
    y = y.reshape(groups, filters, -1, *p.y[: first.rank], math.prod(inner.y))

    def group(pair: tuple[Array, Array]) -> Array:
        x, y = pair
        rows = stack_windows(x.reshape(-1, *x.shape[1 + first.rank :]), inner)
        if first.rank:
            shifts = [j * p.dilation[0] - p.pads[0][0] for j in range(p.w[0])]
            y = jnp.stack([pad(y, [(shift, p.x[0] - p.y[0] - shift)], 2) for shift in shifts])
        y = y.reshape(first.taps * filters, -1)
        return arithmetic.dot(y, rows.reshape(y.shape[1], -1), ([1], [0]))

    channels = x.shape[-1]
    together = _groups_per_step("correlate", p, x.shape[1], channels, filters)
    w = lax.map(group, (x, y), batch_size=together if together > 1 else None)
    w = w.reshape(groups, first.taps, filters, inner.taps, channels)
    return w.transpose(1, 3, 4, 0, 2).reshape(*p.w, channels, -1)


def _groups_per_step(name: str, problem: Problem, batch: Any, channels: int, filters: int) -> int:
    """Return the number of groups in one step, whose stacks and products stay in the cache."""
    p, first = problem, _beside_filters(name, problem)
    positions = (batch if isinstance(batch, int) else 1) * math.prod((*first.x, *p.y[first.rank :]))
    size = positions * (p.taps // first.taps * channels + first.taps * filters)
    return divisor(p.groups, STEP // size)


def _groups_per_block(problem: Problem, channels: int, all_filters: int) -> int:
    """Return the number of groups in one block: a divisor of their number, for about WIDTH channels and filters."""
    groups, narrow = problem.groups, min(channels, all_filters // problem.groups)
    if groups <= MAX_UNROLLED and narrow >= WIDE:
        return 1
    return divisor(groups, -(-WIDTH // narrow))


def _dense(w: Array, groups: int, together: int) -> Array:
    """Return the kernels of the blocks, (blocks, *w, channels, filters), zero between the groups of each."""
    *spatial, channels, filters = w.shape
    blocks, filters = groups // together, filters // groups
    w = jnp.moveaxis(w.reshape(*spatial, channels, blocks, together, filters), -3, 0)
    if together == 1:
        return w.reshape(blocks, *spatial, channels, filters)
    eye = jnp.eye(together, dtype=bool).reshape(together, 1, together, 1)
    w = jnp.where(eye, w[..., None, :, :, :], jnp.zeros((), w.dtype))  # not a product: w may be NaN
    return w.reshape(blocks, *spatial, together * channels, together * filters)


def _block(a: Array, i: Array, width: int) -> Array:
    """Return a copy of one block of channels.

    If it were fused with the sums that read it, each sum would read rows that are far apart in ``a``.
    """
    return apart(lambda a: slice_at(a, i * width, width, -1), a)


def _numbers(count: int) -> list[Array]:
    """Return 0, 1, ... as values that XLA does not know, so that the slices of all blocks are one program."""
    return apart(lambda: [np.int32(i) for i in range(count)])


def _blocks_first(a: Array, blocks: int) -> Array:
    return jnp.moveaxis(a.reshape(*a.shape[:-1], blocks, a.shape[-1] // blocks), -2, 0)


BLOCK_DIAGONAL = Lowering(
    "block_diagonal", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, limits
)
