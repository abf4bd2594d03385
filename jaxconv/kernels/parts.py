"""Computation of a batch in parts, access at traced indices, and copies of bfloat16."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax


def divisor(number: Any, most: int) -> Any:
    """Return the largest divisor of a number that is at most ``most``, or 1; return a symbolic number unchanged.

    >>> divisor(12, 5)
    4
    """
    if not isinstance(number, int):
        return number
    return next(n for n in range(max(1, min(most, number)), 0, -1) if number % n == 0)


def in_parts(compute: Callable[[Array], Array], x: Array, images: Any, dtype: Any) -> Array:
    """Return ``compute(x)``, of this dtype, computed ``images`` at a time; this must divide the batch size."""
    batch = x.shape[0]
    if images == batch:
        return compute(x)
    parts = _bits(x).reshape(batch // images, images, *x.shape[1:])
    y = _typed(lax.map(lambda part: _bits(compute(_typed(part, x.dtype))), parts), dtype)
    return y.reshape(batch, *y.shape[2:])


def part_at(a: Array, i: Array, images: int) -> Array:
    """Return the i-th part of a batch; i is traced in a loop."""
    return as_bits(lambda a: slice_at(a, i * images, images, 0), a)


def slice_at(a: Array, start: Any, length: int, axis: int) -> Array:
    """Return a slice that starts at a traced index, which must not be negative: XLA then compiles less code."""
    return lax.dynamic_slice_in_dim(a, start, length, axis, allow_negative_indices=False)


def entry_at(a: Array, i: Array) -> Array:
    """Return the i-th entry along the first axis, for a traced index that is not negative."""
    return lax.dynamic_index_in_dim(a, i, 0, keepdims=False, allow_negative_indices=False)


def update_at(a: Array, part: Array, start: Any, axis: int) -> Array:
    """Return a copy of an array in which ``part`` replaces the entries from a traced index, which is not negative."""
    return lax.dynamic_update_slice_in_dim(a, part, start, axis, allow_negative_indices=False)


def as_bits(move: Callable[[Array], Array], a: Array) -> Array:
    """Return ``move(a)`` for a function that only copies entries and inserts zeros.

    bfloat16 is copied as integers: XLA on CPU converts it to float32 before each copy, and back.
    """
    return _typed(move(_bits(a)), a.dtype)


def _bits(a: Array) -> Array:
    return lax.bitcast_convert_type(a, jnp.uint16) if a.dtype == jnp.bfloat16 else a


def _typed(a: Array, dtype: Any) -> Array:
    return a if a.dtype == dtype else lax.bitcast_convert_type(a, dtype)
