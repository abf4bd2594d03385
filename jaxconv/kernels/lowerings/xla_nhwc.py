"""Lowering "xla_nhwc": C as one XLA convolution in the form for which XLA's CPU backend has fast code.

That is channels last in every array, no groups, no dilated input. The half types are computed in float32, which is
what XLA's convolution does with them anyway, one conversion later.
"""

import jax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem
from jaxconv.kernels.xla_convolution import xla_convolution

Array = jax.Array


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``C(x, w)``."""
    axes = "DHW"[3 - problem.rank :]
    return xla_convolution(
        arithmetic.upcast(x), arithmetic.upcast(w), problem.strides, problem.pads, None, problem.dilation,
        (f"N{axes}C", f"{axes}IO", f"N{axes}C"), feature_group_count=problem.groups, precision=arithmetic.precision,
    )  # fmt: skip


XLA_NHWC = Lowering("xla_nhwc", {"convolve": convolve})
