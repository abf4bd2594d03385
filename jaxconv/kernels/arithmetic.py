"""How the products of a lowering are summed: the type, and the precision of dots.

Knows no map.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


class Arithmetic(NamedTuple):
    """The type in which sums are held, float32 for the half types, that of the result, and the precision of dots.

    A lowering gives the wide type or the result's. It may give the latter only when a sum is complete.
    """

    wide: Any
    out: Any
    precision: Any = None

    def dot(self, a: Array, b: Array, contract: tuple[Sequence[int], Sequence[int]], batch: Any = ((), ())) -> Array:
        """Contract axes of a with axes of b, as ``lax.dot_general`` does; the sum is wide."""
        return lax.dot_general(a, b, (contract, batch), precision=self.precision, preferred_element_type=self.wide)

    def widen(self, a: Array) -> Array:
        """Bring an operand to the type of the sums."""
        return a.astype(self.wide)


def arithmetic(operands: Any, result: Any, precision: Any) -> Arithmetic:
    """Give the arithmetic for the types of operands and result."""
    half = jnp.dtype(operands).itemsize < 4
    return Arithmetic(jnp.dtype(jnp.float32 if half else operands), jnp.dtype(result), precision)
