"""Values that XLA does not know when it compiles, and computations that it does not fuse with others.

On CPU, XLA removes optimization barriers before it fuses. A conditional on such a value stays.
"""

from collections.abc import Callable, Sequence
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

    def apart(self, compute: Callable[[], Any], shapes: Sequence[Sequence[int]]) -> Any:
        """Compute arrays of these shapes in a conditional that is always taken.

        Otherwise XLA fuses the computation with everything that reads the arrays, and repeats it each time.
        """

        def never() -> Any:
            return tuple(varying_zeros(shape, self.any_value.dtype, self.any_value) for shape in shapes)

        return lax.cond(self.one == 1, compute, never)

    def hide(self, known: Any) -> Any:
        """Return numpy arrays, in a tree, as values that XLA does not know."""
        never = jax.tree.map(lambda a: a + a.dtype.type(1), known)  # constants: for zeros, XLA would compile a loop
        return lax.cond(self.one == 1, lambda: known, lambda: never)


def apart(compute: Callable[..., Array], *operands: Array) -> Array:
    """Return ``compute(*operands)`` of one or two operands.

    XLA does not fuse it with what computes the operands or reads the result.
    """
    shape = jax.eval_shape(compute, *operands)
    unknown = Unknown.of(operands[0], operands[-1])
    unknown = unknown._replace(any_value=unknown.any_value.astype(shape.dtype))
    (result,) = unknown.apart(lambda: (compute(*operands),), [shape.shape])
    return result


def _first_entry(a: Array) -> Array:
    """Return one entry of an array; of a symbolic one, which may not be sliced, a 0."""
    if not all(isinstance(n, int) for n in a.shape):
        return jnp.zeros((), a.dtype)
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
