"""XLA's own convolution, for the lowerings. Knows how to keep it from being replaced by :func:`jaxconv.accelerate`.

A lowering is traced while JAX compiles the primitive that it computes. What it traces with ``jax.lax`` is compiled by
the rules in force, and ``accelerate`` replaces the one of the convolution. So lowerings bind a primitive of the same
parameters whose rule is always XLA's.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

_thread = threading.local()
_primitive = Primitive("conv_general_dilated_xla")
_rules: dict[str | None, Callable[..., Any]] = {}  # by platform; None for all others


def xla_convolution(lhs: Any, rhs: Any, *arguments: Any, **options: Any) -> jax.Array:
    """Call ``jax.lax.conv_general_dilated``; while a lowering is traced, the result is XLA's own convolution."""
    if not (_rules and getattr(_thread, "is_tracing", False)):
        return lax.conv_general_dilated(lhs, rhs, *arguments, **options)
    traced = jax.make_jaxpr(lambda lhs, rhs: lax.conv_general_dilated(lhs, rhs, *arguments, **options))(lhs, rhs)
    (equation,) = traced.eqns
    return _primitive.bind(lhs, rhs, **equation.params)


@contextlib.contextmanager
def tracing_a_lowering() -> Iterator[None]:
    """Mark that what this thread traces inside is the computation of a lowering."""
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
