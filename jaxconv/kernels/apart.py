"""Computations that XLA compiles by themselves on CPU, and does not fuse with others.

On CPU, XLA removes optimization barriers before it fuses. A call that it may not inline stays.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import mlir, xla


def apart(compute: Callable[..., Any], *operands: Array) -> Any:
    """Return ``compute(*operands)``, a tree of arrays, which XLA on CPU does not fuse with anything around it.

    Otherwise XLA fuses the computation with everything that reads the arrays, and repeats it each time. Of constants,
    which a computation without operands returns, XLA then does not know the values.
    """
    return jax.tree.map(_not_inlined.bind, jax.jit(compute)(*operands))


# the identity; on CPU, the call whose result it is given stays a call
_not_inlined = Primitive("not_inlined")
_not_inlined.def_impl(functools.partial(xla.apply_primitive, _not_inlined))
_not_inlined.def_abstract_eval(lambda a: a)


def _keep(context: Any, a: Any) -> list[Any]:
    attributes = ir.DictAttr.get({"inlineable": ir.StringAttr.get("false")})
    a.owner.attributes["mhlo.frontend_attributes"] = attributes
    return [a]


mlir.register_lowering(_not_inlined, lambda context, a: [a], cacheable=False)
mlir.register_lowering(_not_inlined, _keep, platform="cpu", cacheable=False)
