"""Type promotion by JAX's standard rules, even if the user has made implicit promotion an error."""

from typing import Any

import jax
import jax.numpy as jnp


def promote(*dtypes: Any) -> Any:
    """Return the dtype that ``dtypes`` promote to.

    >>> promote(jnp.bfloat16, jnp.float32)
    dtype('float32')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def widen(x: jax.Array) -> jax.Array:
    """Cast an array to the dtype in which to sum it: at least float32."""
    return x.astype(promote(x.dtype, jnp.float32))


def broadcast(value: Any, shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> jax.Array:
    """Broadcast an array to a shape and cast it; the gradient, a sum over the copies, is computed in float32.

    A sum of thousands of terms stagnates in half precision: each new term is lost in the rounding of the sum.

    >>> broadcast(jnp.ones(3, jnp.bfloat16), (2, 3), jnp.bfloat16).shape
    (2, 3)
    """
    return jnp.broadcast_to(widen(value), shape, out_sharding=sharding).astype(dtype)
