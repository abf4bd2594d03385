"""Lowering "polyphase": T without dilating y: each position within a stride, a phase, has its own small convolution.

    x[q * s + p] = sum over the taps j with (j * d) mod s == p of y[q - (j * d - p) / s] w[j]

With stride 1 there is one phase, and T is the convolution with the mirrored kernel. With more, the s phases are s
convolutions, each with every s-th tap, or one convolution whose filters are the phases, with zeros where a phase has
fewer taps: that wastes work, but fills the matrix units where x has few channels.
A kernel as long as the stride is one matrix product and a reshape.

Zero times NaN is NaN: in one convolution with zeros, a value of y that is not finite reaches up to s - 1 positions
beyond the kernel. A check of y costs 10 to 25 percent of the small convolutions for which this form is the fastest.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem, Sizes, exact, mirror, mirrored

Array = jax.Array

# one convolution for all phases: the products relative to those that are needed, where x has many channels
MAX_WASTE = 1.34
FEW_CHANNELS = 16
MAX_CONVOLUTIONS = 64


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    p = problem
    if max(p.strides) == 1:
        return solve("convolve", y, mirror(w, p.groups), mirrored(p))
    # positions of x, counted from the start of the padding, in rounds of one stride
    rounds = tuple(-(-(n + max(low, 0)) // s) for n, (low, _), s in zip(p.x, p.pads, p.strides, strict=True))
    undilated = max(p.dilation) == 1
    filled = math.prod(-(-k // s) * s for k, s in zip(p.w, p.strides, strict=True)) / p.taps
    any_waste = w.shape[-2] <= FEW_CHANNELS or math.prod(p.strides) > MAX_CONVOLUTIONS
    if p.groups == 1 and undilated and (any_waste or filled <= MAX_WASTE):
        z = _as_filters(y, w, p, rounds, solve)
    else:
        z = _one_by_one(y, w, p, rounds, arithmetic, solve)
    x = _interleave(z, p.strides)
    config = [(0, 0, 0)]
    for n, (low, _), s, r in zip(p.x, p.pads, p.strides, rounds, strict=True):
        config.append((-low, n + low - r * s, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])


def _as_filters(y: Array, w: Array, p: Problem, rounds: Sizes, solve: Solve) -> Array:
    """Compute (batch, *rounds, *phases, channels) by one convolution."""
    rank, channels, filters = p.rank, w.shape[-2], w.shape[-1]
    taps = tuple(-(-k // s) for k, s in zip(p.w, p.strides, strict=True))
    full = [(0, t * s - k, 0) for t, s, k in zip(taps, p.strides, p.w, strict=True)]
    w = lax.pad(w, jnp.zeros((), w.dtype), [*full, (0, 0, 0), (0, 0, 0)])
    w = w.reshape(*(size for pair in zip(taps, p.strides, strict=True) for size in pair), channels, filters)
    order = [2 * axis for axis in range(rank)] + [2 * rank + 1] + [2 * axis + 1 for axis in range(rank)] + [2 * rank]
    w = lax.rev(w.transpose(order), range(rank)).reshape(*taps, filters, -1)
    inner = exact(p.y, taps, rounds, (1,) * rank, (1,) * rank, tuple(t - 1 for t in taps), 1)
    return solve("convolve", y, w, inner).reshape(y.shape[0], *rounds, *p.strides, channels)


def _one_by_one(y: Array, w: Array, p: Problem, rounds: Sizes, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute (batch, *rounds, *phases, channels) by one convolution for each phase."""
    channels = w.shape[-2] * p.groups
    # the taps of one phase are s / gcd(s, d) apart, and the positions of y that they read d / gcd(s, d)
    common = [math.gcd(s, d) for s, d in zip(p.strides, p.dilation, strict=True)]
    steps = [s // c for s, c in zip(p.strides, common, strict=True)]
    rates = tuple(d // c for d, c in zip(p.dilation, common, strict=True))
    parts = []
    for phase in np.ndindex(*p.strides):
        found = [_first_tap(*facts) for facts in zip(phase, p.strides, p.dilation, p.w, strict=True)]
        firsts = [tap for tap in found if tap is not None]
        if len(firsts) < p.rank:
            parts.append(jnp.zeros((y.shape[0], *rounds, channels), arithmetic.accumulate_dtype))
            continue
        own = w[tuple(slice(first, None, step) for first, step in zip(firsts, steps, strict=True))]
        # the first tap of this phase reads y this many positions back
        back = [(j * d - f) // s for j, d, f, s in zip(firsts, p.dilation, phase, p.strides, strict=True)]
        low = tuple((k - 1) * rate + b for k, rate, b in zip(own.shape, rates, back, strict=False))
        inner = exact(p.y, own.shape[: p.rank], rounds, (1,) * p.rank, rates, low, p.groups)
        parts.append(solve("convolve", y, mirror(own, p.groups), inner))
    return jnp.stack(parts, axis=-2).reshape(y.shape[0], *rounds, *p.strides, channels)


def _first_tap(phase: int, stride: int, rate: int, length: int) -> int | None:
    return next((j for j in range(min(length, stride)) if j * rate % stride == phase), None)


def _interleave(z: Array, strides: Sizes) -> Array:
    """Reorder (batch, *rounds, *phases, channels) to (batch, *(rounds * phases), channels)."""
    rank = len(strides)
    order = [0, *(axis for a in range(rank) for axis in (1 + a, 1 + rank + a)), 2 * rank + 1]
    shape = [n * s for n, s in zip(z.shape[1 : 1 + rank], strides, strict=True)]
    return z.transpose(order).reshape(z.shape[0], *shape, z.shape[-1])


POLYPHASE = Lowering("polyphase", {"transpose": transpose}, sums=("transpose",))
