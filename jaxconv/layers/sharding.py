"""The sharding of results on meshes with Explicit axes, for operations that JAX has no rule for."""

import math
from collections.abc import Iterable
from typing import Any

import jax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxconv.dtypes import broadcast


def explicit_sharding(x: Array, *inner: Array) -> NamedSharding | None:
    """Return the sharding of an array with the axes of ``x``, then the last axis of each ``inner``.

    Returns None if ``x`` is not on a mesh with Explicit axes.
    """
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return sharding.update(spec=PartitionSpec(*sharding.spec, *(jax.typeof(one).sharding.spec[-1] for one in inner)))


def broadcast_like(value: Array, x: Array) -> Array:
    """Broadcast a weight to the shape, dtype and sharding of ``x``, so that its gradient is summed before it moves."""
    return broadcast(value, x.shape, x.dtype, explicit_sharding(x))


def gather_axes(x: Array, axes: Iterable[int]) -> Array:
    """Gather some axes of an array on a mesh with Explicit axes, for operations that read these axes entirely."""
    sharding, axes = explicit_sharding(x), set(axes)
    if sharding is None or not any(sharding.spec[axis] for axis in axes):
        return x
    spec = [None if axis in axes else names for axis, names in enumerate(sharding.spec)]
    return jax.sharding.reshard(x, sharding.update(spec=PartitionSpec(*spec)))


def gather_uneven(x: Array, lengths: Iterable[Any]) -> Array:
    """Gather the axes of an array whose new lengths are not a multiple of their number of shards.

    Explicit axes cannot have unequal shards.
    """
    sharding = explicit_sharding(x)
    if sharding is None:
        return x
    parts = [math.prod(sharding.mesh.shape[name] for name in _names(entry)) for entry in sharding.spec]
    return gather_axes(x, [axis for axis, (n, count) in enumerate(zip(lengths, parts, strict=True)) if n % count])


def _names(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry or ()


def sharded_like(value: Array, x: Array, axes: Iterable[int]) -> Array:
    """Return a weight whose first axes are sharded as ``axes`` of ``x`` are on a mesh with Explicit axes."""
    sharding = explicit_sharding(x)
    if sharding is None:
        return value
    spec = PartitionSpec(*(sharding.spec[axis] for axis in axes))
    return jax.sharding.reshard(value, sharding.update(spec=spec))
