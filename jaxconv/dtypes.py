"""Type promotion by JAX's standard rules, also if the user has made implicit promotion an error."""

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
