"""Lowering "polyphase": strided maps as unstrided maps of the phases of x.

    x[q * s + p] = sum over the taps j with (j * d) mod s == p of y[q - (j * d - p) / s] w[j]

The positions of x within a stride are its phases. In T, each phase has its own small convolution of y, which is not
dilated. With stride 1 there is one phase, and T is the convolution with the mirrored kernel. With larger strides, there
is one convolution for each phase, with every s-th tap, or one for all phases, which are its filters, with zeros where a
phase has fewer taps: this wastes work, but fills the matrix units if x has few channels.
A kernel as long as the stride is one matrix product and a reshape.

In C and K, the phases become channels of x, by a reshape for one axis and by a transposed copy for more. Each phase is
extended to the taps of the longest one, and K drops the taps that the kernel lacks. C requires all phases to have the
same number of taps; with one axis, the remaining taps are computed without phases and added.

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
from jaxconv.kernels.problem import Problem, Shapes, Sizes, exact, mirror, mirrored, permuted
from jaxconv.kernels.taps import pad

Array = jax.Array

# one convolution for all phases: the most products relative to those that are needed, if x has many channels
MAX_WASTE = 1.34
FEW_CHANNELS = 16
MAX_CONVOLUTIONS = 64


def tap_growth(problem: Problem) -> float:
    """Return the number of taps of all phases, extended to the longest, relative to that of the kernel."""
    return math.prod(-(-k // s) * s for k, s in zip(problem.w, problem.strides, strict=True)) / problem.taps


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if name == "transpose":
        return None
    if max(problem.strides) == 1 or max(problem.dilation) > 1:
        return "it needs a stride above 1, and no dilation"
    if name == "convolve" and tap_growth(problem) > 1 and (problem.rank > 1 or problem.w < problem.strides):
        return "it needs strides that divide the kernel lengths, or one axis whose kernel is longer than the stride"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""

    def stacked(w: Array, p: Problem, unfinished: bool = False) -> Array:
        shown, inner = _as_channels(x, p)
        return solve("convolve", shown, _taps_as_channels(w, p), inner, unfinished)

    if tap_growth(problem) == 1:
        return stacked(w, problem)
    p, whole = problem, problem.w[0] // problem.strides[0] * problem.strides[0]
    low = p.pads[0][0]
    first, last = (
        exact(p.x, (taps,), p.y, p.strides, p.dilation, (low - start,), p.groups)
        for start, taps in ((0, whole), (whole, p.w[0] - whole))
    )
    return stacked(w[:whole], first, True) + solve("convolve", x, w[whole:], last, True)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    p = problem
    if max(p.strides) == 1:
        return solve("convolve", y, mirror(w, p.groups), mirrored(p))
    # positions of x, counted from the start of the padding, in rounds of one stride
    rounds = tuple(-(-(n + max(low, 0)) // s) for n, (low, _), s in zip(p.x, p.pads, p.strides, strict=True))
    undilated = max(p.dilation) == 1
    any_waste = w.shape[-2] <= FEW_CHANNELS or math.prod(p.strides) > MAX_CONVOLUTIONS
    if p.groups == 1 and undilated and (any_waste or tap_growth(p) <= MAX_WASTE):
        z = _as_filters(y, w, p, rounds, solve)
    else:
        z = _one_by_one(y, w, p, rounds, arithmetic, solve)
    x = _interleave(z, p.strides)
    config = [(0, 0, 0)]
    for n, (low, _), s, r in zip(p.x, p.pads, p.strides, rounds, strict=True):
        config.append((-low, n + low - r * s, 0))
    return lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    p, channels = problem, x.shape[-1] // problem.groups
    x, inner = _as_channels(x, p)
    w = solve("correlate", x, y, inner)
    w = _interleave(w.reshape(1, *inner.w, *p.strides, -1), p.strides)
    return lax.slice(w, (0,) * w.ndim, (1, *p.w, w.shape[-1])).reshape(*p.w, channels, -1)


def _as_channels(x: Array, p: Problem) -> tuple[Array, Problem]:
    """Return (batch, *rounds, groups * phases * channels), padded, and the unstrided problem for it."""
    taps = tuple(-(-k // s) for k, s in zip(p.w, p.strides, strict=True))
    rounds = tuple(o + t - 1 for o, t in zip(p.y, taps, strict=True))
    lengths = [r * s for r, s in zip(rounds, p.strides, strict=True)]
    x = pad(x, [(low, whole - n - low) for whole, n, (low, _) in zip(lengths, p.x, p.pads, strict=True)])
    split = [size for pair in zip(rounds, p.strides, strict=True) for size in pair]
    x = x.reshape(x.shape[0], *split, p.groups, x.shape[-1] // p.groups)
    group = 2 * p.rank + 1
    x = permuted(x, [0, *range(1, group, 2), group, *range(2, group, 2), group + 1])
    ones = (1,) * p.rank
    return x.reshape(x.shape[0], *rounds, -1), exact(rounds, taps, p.y, ones, ones, (0,) * p.rank, p.groups)


def _taps_as_channels(w: Array, p: Problem) -> Array:
    """Return the kernel (*taps of a phase, phases * channels, filters); phases with fewer taps have zeros."""
    taps = [-(-k // s) for k, s in zip(p.w, p.strides, strict=True)]
    full = [(0, t * s - k, 0) for t, s, k in zip(taps, p.strides, p.w, strict=True)]
    w = lax.pad(w, jnp.zeros((), w.dtype), [*full, (0, 0, 0), (0, 0, 0)])
    w = w.reshape(*(size for pair in zip(taps, p.strides, strict=True) for size in pair), *w.shape[-2:])
    order = [*range(0, 2 * p.rank, 2), *range(1, 2 * p.rank, 2), 2 * p.rank, 2 * p.rank + 1]
    return w.transpose(order).reshape(*taps, -1, w.shape[-1])


def _as_filters(y: Array, w: Array, p: Problem, rounds: Sizes, solve: Solve) -> Array:
    """Compute (batch, *rounds, *phases, channels) by one convolution."""
    rank, channels = p.rank, w.shape[-2]
    w = mirror(_taps_as_channels(w, p), 1)
    taps = w.shape[:rank]
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
        kernel = w[tuple(slice(first, None, step) for first, step in zip(firsts, steps, strict=True))]
        # the first tap of this phase reads y this many positions back
        back = [(j * d - f) // s for j, d, f, s in zip(firsts, p.dilation, phase, p.strides, strict=True)]
        low = tuple((k - 1) * rate + b for k, rate, b in zip(kernel.shape, rates, back, strict=False))
        inner = exact(p.y, kernel.shape[: p.rank], rounds, (1,) * p.rank, rates, low, p.groups)
        parts.append(solve("convolve", y, mirror(kernel, p.groups), inner))
    return jnp.stack(parts, axis=-2).reshape(y.shape[0], *rounds, *p.strides, channels)


def _first_tap(phase: int, stride: int, rate: int, length: int) -> int | None:
    return next((j for j in range(min(length, stride)) if j * rate % stride == phase), None)


def _interleave(z: Array, strides: Sizes) -> Array:
    """Reorder (batch, *rounds, *phases, channels) to (batch, *(rounds * phases), channels)."""
    rank = len(strides)
    order = [0, *(axis for a in range(rank) for axis in (1 + a, 1 + rank + a)), 2 * rank + 1]
    shape = [n * s for n, s in zip(z.shape[1 : 1 + rank], strides, strict=True)]
    return z.transpose(order).reshape(z.shape[0], *shape, z.shape[-1])


MAPS = {"convolve": convolve, "transpose": transpose, "correlate": correlate}
POLYPHASE = Lowering("polyphase", MAPS, limits, sums=("transpose",))
