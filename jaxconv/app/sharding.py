"""Communication between devices for a model: the table of ``jaxconv info --devices``. Programs are not run."""

import contextlib
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxconv.app.model_source import ModelSource, shape_option
from jaxconv.app.schema import ConfigError
from jaxconv.contract.display import format_shapes
from jaxconv.inspect import Communication, communication
from jaxconv.inspect.observing import channel_axis
from jaxconv.registry import nearest

NAMES = {"steps": "time", "height": "rows", "width": "columns"}  # other names of axes
NOTE = "bytes of the results on one device; permute: halos of neighbours, reduce: sums, gather: arrays made whole"


def host_devices(count: int) -> list[Any]:
    """Return CPU devices, which JAX creates as parts of the host. Raises ConfigError if JAX has started with fewer."""
    if count < 2:
        raise ConfigError(f"--devices {count}: expected at least 2")
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", count)
    try:
        devices = jax.devices("cpu")
    except RuntimeError as error:
        raise ConfigError(f"--devices {count}: {error}") from None
    if len(devices) < count:
        flag = f"XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise ConfigError(f"--devices {count}: JAX has started with {len(devices)} CPU devices; start it with {flag}")
    return devices[:count]


def exchanged(source: ModelSource, devices: list[Any], shard: str, batch: int | None) -> Communication:
    """Return the data that devices exchange for each layer of a model. Raises ConfigError.

    shard: the axis that is sharded: "batch", the name of a spatial axis, or its number with the batch as 0. batch:
    examples; by default those of the config, or 32.
    """
    if batch is None:
        batch = 32 if source.config is None else source.config.train.batch_size
    elif batch < 1:
        raise ConfigError(f"--batch {batch}: expected at least 1")
    shapes, structure = jax.tree.flatten(source.input_shape, is_leaf=lambda one: isinstance(one, tuple))
    if any(None in shape[1:] for shape in shapes):
        raise ConfigError(f"--devices: the input has unknown lengths; give numbers: {shape_option(source.input_shape)}")
    mesh = Mesh(np.asarray(devices), ("shards",), axis_types=(AxisType.Auto,))
    inputs, allowed = [], dict[str, int]()
    for shape in ((batch, *shape[1:]) for shape in shapes):
        axes = _axes(source.layer, len(shape))
        allowed |= axes
        axis, spec = axes.get(NAMES.get(shard, shard)), PartitionSpec()
        if axis is not None:
            _check_length(shard, shape[axis], len(devices))
            spec = PartitionSpec(*[None] * axis, "shards")
        inputs.append(jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, spec)))
    if NAMES.get(shard, shard) not in allowed:
        text, hint = format_shapes(source.input_shape), nearest(shard, allowed)
        raise ConfigError(f"--shard {shard}: the input, of shape {text}, has no such axis; {hint}")
    return communication(source.layer, jax.tree.unflatten(structure, inputs))


def _axes(layer: Any, rank: int) -> dict[str, int]:
    """Return the axes that can be sharded in an input of this rank, by name and by number."""
    names = ["time"] if rank == 3 else ["depth", "rows", "columns"][5 - rank :] if rank in (4, 5) else []
    first = 2 if names and channel_axis(layer, layer.children or [""], rank) == 1 else 1
    named = {"batch": 0} | {name: first + number for number, name in enumerate(names)}
    return named | {str(axis): axis for axis in (0, *range(first, first + rank - 2))}


def _check_length(shard: str, length: int, devices: int) -> None:
    if length % devices:
        below, above = length // devices * devices, -(-length // devices) * devices
        allowed = f"{below} or {above}" if below else f"at least {above}"
        option = "--batch" if shard in ("batch", "0") else "--input-shape"
        raise ConfigError(
            f"--shard {shard}: its length {length} is not divisible by {devices} devices; expected "
            f"{allowed}; give it with {option}"
        )
