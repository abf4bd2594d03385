"""Lowering "direct": C as one XLA convolution in the form for which XLA's CPU backend has fast code.

Channels last in every array, no groups, no stretched input; T and K are others' work. The half types are computed in
float32, which is what XLA's convolution does with them anyway, one conversion later.
"""

from typing import Any

import jax
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.problem import Problem

Array = jax.Array

LETTERS = "DHW"


def refuses(name: str, problem: Problem, shapes: Any) -> str | None:
    """Say why this lowering cannot compute a map, or None where it can."""
    return None


def convolve(x: Array, w: Array, problem: Problem, how: Arithmetic, solve: Any) -> Array:
    """Compute ``C(x, w)``."""
    return convolution(how.widen(x), how.widen(w), problem, how)


def convolution(x: Array, w: Array, problem: Problem, how: Arithmetic) -> Array:
    """Call XLA on operands in standard form."""
    axes = LETTERS[len(LETTERS) - problem.rank :]
    return lax.conv_general_dilated(
        x, w, problem.strides, problem.pads, None, problem.dilation, (f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=problem.groups, precision=how.precision,
    )  # fmt: skip
