"""Values that XLA does not know when it compiles, and computations that it does not fuse with others.

On CPU, XLA removes optimization barriers before it fuses. A conditional on such a value stays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxconv.kernels.varying import varying_zeros


class Unknown(NamedTuple):
    """Values that XLA does not know when it compiles, because they depend on the operands.

    They order and separate computations.

    one: the integer 1, computed from the first operand. any_value: some number, computed from both operands.
    """

    one: Array
    any_value: Array

    @classmethod
    def of(cls, first: Array, second: Array) -> "Unknown":
        entries = [_first_entry(operand) for operand in (first, second)]
        is_positive = (entries[0] > 0).astype(jnp.int32)
        return cls(is_positive * is_positive - is_positive + 1, entries[0] + entries[1])

    def apart(self, compute: Callable[[], Any]) -> Any:
        """Compute arrays in a conditional.

        Otherwise XLA fuses the computation with everything that reads the arrays, and repeats it each time. Both
        branches are the same computation, so that XLA compiles its code once; any other branch would need code of its
        own. The computation must not return an operand unchanged, for then XLA removes the conditional: see
        :func:`copied`.
        """
        return lax.cond(self.one == 1, compute, compute)

    def hide(self, known: Any) -> Any:
        """Return numpy arrays, in a tree, as values that XLA does not know."""
        never = jax.tree.map(lambda a: a + a.dtype.type(1), known)  # constants: for zeros, XLA would compile a loop
        return lax.cond(self.one == 1, lambda: known, lambda: never)


def apart(compute: Callable[..., Array], *operands: Array) -> Array:
    """Return ``compute(*operands)``, which XLA does not fuse with what computes the operands or reads the result."""
    return Unknown.of(operands[-1], operands[0]).apart(lambda: compute(*operands))


def copied(a: Array) -> Array:
    """Return a copy of an array, which XLA does not fuse with what computes the array or reads the copy."""
    return lax.cond(Unknown.of(a, a).one == 1, lambda: a, lambda: varying_zeros(a.shape, a.dtype, a))


def _first_entry(a: Array) -> Array:
    """Return one entry of an array; of a symbolic one, which may not be sliced, a 0."""
    if not all(isinstance(n, int) for n in a.shape):
        return jnp.zeros((), a.dtype)
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
