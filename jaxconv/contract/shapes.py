"""Shapes of inputs, batch first: reading one from an argument, an array or a structure of arrays.

Independent of layers. A structure is a JAX pytree of lists and dicts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int | None, ...]
LEAF = jax.tree.structure(0)  # the structure of a single value


def as_shape(shape: Any, where: str, least_rank: int = 0) -> Shape:
    """Return a shape, batch first, from a shape, an array or a ``jax.ShapeDtypeStruct``. Unknown sizes are None.

    Raises ValueError for fewer axes than ``least_rank``: 1 for the batch, 2 for batch and channels.
    """
    found = tuple(shape.shape) if hasattr(shape, "shape") else _sizes(shape, where)
    if len(found) < least_rank:
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
    """Return a list of shapes from a list or tuple of shapes or arrays, for a layer of several inputs."""
    several = isinstance(shapes, list | tuple) and all(hasattr(s, "shape") or isinstance(s, Sequence) for s in shapes)
    if not several or not shapes:
        got = as_shape(shapes, where) if hasattr(shapes, "shape") else shapes
        raise TypeError(f"{where}: takes a list of inputs; got one of shape {got}; give [x1, x2, ...]")
    return [as_shape(shape, where) for shape in shapes]


def shape_of(x: Any) -> Any:
    """Return the shape of an array, or the structure of the shapes of several.

    >>> shape_of([np.ones((2, 3)), np.ones(4)])
    [(2, 3), (4,)]
    """
    if isinstance(x, Mapping):
        return {name: shape_of(value) for name, value in x.items()}
    if isinstance(x, list | tuple) and any(hasattr(value, "shape") for value in x):
        return [shape_of(value) for value in x]
    return tuple(np.shape(x))


def as_array(x: Any, dtype: Any) -> jax.Array:
    """Convert an input to a JAX array; 64-bit integers, which JAX would wrap to 32 bits, go to ``dtype`` on the host.

    ``dtype`` is the type that an integer input is cast to in the end. Raises ValueError for integers that an integer
    type cannot hold.

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
