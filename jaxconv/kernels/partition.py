"""Partitioning of the maps over devices: a local problem, an exchange of halos, and one sum for contracted indices.

In a program for several devices, XLA's partitioner decides how to split each operation. It cannot split the loops and
copies of a lowering, and gathers their operands. So each map defines its own partitioning. The batch and the spatial
axes may be sharded, and so may channels and filters if there are no groups. Each device then solves the same problem on
its part, by the lowering that is best for that part. Without this, the batch of every grouped convolution is gathered
(openxla/xla#47945).

This uses ``jax.experimental.custom_partitioning``. If the installed JAX lacks the lowering rules that are needed, XLA's
partitioner decides. A halo of x that C has exchanged is kept for K, which reads the same entries.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

from jaxconv.geometry import Geometry
from jaxconv.kernels.split import OPERANDS, Names, Solve, Split, dims_of, lengths_of

NO_MESH = AbstractMesh((), ())  # active where only local sizes matter


def split_over_devices(
    split: Split, geometry: Geometry, solve: Solve, devices: Sequence[Any], results: str, *operands: Array
) -> list[Array]:
    """Compute a map in a program for several devices, regardless of how its operands are sharded.

    Args:
        geometry: the geometry of the operands before they are padded to whole blocks.
        solve: computes one map on one device.
        results: the letters of the results: "e" for the edges of x.
        operands: the operands, and the edges of x if they are known.
    """
    count = len(OPERANDS[split.name]) - 1
    letters = OPERANDS[split.name][:count] + "e" * (len(operands) - count)
    if not split.aligned:
        return [solve(split.name, *operands, geometry=geometry)]
    operands = tuple(v if letter == "e" else split.pad(letter, v) for letter, v in zip(letters, operands, strict=True))
    whole = jax.eval_shape(functools.partial(solve, split.name, geometry=split.geometry), *operands[:count])
    types, x64 = [whole], jax.config.jax_enable_x64  # type: ignore[attr-defined]
    if "e" in results:
        types.append(jax.ShapeDtypeStruct(split.edges_shape(operands[0].shape), operands[0].dtype))

    def partition(_: Any, given: Any, wanted: Any) -> Any:
        arrays = dict(zip(letters + results, (*given, *wanted), strict=True))
        mesh, names = agree(split, arrays, devices)
        shardings = {
            letter: NamedSharding(mesh, PartitionSpec(*(names.get(label) for label in split.labels[letter])))
            for letter in arrays
        }

        def local(*operands: Array) -> list[Array]:  # traced by the compiler, whose thread has its own settings
            with jax.enable_x64(x64), use_abstract_mesh(NO_MESH):
                return split.solve(solve, names, dict(mesh.shape), results, *operands)

        return mesh, local, [shardings[v] for v in results], tuple(shardings[v] for v in letters)

    def typed(*operands: Array) -> list[Array]:  # determines the types of the results; may not contain constants
        value = functools.reduce(lax.add, (operand.ravel()[0].astype(whole.dtype) for operand in operands))
        return [lax.full(t.shape, 0, t.dtype) + value.astype(t.dtype) for t in types]

    rule, kinds = split.rule(letters, results)
    partitioned = custom_partitioning(typed)
    partitioned.def_partition(partition, sharding_rule=rule, **kinds)
    out, *edges = partitioned(*operands)
    limits, third = list(out.shape), OPERANDS[split.name][-1]
    for axis, length in zip(dims_of(third, geometry)[2:], lengths_of(third, geometry), strict=True):
        limits[axis] = length
    return [lax.slice(out, [0] * out.ndim, limits), *edges]


# -- meshes with Explicit axes, whose shardings are part of the types of arrays


def explicit_mesh(*arrays: Any) -> Any:
    """Return the mesh with Explicit axes that arrays (or avals) are on, or None if there is none."""
    avals = (array if isinstance(array, ShapedArray) else jax.typeof(array) for array in arrays)
    meshes = [*(aval.sharding.mesh for aval in avals), jax.sharding.get_abstract_mesh()]
    return next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)


def placed_like(array: Array, aval: Any) -> Array:
    """Reshard an array on a mesh with Explicit axes like an aval; replicate it if the aval is on no mesh."""
    mesh, sharding = explicit_mesh(array), aval.sharding
    if mesh is None or jax.typeof(array).sharding == sharding:
        return array
    return jax.sharding.reshard(array, NamedSharding(mesh, PartitionSpec()) if sharding.mesh.empty else sharding)


def left_to_lax(geometry: Geometry, *arrays: Array) -> bool:
    """Return whether to leave a map to jax.lax.

    This is so on a mesh with Explicit axes if other axes are Manual (``shard_map``) or a size is symbolic: the result's
    sharding is then part of its type, and jax.lax has the rules for it.
    """
    mesh = explicit_mesh(*arrays)
    sizes = (*geometry.x_lengths, *(size for array in arrays for size in array.shape))
    known = all(isinstance(size, int) for size in sizes)
    return mesh is not None and (AxisType.Manual in mesh.axis_types or not known)


def result_sharding(
    name: str, geometry: Geometry, operands: Sequence[Any], shape: tuple[int, ...], mode: str = "zeros"
) -> NamedSharding:
    """Return the sharding of a map's result: each axis is sharded like the operands' axis with the same label.

    If two array axes are sharded over the same mesh axis, the batch and the spatial axes take precedence, and the other
    one is gathered. A spatial axis is not sharded if its shards would be unequal.
    """
    mesh = explicit_mesh(*operands)
    split = Split.of(name, geometry, mesh.size, mode)
    letters = OPERANDS[name]
    specs: dict[str, Any] = {}
    used: set[str] = set()
    labels = [label for letter in letters[:-1] for label in split.labels[letter]]
    given = zip(labels, (spec for one in operands for spec in one.sharding.spec), strict=True)
    for label, spec in sorted((pair for pair in given if all(pair)), key=lambda pair: "nhcf".index(pair[0][0])):
        axes = {spec} if isinstance(spec, str) else set(spec)
        fits = label[0] != "h" or split.blocks[int(label[1:])].size % _parts(mesh, spec) == 0
        if label not in specs and not used & axes and fits:
            specs[label] = spec
            used |= axes
    entries = [
        specs.get(label) if size % _parts(mesh, specs.get(label)) == 0 else None
        for label, size in zip(split.labels[letters[-1]], shape, strict=True)
    ]
    return NamedSharding(mesh, PartitionSpec(*entries))


def _parts(mesh: Any, spec: Any) -> int:
    return math.prod(mesh.shape[axis] for axis in ((spec,) if isinstance(spec, str) else spec or ()))


# -- lowering


def lower(name: str, solve: Solve, context: Any, *operands: Any, geometry: Geometry, mode: str = "zeros") -> Any:
    """Lower one of the maps in a program for several devices; see :func:`applies`."""
    module = context.module_context
    devices = tuple(module.get_backend().devices()[: module.axis_context.num_devices])
    split = Split.of(name, geometry, len(devices), mode)
    known, key = module.cached_primitive_lowerings, None
    values, results = list(operands), OPERANDS[name][-1]
    avals = [ShapedArray(aval.shape, aval.dtype) for aval in context.avals_in]
    block = mlir.ir.InsertionPoint.current.block
    if split.has_edges:
        key = ("jaxconv.edges", values[0], geometry.x_dims, split.geometry.x_lengths, split.halo, mode, split.fill)
        edges, where, aval = known.get(key, (None, None, None))
        if where is not None and where == block:
            values, avals = [*values, edges], [*avals, aval]
        else:
            results += "e"
    context = context.replace(
        module_context=module.replace(axis_context=mlir.ShardingContext(len(devices), devices)), avals_in=avals
    )
    rule = functools.partial(split_over_devices, split, geometry, solve, devices, results)
    with use_abstract_mesh(NO_MESH):
        out, *edges = mlir.lower_fun(rule, multiple_results=True)(context, *values)
    if edges:
        known[key] = edges[0], block, ShapedArray(split.edges_shape(avals[0].shape), avals[0].dtype)
    return [_constrain(context, out, context.avals_out[0])]


try:
    from jax._src.interpreters.mlir import lower_with_sharding_in_types as _constrain
except ImportError:  # private to JAX: without it, the sharding of a result is what XLA propagates

    def _constrain(context: Any, out: Any, aval: Any) -> Any:
        return out


def applies(context: Any) -> bool:
    """Return whether this module splits a map, instead of XLA's partitioner.

    It does not on one device, inside ``shard_map``, in an export (which cannot contain Python functions), or if a size
    is symbolic or 0.
    """
    module = context.module_context
    sizes = [size for aval in (*context.avals_in, *context.avals_out) for size in aval.shape]
    return (
        hasattr(mlir, "ShardingContext")
        and hasattr(mlir, "ir")
        and isinstance(module.axis_context, mlir.ShardingContext)
        and module.axis_context.num_devices > 1
        and not module.lowering_parameters.for_export
        and jax.config.jax_use_shardy_partitioner  # type: ignore[attr-defined]
        and all(isinstance(size, int) and size > 0 for size in sizes)
    )


# -- conversion of the shardings that XLA proposes to a mesh and the mesh axes of each label


def agree(split: Split, arrays: dict[str, Any], devices: Sequence[Any]) -> tuple[Mesh, Names]:
    """Return a mesh of all devices and the mesh axes of each label of the split, from the shardings of the arrays.

    A label keeps the sharding of the array with the most shards. It is not sharded if the shards would be unequal.
    """
    tilings = {letter: tiling(array.sharding, array.ndim) for letter, array in arrays.items()}
    names: Names = {}
    digits: dict[int, int] = {}
    for letter in sorted(arrays, key=lambda letter: -math.prod(size for dim in tilings[letter] for _, size in dim)):
        for axis, (label, dim) in enumerate(zip(split.labels[letter], tilings[letter], strict=True)):
            if not label or label in names or not dim or any(stride in digits for stride, _ in dim):
                continue
            count = split.blocks[int(label[1:])].size if label[0] == "h" else arrays[letter].shape[axis]
            if count % math.prod(size for _, size in dim) == 0:
                names[label] = tuple(f"d{stride}" for stride, _ in dim)
                digits |= dict(dim)
    sizes: dict[str, int] = {}
    done = 1
    for stride, size in sorted(digits.items()):
        if stride % done:
            return Mesh(np.asarray(devices), ("r1",)), {}
        sizes |= {f"r{done}": stride // done, f"d{stride}": size}
        done = stride * size
    sizes[f"r{done}"] = len(devices) // done
    shape = tuple(reversed(sizes.values()))
    return Mesh(np.asarray(devices).reshape(shape), tuple(reversed(sizes))), names


def tiling(sharding: Any, rank: int) -> list[list[tuple[int, int]]]:
    """Return the split of each axis of an array: digits (stride, size) of the device number, the major one first."""
    hlo = sharding._to_xla_hlo_sharding(rank)
    whole: list[list[tuple[int, int]]] = [[] for _ in range(rank)]
    if not hlo.is_tiled():
        return whole
    digits = [_primes(size) for size in hlo.tile_assignment_dimensions()]
    order = np.reshape(hlo.tile_assignment_devices(), [prime for dim in digits for prime in dim])
    strides = [int(order.take(1, axis).flat[0]) for axis in range(order.ndim)]
    if not np.array_equal(order, sum(np.ix_(*(np.arange(n) * s for n, s in zip(order.shape, strides, strict=True))))):
        return whole  # not a product of digits: arrays with such shardings are gathered
    pairs = iter(zip(strides, order.shape, strict=True))
    return [[next(pairs) for _ in dim] for dim in digits][:rank]


def _primes(number: int) -> list[int]:
    """Return the prime factors of a number."""
    divisor = next((d for d in range(2, number + 1) if number % d == 0), None)
    return [] if divisor is None else [divisor, *_primes(number // divisor)]
