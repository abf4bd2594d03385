"""Placement of batches and weights: on one device, or sharded over the devices of one or several processes.

Each process reads only the part of the data that its own devices need.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxconv.training.data import Arrays, Batch, Loader, host_array, narrows

_WHOLE = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Placement:
    """The placement of all arrays of a run.

    Args:
        mesh: the devices, with Auto axes; None for one device.
        spec: the sharding of the axes of a batch.
        given: the mesh with the axis types that the user gave, for the returned weights.
    """

    mesh: Mesh | None = None
    spec: PartitionSpec = _WHOLE
    given: Mesh | None = None

    @classmethod
    def of(cls, sharding: Any, data: Any = ()) -> "Placement":
        """Return the placement for the argument ``sharding`` of ``fit``, ``evaluate`` and ``predict``, and their data.

        Raises TypeError or ValueError for an invalid sharding, or for data that do not fit it.
        """
        if sharding is None:
            _check_on_one_device(data)
            return cls()
        mesh, spec = _mesh_and_spec(sharding)
        missing = [axis for axis in _axes(spec) if axis not in mesh.axis_names]
        if missing:
            raise ValueError(f"sharding={spec} names the axis {missing[0]!r}; those of the mesh are {mesh.axis_names}")
        auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        return cls(auto, spec, mesh)

    def check(self, data: Arrays | Loader) -> Arrays | Loader:
        """Return the source of batches. Raises ValueError if the devices cannot split its batches evenly."""
        shards = self.shards(0)
        if isinstance(data, Arrays) and data.batch_size % shards:
            got = f"batch_size is {data.batch_size}, and sharding={self.spec} splits it over {shards} devices"
            raise ValueError(f"{got}; expected a multiple of {shards}")
        return data

    @property
    def several_processes(self) -> bool:
        """Return whether the devices belong to several processes."""
        return self.mesh is not None and self.mesh.is_multi_process

    @property
    def writes(self) -> bool:
        """Return whether this process writes files and shows progress: it is the only one or the first one."""
        return not self.several_processes or jax.process_index() == 0

    @property
    def replicated(self) -> NamedSharding | None:
        """Return the sharding of a value that is replicated on every device."""
        return None if self.mesh is None else NamedSharding(self.mesh, _WHOLE)

    def agree(self, flag: bool) -> bool:
        """Return the flag of the first process, in all processes. All processes must call this method."""
        return bool(multihost_utils.broadcast_one_to_all(np.asarray(flag))) if self.several_processes else flag

    def active(self) -> Any:
        """Return a context without the user's mesh, whose axes may be Explicit."""
        if self.mesh is None or not jax.sharding.get_abstract_mesh().axis_names:
            return contextlib.nullcontext()
        return jax.set_mesh(self.mesh)

    def shards(self, axis: int) -> int:
        """Return the number of parts into which an axis of a batch is split."""
        names = _axes(self.spec[axis : axis + 1])
        return 1 if self.mesh is None else math.prod(self.mesh.shape[name] for name in names)

    # -- batches

    def batch(self, batch: Batch) -> Batch:
        """Return a batch on the devices of the mesh; without a mesh it stays on the host, and the step transfers it.

        A batch that cannot be split evenly is replicated on each device. Targets and weights are split along the axes
        that have the same lengths as those of ``x``. Raises ValueError for an input that the sharding does not fit.
        """
        inputs = [np.shape(leaf) for leaf in jax.tree.leaves(batch.x)]
        for shape in inputs:
            self._check_shape(shape)
        place = host_array if self.mesh is None else functools.partial(self._place, inputs=inputs)
        x, y, weight = jax.tree.map(place, (batch.x, batch.y, batch.sample_weight))
        return Batch(x, y, weight, batch.state)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        spec = self.spec
        if len(spec) > len(shape):
            raise ValueError(f"sharding={spec} has {len(spec)} axes, and a batch of shape {shape} has {len(shape)}")
        for axis in range(1, len(spec)):
            shards = self.shards(axis)
            if shape[axis] % shards:
                low = shape[axis] // shards * shards
                allowed = f"lengths are {low} and {low + shards}" if low else f"length is {shards}"
                got = f"sharding={spec} splits axis {axis} of a batch of shape {shape} over {shards} devices"
                raise ValueError(f"{got}; the nearest valid {allowed}")

    def _place(self, leaf: Any, inputs: list[tuple[int, ...]]) -> jax.Array:
        assert self.mesh is not None
        shape = np.shape(leaf)
        fits = [
            any(axis < len(x) and x[axis] == size for x in inputs) and size % self.shards(axis) == 0
            for axis, size in enumerate(shape)
        ]
        spec = PartitionSpec(*(part if fit else None for part, fit in zip(self.spec, fits, strict=False)))
        whole = host_array(leaf) if narrows(leaf.dtype) else leaf
        read: dict[str, np.ndarray] = {}  # devices that need the same part share it

        def part(index: Any) -> np.ndarray:
            if str(index) not in read:
                read[str(index)] = host_array(whole[index])
            return read[str(index)]

        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, spec), part)

    # -- weights, and the state of training

    def put(self, tree: Any, like: Any = None) -> Any:
        """Return a tree of arrays on the mesh: replicated, unless they are already sharded over this mesh.

        Without a mesh, arrays are put on one device, including arrays that are replicated on several. All processes
        must give the same arrays. ``like`` has the sharding to use. Raises ValueError for an array that is sharded over
        another mesh.
        """
        if self.mesh is None:
            return jax.tree_util.tree_map_with_path(_on_one_device, tree)
        return jax.tree_util.tree_map_with_path(self._put, tree, tree if like is None else like)

    def _put(self, path: Any, leaf: Any, like: Any) -> jax.Array:
        assert self.mesh is not None
        mesh, given = self.mesh, getattr(like, "sharding", None)
        spec = _WHOLE
        if given is not None and not given.is_fully_replicated:
            if not isinstance(given, NamedSharding) or not _same_mesh(given.mesh, mesh):
                raise ValueError(f"{_name(path)} of params is sharded over {given}; the mesh of sharding= is {mesh}")
            spec = given.spec
        to = NamedSharding(mesh, spec)
        if not self.several_processes or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return jax.device_put(leaf, to)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._put(path, jax.random.key_data(leaf), None)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, to, lambda index: whole[index])

    def returned(self, tree: Any) -> Any:
        """Return a tree of arrays on the mesh with the user's axis types, which may be Explicit."""
        given = self.given
        if given is None or given == self.mesh:
            return tree
        return jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(given, leaf.sharding.spec)), tree)

    def whole(self, tree: Any) -> Any:
        """Return a tree of arrays that this process can read. All processes must call this method."""
        if not self.several_processes:
            return tree
        return jax.jit(lambda tree: tree, out_shardings=self.replicated)(tree)


def shardings(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the shardings of a tree of arrays in a hashable form: the structure and the shardings of the leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(leaf.sharding for leaf in leaves)


def _mesh_and_spec(sharding: Any) -> tuple[Mesh, PartitionSpec]:
    """Return the mesh and the spec of a batch."""
    if isinstance(sharding, NamedSharding):
        if not isinstance(sharding.mesh, Mesh):
            raise TypeError(f"the mesh of sharding={sharding} has no devices; give one of jax.make_mesh")
        return sharding.mesh, sharding.spec
    if isinstance(sharding, PartitionSpec):
        names, mesh = _axes(sharding), jax.sharding.get_mesh()
        if not mesh.empty:
            return mesh, sharding
        if len(names) != 1:
            got = f"sharding={sharding} names {len(names)} axes, and no mesh is set"
            raise ValueError(f"{got}; give a NamedSharding, or call within jax.set_mesh")
        return _all_devices(names[0]), sharding
    if isinstance(sharding, str) and sharding == "data":
        return _all_devices("data"), PartitionSpec("data")
    raise TypeError(f"sharding is {sharding!r}; give a NamedSharding or a PartitionSpec of a batch, or 'data'")


def _all_devices(axis: str) -> Mesh:
    return jax.make_mesh((jax.device_count(),), (axis,), axis_types=(AxisType.Auto,))


def _axes(spec: Any) -> list[str]:
    """Return the names of the mesh axes in a spec."""
    return [name for part in spec if part is not None for name in ((part,) if isinstance(part, str) else part)]


def _same_mesh(one: Any, other: Any) -> bool:
    """Return whether two meshes differ at most in the types of their axes."""
    return isinstance(one, Mesh) and one.axis_names == other.axis_names and np.array_equal(one.devices, other.devices)


def _on_one_device(path: Any, leaf: Any) -> Any:
    """Return an array on one device; an array that is replicated on several devices, on the first of them."""
    if not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1:
        return leaf
    if not leaf.is_fully_replicated:
        raise ValueError(f"{_name(path)} of params is sharded over {leaf.sharding}, and sharding is not given; give it")
    return leaf.addressable_data(0)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check_on_one_device(data: Any) -> None:
    """Raise ValueError for data that are on several devices although no sharding was given."""
    if isinstance(data, Mapping | tuple):
        for part in data.values() if isinstance(data, Mapping) else data:
            _check_on_one_device(part)
    elif isinstance(data, jax.Array) and len(data.sharding.device_set) > 1:
        got = f"an array of shape {data.shape} is on {len(data.sharding.device_set)} devices"
        raise ValueError(f"{got}, and sharding is not given; give sharding='data' or that of a batch")
