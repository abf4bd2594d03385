"""The mesh axes over which arrays vary inside ``jax.shard_map``, which loop carries and bilinear maps must agree on."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def varying_axes(*arrays: Array) -> frozenset[str]:
    """Return the mesh axes over which any of the arrays varies."""
    return frozenset().union(*(jax.typeof(array).mat.varying for array in arrays))


def vary_alike(*arrays: Array) -> tuple[Array, ...]:
    """Mark all arrays as varying over the same mesh axes, such as a replicated kernel and sharded data."""
    axes = varying_axes(*arrays)

    def mark(array: Array) -> Array:
        missing = axes - varying_axes(array)
        return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array

    return tuple(map(mark, arrays))


def varying_zeros(shape: Sequence[int], dtype: Any, *operands: Array) -> Array:
    """Return zeros for a loop carry to which the loop adds values computed from the operands."""
    zeros = jnp.zeros(shape, dtype)
    axes = varying_axes(*operands)
    return jax.lax.pcast(zeros, tuple(axes), to="varying") if axes else zeros
