"""The arithmetic of a lowering: the dtype of its sums, and the precision of its matrix products."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax


def is_high(precision: Any) -> bool:
    """Return whether a ``precision`` argument of ``jax.lax`` requests a higher precision than the default."""
    if isinstance(precision, tuple | list):
        return any(map(is_high, precision))
    try:
        return lax.Precision(precision or "default") != lax.Precision.DEFAULT
    except ValueError:
        return True  # the name of an algorithm


class Arithmetic(NamedTuple):
    """The dtypes and the precision of one map.

    accumulate_dtype: the dtype of sums; float32 for narrower floats. result_dtype: the dtype of the result. precision:
    the precision of matrix products. A lowering returns one of the two dtypes, and rounds to ``result_dtype`` only when
    a sum is complete.
    """

    accumulate_dtype: Any
    result_dtype: Any
    precision: Any = None

    @classmethod
    def of(cls, operand_dtype: Any, result_dtype: Any, precision: Any) -> "Arithmetic":
        """Return the arithmetic for operands and a result of these dtypes."""
        is_half = jnp.dtype(operand_dtype).itemsize < 4
        return cls(jnp.dtype(jnp.float32 if is_half else operand_dtype), jnp.dtype(result_dtype), precision)

    def dot(self, a: Array, b: Array, contract: tuple[Sequence[int], Sequence[int]], batch: Any = ((), ())) -> Array:
        """Contract axes of a with axes of b, as ``lax.dot_general`` does, and sum in the accumulation dtype."""
        return lax.dot_general(
            a, b, (contract, batch), precision=self.precision, preferred_element_type=self.accumulate_dtype
        )

    def upcast(self, a: Array) -> Array:
        """Cast an operand to the accumulation dtype."""
        return a.astype(self.accumulate_dtype)
