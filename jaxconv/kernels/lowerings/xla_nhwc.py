"""Lowering "xla_nhwc": C and K as one XLA convolution in the form for which XLA's CPU backend has fast code.

That is channels last in every array, no dilated input, and no groups in K. 16-bit floats are computed in float32, as
XLA's convolution does anyway, one conversion later. K is the convolution of x with the kernel y: the batch is summed
over, the channels of x are its batch, strides and dilation are exchanged.
"""

import jax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.xla_convolution import xla_convolution

Array = jax.Array


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if name == "correlate" and problem.groups > 1:
        return f"it computes the kernel gradient of one group, not {problem.groups}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``C(x, w)``."""
    axes = "DHW"[3 - problem.rank :]
    return xla_convolution(
        arithmetic.upcast(x), arithmetic.upcast(w), problem.strides, problem.pads, None, problem.dilation,
        (f"N{axes}C", f"{axes}IO", f"N{axes}C"), feature_group_count=problem.groups, precision=arithmetic.precision,
    )  # fmt: skip


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``K(x, y)``."""
    axes = "DHW"[3 - problem.rank :]
    return xla_convolution(
        arithmetic.upcast(x), arithmetic.upcast(y), problem.dilation, problem.pads, None, problem.strides,
        (f"C{axes}N", f"I{axes}O", f"{axes}NC"), precision=arithmetic.precision,
    )  # fmt: skip


XLA_NHWC = Lowering("xla_nhwc", {"convolve": convolve, "correlate": correlate}, limits)
