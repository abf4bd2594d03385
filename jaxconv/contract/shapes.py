"""Shapes of inputs, batch first: conversion of arguments, arrays and structures of arrays.

A structure is a JAX pytree of lists and dicts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int | None, ...]
LEAF = jax.tree.structure(0)  # the structure of a single value


def as_shape(shape: Any, where: str, min_rank: int = 0) -> Shape:
    """Convert a shape, an array or a ``jax.ShapeDtypeStruct`` to a shape.

    Args:
        shape: batch first; an unknown size is None or a symbolic dimension.
        where: the name of the layer or function, for messages.
        min_rank: the minimum number of axes: 1 for the batch, 2 for batch and channels.

    Raises:
        ValueError: fewer axes than ``min_rank``; a negative size.
        TypeError: a value that is not a shape, or a size that is not an integer.

    >>> as_shape([None, 128, 16], "Conv1D"), as_shape(np.ones((2, 3)), "Dense")
    ((None, 128, 16), (2, 3))
    """
    found = tuple(shape.shape) if hasattr(shape, "shape") else _sizes(shape, where)
    if len(found) < min_rank:
        missing, allowed = ("channels", "(batch, ..., channels)") if found else ("batch axis", "(batch, ...)")
        raise ValueError(f"{where}: input of shape {found} has no {missing}; give {allowed}")
    return found


def _sizes(shape: Any, where: str) -> Shape:
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        got = f"a {type(shape).__name__}" if isinstance(shape, Mapping) else repr(shape)
        raise TypeError(f"{where}: cannot read {got} as a shape; give one like (None, 128, 16), or an array")
    sizes: list[Any] = []
    for size in shape:
        if isinstance(size, jax.core.Tracer):
            raise TypeError(f"{where}: the shape is traced; it must be static: jax.jit(layer.init, static_argnums=1)")
        if size is None or jax.export.is_symbolic_dim(size):
            sizes.append(size)
        elif isinstance(size, bool) or not hasattr(size, "__index__"):
            raise TypeError(f"{where}: size {size!r} in shape {tuple(shape)} is neither an integer nor None")
        elif size < 0:
            raise ValueError(f"{where}: size {size} in shape {tuple(shape)} is negative; sizes are at least 0")
        else:
            sizes.append(size.__index__())
    return tuple(sizes)


def as_shapes(shapes: Any, where: str) -> list[Shape]:
    """Convert a list or tuple of shapes or arrays to a list of shapes, for a layer with several inputs.

    Args:
        shapes: one entry for each input, as for :func:`as_shape`.
        where: the name of the layer or function, for messages.

    Raises:
        TypeError: a value that is not a list of shapes, or an empty list. The errors of :func:`as_shape`.

    >>> as_shapes([(None, 4), np.ones((2, 3))], "Add")
    [(None, 4), (2, 3)]
    """
    several = isinstance(shapes, list | tuple) and all(hasattr(s, "shape") or isinstance(s, Sequence) for s in shapes)
    if not several or not shapes:
        got = as_shape(shapes, where) if hasattr(shapes, "shape") else shapes
        raise TypeError(f"{where}: takes a list of inputs; got one of shape {got}; give [x1, x2, ...]")
    return [as_shape(shape, where) for shape in shapes]


def shape_of(x: Any) -> Any:
    """Return the shape of an array, or the structure of the shapes of several arrays.

    Args:
        x: an array, a number, or a structure of arrays; tuples in it become lists.

    >>> shape_of([np.ones((2, 3)), np.ones(4)])
    [(2, 3), (4,)]
    """
    if isinstance(x, Mapping):
        return {name: shape_of(value) for name, value in x.items()}
    if isinstance(x, list | tuple) and any(hasattr(value, "shape") for value in x):
        return [shape_of(value) for value in x]
    return tuple(np.shape(x))


def as_array(x: Any, dtype: Any) -> jax.Array:
    """Convert an input to a JAX array; 64-bit integers, which JAX would wrap to 32 bits, are converted on the host.

    They become int32 if ``dtype``, the type that the input is finally cast to, is an integer type, and float32
    otherwise. Raises ValueError for integers that do not fit in int32.

    >>> as_array(np.array([3_000_000_000]), np.float32)
    Array([3.e+09], dtype=float32)
    """
    if isinstance(x, jax.Array) or jax.config.read("jax_enable_x64"):
        return jnp.asarray(x)
    host = np.asarray(x)
    if host.dtype.kind not in "iu" or host.dtype.itemsize < 8:
        return jnp.asarray(x)
    if not jnp.issubdtype(dtype, jnp.integer):
        return jnp.asarray(host.astype(np.float32))
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    if host.size and not (low <= host.min() and host.max() <= high):
        raise ValueError(f"integers from {host.min()} to {host.max()} do not fit in 32 bits, from {low} to {high}")
    return jnp.asarray(host.astype(np.int32))
