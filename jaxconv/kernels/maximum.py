"""The largest values along axes, differentiated without comparing values that XLA computes twice.

The derivative of a maximum needs to know which values equal it. XLA computes a cheap operand in the loop that finds the
maximum, and again in the loop that compares. It may round it differently there, and then nothing is equal. On CPU it
removes optimization barriers before it fuses loops, but it computes the operands of a conditional once.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir, xla

from jaxconv.dtypes import promote
from jaxconv.kernels.partition import explicit_mesh
from jaxconv.kernels.varying import varying_zeros

Axes = tuple[int, ...]


def largest_along(x: Array, axes: Axes) -> Array:
    """Return the largest values along axes, which are kept; values that equal the largest one share the gradient.

    >>> largest_along(jnp.array([[3.0, 1.0, 2.0]]), (1,))
    Array([[3.]], dtype=float32)
    """
    return _largest(x, axes) if jnp.issubdtype(x.dtype, jnp.inexact) else x.max(axes, keepdims=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: Array, axes: Axes) -> Array:
    return x.max(axes, keepdims=True)


@_largest.defjvp
def _largest_jvp(axes: Axes, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (y, _), (change, _) = _compared_jvp(axes, primals, tangents)
    return y, change


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _compared(x: Array, axes: Axes) -> tuple[Array, Array]:
    """Return the largest values, and which values equal them; all do if one is NaN."""

    def compare(x: Array) -> tuple[Array, Array]:
        y = x.max(axes, keepdims=True)
        return y, ~(x < y)

    def never(x: Array) -> tuple[Array, Array]:
        largest, equal = jax.eval_shape(compare, x)
        zeros = varying_zeros(largest.shape, largest.dtype, x)
        zeros = jax.sharding.reshard(zeros, largest.sharding) if explicit_mesh(x) is not None else zeros
        return zeros, lax.full_like(x, 0, equal.dtype)

    return lax.platform_dependent(
        x,
        cpu=lambda x: lax.cond(_replica.bind() < np.uint32(2**31), compare, never, x),  # XLA does not know that it is 0
        default=lambda x: compare(lax.optimization_barrier(x)),
    )


@_compared.defjvp
def _compared_jvp(axes: Axes, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    (x,), (tangent,) = primals, tangents
    y, equal = _compared(x, axes)
    wide = promote(x.dtype, np.float32)  # float16 does not count beyond 2048
    share = jnp.where(equal, tangent, jnp.zeros_like(tangent)).sum(axes, keepdims=True).astype(wide)
    change = (share / equal.sum(axes, keepdims=True, dtype=wide)).astype(tangent.dtype)
    return (y, equal), (change, np.zeros(equal.shape, jax.dtypes.float0))


_replica = Primitive("replica_id")
_replica.def_impl(functools.partial(xla.apply_primitive, _replica))
_replica.def_abstract_eval(lambda: ShapedArray((), np.dtype(np.uint32)))
mlir.register_lowering(_replica, lambda context: [stablehlo.replica_id()])
