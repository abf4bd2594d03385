"""Computations that XLA compiles separately on CPU, without fusing them with others.

On CPU, XLA removes optimization barriers before it fuses. A call that it must not inline remains.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import mlir, xla

_thread = threading.local()

# the identity; a call whose result is its operand is not inlined
_not_inlined = Primitive("not_inlined")
_not_inlined.def_impl(functools.partial(xla.apply_primitive, _not_inlined))
_not_inlined.def_abstract_eval(lambda a: a)

_ATTRIBUTES = "mhlo.frontend_attributes"


def apart(compute: Callable[..., Any], *operands: Array) -> Any:
    """Return ``compute(*operands)``, a tree of arrays, which XLA on CPU does not fuse with anything around it.

    Otherwise XLA fuses the computation with everything that reads the arrays, and repeats it each time. If there are no
    operands, the results are constants whose values XLA does not know.
    """
    if getattr(_thread, "platform", "cpu") != "cpu":
        return compute(*operands)
    return jax.tree.map(_not_inlined.bind, jax.jit(compute)(*operands))


@contextlib.contextmanager
def tracing_for(platform: str | None) -> Iterator[None]:
    """Set the platform for which this thread traces inside. On others than CPU, ``apart`` has no effect."""
    before = getattr(_thread, "platform", "cpu")
    _thread.platform = platform
    try:
        yield
    finally:
        _thread.platform = before


def _mark(context: Any, a: Any) -> list[Any]:
    call = a.owner
    if getattr(call, "name", None) == "func.call":  # outside of jit it is not a call
        attributes: dict[str, Any] = {"inlineable": ir.StringAttr.get("false")}
        if _ATTRIBUTES in call.attributes:
            others = ir.DictAttr(call.attributes[_ATTRIBUTES])
            attributes |= {others[i].name: others[i].attr for i in range(len(others))}
        call.attributes[_ATTRIBUTES] = ir.DictAttr.get(attributes)
    return [a]


mlir.register_lowering(_not_inlined, _mark, cacheable=False)
