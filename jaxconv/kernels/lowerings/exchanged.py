"""Lowering "exchanged": K of few filters as K of few channels, with x and y exchanged.

    K(x, y) = mirror(K'(y, x))        as in        w[j] = sum_o x[o + j - pad] y[o] = sum_i y[i - j + pad] x[i]

K' is the kernel gradient of the convolution of y with the mirrored kernel, which is T. The windows of the taps are
copied: those of y are smaller than those of x if there are fewer filters than channels, and x is read once instead of
once for each tap.

Zero times NaN is NaN: y is padded instead of x, so a value of x that is not finite reaches every tap, even one that
does not read it.
"""

import jax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem, Shapes, exact, mirror, mirrored
from jaxconv.kernels.taps import pad

Array = jax.Array


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    channels, filters = shapes["x"][-1], shapes["y"][-1]
    if filters >= channels:
        return f"it needs fewer filters than channels, not {filters} and {channels}"
    if max(problem.strides) > 1:
        return f"it takes strides of 1, not {problem.strides}"
    return None


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    y, problem = _lengthened(y, problem)
    return mirror(solve("correlate", y, x, mirrored(problem)), problem.groups)


def _lengthened(y: Array, problem: Problem) -> tuple[Array, Problem]:
    """Pad y with zeros to the length of x, as in "same" padding: XLA's convolution is slow with wide pads."""
    p = problem
    more = [max(0, n - o) for n, o in zip(p.x, p.y, strict=True)]
    pads = []
    for extra, extent, (low, _) in zip(more, p.extents, p.pads, strict=True):
        before = min(max((extent - 1) // 2 - low, 0), extra)
        pads.append((before, extra - before))
    lengths = tuple(o + extra for o, extra in zip(p.y, more, strict=True))
    lows = tuple(low + before for (low, _), (before, _) in zip(p.pads, pads, strict=True))
    return pad(y, pads), exact(p.x, p.w, lengths, p.strides, p.dilation, lows, p.groups)


EXCHANGED = Lowering("exchanged", {"correlate": correlate}, limits)
