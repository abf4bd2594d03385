"""Promotion of types by JAX's usual rule, also where the user has made implicit promotion an error."""

from typing import Any

import jax
import jax.numpy as jnp


def promote(*dtypes: Any) -> Any:
    """Give the type that holds values of all ``dtypes``.

    >>> promote(jnp.bfloat16, jnp.float32)
    dtype('float32')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)
