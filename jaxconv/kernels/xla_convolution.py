"""XLA's own convolution, for the lowerings; ``jaxconv.accelerate`` does not replace it.

A lowering is traced while JAX compiles the primitive that it computes. Operations of ``jax.lax`` that it calls are
compiled by the active rules, and ``accelerate`` replaces the rule of the convolution. So lowerings bind a primitive
with the same parameters whose rule is always XLA's.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from jaxconv.geometry import Pairs

_thread = threading.local()
_primitive = Primitive("conv_general_dilated_xla")
_rules: dict[str | None, Callable[..., Any]] = {}  # by platform; None for all others


def xla_convolution(
    lhs: jax.Array, rhs: jax.Array, strides: Sequence[int], padding: Pairs, lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None, dimension_numbers: Any, **options: Any,
) -> jax.Array:  # fmt: skip
    """Call ``jax.lax.conv_general_dilated``; while a lowering is traced, the result is XLA's own convolution."""
    lhs, padding = _crop(lhs, padding, lhs_dilation, dimension_numbers)

    def convolve(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, **options
        )

    if not (_rules and getattr(_thread, "is_tracing", False)):
        return convolve(lhs, rhs)
    (equation,) = jax.make_jaxpr(convolve)(lhs, rhs).eqns
    return _primitive.bind(lhs, rhs, **equation.params)


def xla_product(lhs: jax.Array, rhs: jax.Array, **options: Any) -> jax.Array:
    """Return the product of two matrices, as a convolution of one tap.

    XLA's CPU backend gives a product of matrices to YNNPACK, which divides the work into large pieces: small products
    run on one core. A convolution of one tap with a dilation, which has no effect, becomes a product after that step
    of the compilation, and Eigen divides it between all cores.
    """
    numbers = ("NWC", "WIO", "NWC")
    return xla_convolution(lhs[None], rhs[None], (1,), ((0, 0),), None, (2,), numbers, **options)[0]


def _crop(
    lhs: jax.Array, padding: Pairs, lhs_dilation: Sequence[int] | None, dimension_numbers: Any
) -> tuple[jax.Array, Pairs]:
    """Crop the operand by the negative low pads that XLA does not handle correctly, and remove these pads.

    XLA's CPU backend reads past the end of an operand that is cropped at the start and padded at the end of one axis,
    without dilation: the last outputs are then sums of unrelated memory.
    """
    dilation = lhs_dilation or (1,) * len(padding)
    crops = [-low if low < 0 < high and d == 1 else 0 for (low, high), d in zip(padding, dilation, strict=True)]
    if not any(crops):
        return lhs, padding
    axes = lax.conv_dimension_numbers(lhs.shape, lhs.shape, dimension_numbers).lhs_spec[2:]
    starts = dict(zip(axes, crops, strict=True))
    lhs = lax.slice(lhs, [starts.get(axis, 0) for axis in range(lhs.ndim)], lhs.shape)
    return lhs, tuple((low + crop, high) for (low, high), crop in zip(padding, crops, strict=True))


@contextlib.contextmanager
def tracing_a_lowering() -> Iterator[None]:
    """Mark that this thread traces the computation of a lowering inside the block."""
    before = getattr(_thread, "is_tracing", False)
    _thread.is_tracing = True
    try:
        yield
    finally:
        _thread.is_tracing = before


def keep_rules(rules: dict[str | None, Callable[..., Any]]) -> None:
    """Compile :func:`xla_convolution` by these lowering rules from now on."""
    _primitive.def_abstract_eval(lambda *avals, **params: lax.conv_general_dilated_p.abstract_eval(*avals, **params)[0])
    for platform, rule in rules.items():
        mlir.register_lowering(_primitive, rule, platform=platform)
    _rules.update(rules)
