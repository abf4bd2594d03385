"""The sharding of results on meshes with Explicit axes, for operations that JAX has no rule for."""

import jax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxconv.dtypes import broadcast


def explicit_sharding(x: Array, *inner: Array) -> NamedSharding | None:
    """Return the sharding of an array with the axes of ``x``, then the last axis of each ``inner``.

    It is None where ``x`` is not on a mesh with Explicit axes.
    """
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return sharding.update(spec=PartitionSpec(*sharding.spec, *(jax.typeof(one).sharding.spec[-1] for one in inner)))


def broadcast_like(value: Array, x: Array) -> Array:
    """Broadcast a weight to the shape, dtype and sharding of ``x``, so that its gradient is summed before it moves."""
    return broadcast(value, x.shape, x.dtype, explicit_sharding(x))
