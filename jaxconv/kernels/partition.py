"""How the three maps split over devices: a local problem, an exchange of halos, and one sum for contracted indices.

In a program for several devices, XLA's partitioner decides how each operation is cut. It knows nothing of the loops and
copies that a lowering is made of, and gathers. So each map tells it. The batch and the spatial axes may be sharded, and
channels and filters where there are no groups. Each device then solves the same problem on its part, by the lowering
that is best for that part. Without this, the batch of every grouped convolution is gathered (openxla/xla#47945).

Uses ``jax.experimental.custom_partitioning``. Where a version of JAX has other rules of lowering than these need,
XLA's partitioner decides as before. A halo of x that C has exchanged is kept for K, which reads the same.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

from jaxconv.geometry import Geometry
from jaxconv.kernels.halo import Blocks, Halo, Shards, axes_of, collect, exchange, with_lengths

Solve = Callable[..., Array]  # (name, a, b, geometry=) -> result, on one device
Names = dict[str, tuple[str, ...]]  # the mesh axes over which each label is sharded
NO_MESH = AbstractMesh((), ())  # in force where only local sizes count
OPERANDS = {"convolve": "xwy", "transpose": "ywx", "correlate": "xyw"}  # the operands, then the result


def dims_of(letter: str, geometry: Geometry) -> tuple[int, ...]:
    """Return the positions of an array's axes: batch or filters, channels, spatial ones."""
    return {"x": geometry.x_dims, "w": geometry.w_dims, "y": geometry.y_dims}[letter]


class Split(NamedTuple):
    """One of the three maps, ready to be split: its geometry in whole blocks, and labels for the axes of the arrays.

    ``labels[letter]`` has n, c, f, h0, h1, ... in the order of an array's axes; "" for what cannot be sharded. The
    letter e stands for the edges of x: what each block reads of the others along the first spatial axis.
    """

    name: str
    geometry: Geometry
    blocks: list[Blocks]
    labels: dict[str, list[str]]

    @classmethod
    def of(cls, name: str, geometry: Geometry, devices: int) -> "Split":
        """Return the split of a map over this geometry, for a number of devices."""
        axes = axes_of(geometry)
        blocks = [Blocks.of(axis, devices) for axis in axes]
        lengths = [(b.size * b.x, b.size * b.y, axis.low) for b, axis in zip(blocks, axes, strict=True)]
        c, f = ("c", "f") if geometry.groups == 1 else ("", "")
        spatial = [f"h{i}" if block.size > 1 else "" for i, block in enumerate(blocks)]
        order = {"x": ["n", c, *spatial], "y": ["n", f, *spatial], "w": [f, c, *[""] * geometry.rank]}
        labels = {
            letter: [names[dims_of(letter, geometry).index(i)] for i in range(len(names))]
            for letter, names in order.items()
        }
        return cls(name, with_lengths(geometry, lengths), blocks, labels | {"e": labels["x"]})

    @property
    def halo(self) -> Halo:
        """Return the edges of a block along the first spatial axis: steps before and after, none negative."""
        halo = axes_of(self.geometry)[0].input_halo(self.blocks[0].x, self.blocks[0].y)
        return Halo(max(halo.before, 0), max(halo.after, 0))

    @property
    def has_edges(self) -> bool:
        """Return whether the map reads edges of x that another map can share."""
        return self.name != "transpose" and self.blocks[0].size > 1 and sum(self.halo) > 0

    def edges_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the edges of an x of this shape."""
        spatial = (self.blocks[0].size * sum(self.halo), *self.geometry.x_lengths[1:])
        sizes = dict(zip(self.geometry.x_dims[2:], spatial, strict=True))
        return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))

    def steps(self, letter: str, axis: int) -> int:
        """Return the length of a block along a spatial axis."""
        block = self.blocks[axis]
        return sum(self.halo) if letter == "e" and axis == 0 else block.y if letter == "y" else block.x

    def rule(self, operands: str, results: str) -> tuple[str, dict[str, Any]]:
        """Return the rule by which shardings propagate, in the language of ``custom_partitioning``."""
        sizes: dict[str, int] = {}
        alone: set[str] = set()  # an axis of this label alone tells its size

        def word(letter: str, index: int, label: str) -> str:
            if label[:1] != "h":
                return label or f"{letter}{index}"
            size = self.steps(letter, int(label[1:]))
            if size == 1:
                alone.add(label)
                return label
            sizes.update({f"{letter}{label}": size, label: self.blocks[int(label[1:])].size})
            return f"({label} {letter}{label})"

        def words(letters: str) -> str:
            return ", ".join(
                " ".join(word(letter, i, label) for i, label in enumerate(self.labels[letter])) for letter in letters
            )

        text = f"{words(operands)} -> {words(results)}"
        # Shardy wants the factors of each kind in the order in which they occur
        factors = list(dict.fromkeys(re.findall(r"\w+", text)))
        shared = {label for letter in operands + results for label in self.labels[letter] if label}
        kept = {label for letter in results for label in self.labels[letter]}
        kinds = {
            "reduction_factors": [f for f in factors if f in shared and f not in kept],
            "permutation_factors": [f for f in factors if f in shared and f in kept and f[0] == "h"],
            "need_replication_factors": [f for f in factors if f not in shared and f not in sizes],
        }
        sizes = {factor: size for factor, size in sizes.items() if factor not in alone}
        return text, {kind: tuple(values) for kind, values in kinds.items() if values} | sizes

    def pad(self, letter: str, array: Array) -> Array:
        """Return an array with zeros behind it up to whole blocks."""
        pads = [(0, 0, 0)] * array.ndim
        for axis, length in zip(dims_of(letter, self.geometry)[2:], lengths_of(letter, self.geometry), strict=True):
            pads[axis] = (0, length - array.shape[axis], 0)
        return lax.pad(array, jnp.zeros((), array.dtype), pads) if any(map(any, pads)) else array

    def solve(self, solve: Solve, names: Names, mesh: Mesh, results: str, *operands: Array) -> list[Array]:
        """Compute the part of one device.

        Args:
            solve: computes one map on one device.
            names: for each sharded label its axes of the mesh.
            results: the letters of the results: "e" for the edges of x.
            operands: the local operands, and the edges of x where they are known.
        """
        g, first, second = self.geometry, *OPERANDS[self.name][:2]
        arrays = dict(zip(OPERANDS[self.name][:2] + "e", operands, strict=False))
        shards = [Shards.of(names.get(f"h{i}", ()), dict(mesh.shape)) for i in range(g.rank)]
        local = [(axis.x // one.size, axis.y // one.size) for axis, one in zip(axes_of(g), shards, strict=True)]
        lengths, collected = [], []
        for i, (axis, (x, y), one) in enumerate(zip(axes_of(g), local, shards, strict=True)):
            low, inputs, outputs = axis.low, axis.input_halo(x, y), axis.output_halo(x, y)
            where, makes_edges = g.x_dims[2 + i], i == 0 and "e" in results
            if self.name != "transpose" and (one.size > 1 or makes_edges):
                extended = self._extend(arrays, i, one)
                if makes_edges:
                    arrays["e"] = self._edges(extended, self.blocks[0].size // one.size)
            if one.size == 1:
                pass
            elif self.name != "transpose":
                end = extended.shape[where] - max(-inputs.after, 0)
                arrays["x"] = lax.slice_in_dim(extended, max(-inputs.before, 0), end, axis=where)
                x, low = x + sum(inputs), low - inputs.before * axis.dilation
            elif sum(inputs) * self._row("x", i, local, operands) < sum(outputs) * self._row("y", i, local, operands):
                collected.append((where, inputs, one))
                x, low = x + sum(inputs), low - inputs.before * axis.dilation
            else:
                arrays["y"] = exchange(arrays["y"], g.y_dims[2 + i], outputs, one)
                y, low = y + sum(outputs), low + outputs.before * axis.stride
            lengths.append((x, y, low))
        out = solve(self.name, arrays[first], arrays[second], geometry=with_lengths(g, lengths))
        for arguments in collected:
            out = collect(out, *arguments)
        summed = sum((axes for label, axes in names.items() if label not in self.labels[results[0]]), ())
        out = lax.psum(out, summed) if summed else out
        return [out, arrays["e"]] if "e" in results else [out]

    def _extend(self, arrays: dict[str, Array], i: int, shards: Shards) -> Array:
        """Return the local x with what it reads of its neighbours along spatial axis ``i``; it is not yet cut."""
        axis, x, one = self.geometry.x_dims[2 + i], arrays["x"], axes_of(self.geometry)[i]
        if i == 0 and "e" in arrays:
            before, after = self.halo
            edges, behind = arrays["e"], arrays["e"].shape[axis] - after
            parts = [lax.slice_in_dim(edges, 0, before, axis=axis), x, lax.slice_in_dim(edges, behind, None, axis=axis)]
            return jnp.concatenate(parts, axis)
        halo = one.input_halo(one.x // shards.size, one.y // shards.size)
        return exchange(x, axis, Halo(max(halo.before, 0), max(halo.after, 0)), shards)

    def _edges(self, extended: Array, blocks: int) -> Array:
        """Return what each local block reads of the others along the first axis: before it, then behind it."""
        axis, (before, after) = self.geometry.x_dims[2], self.halo
        step, parts = self.blocks[0].x, []
        for start in range(before, before + blocks * step, step):
            parts.append(lax.slice_in_dim(extended, start - before, start, axis=axis))
            parts.append(lax.slice_in_dim(extended, start + step, start + step + after, axis=axis))
        return jnp.concatenate(parts, axis)

    def _row(self, letter: str, i: int, local: list[tuple[int, int]], operands: Sequence[Array]) -> int:
        """Return the number of entries of one step along spatial axis ``i``, for T of the local y and w."""
        g, (y, w) = self.geometry, operands[:2]
        channels = y.shape[g.y_dims[1]] if letter == "y" else w.shape[g.w_dims[1]] * g.groups
        return channels * math.prod(lengths[letter == "y"] for j, lengths in enumerate(local) if j != i)


def lengths_of(letter: str, geometry: Geometry) -> tuple[int, ...]:
    """Return the spatial lengths of an array."""
    return {"x": geometry.x_lengths, "w": geometry.w_lengths, "y": geometry.y_lengths}[letter]


def split_over_devices(
    split: Split, geometry: Geometry, solve: Solve, devices: Sequence[Any], results: str, *operands: Array
) -> list[Array]:
    """Compute a map in a program for several devices, however its operands turn out to be sharded.

    Args:
        geometry: of the operands before they are padded to whole blocks.
        solve: computes one map on one device.
        results: the letters of the results: "e" for the edges of x.
        operands: the operands, and the edges of x where they are known.
    """
    letters = OPERANDS[split.name][:2] + "e" * (len(operands) - 2)
    operands = tuple(v if letter == "e" else split.pad(letter, v) for letter, v in zip(letters, operands, strict=True))
    whole = jax.eval_shape(functools.partial(solve, split.name, geometry=split.geometry), *operands[:2])
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
                return split.solve(solve, names, mesh, results, *operands)

        return mesh, local, [shardings[v] for v in results], tuple(shardings[v] for v in letters)

    def typed(*operands: Array) -> list[Array]:  # determines the types of the results; may not contain constants
        value = functools.reduce(lax.add, (operand.ravel()[0].astype(whole.dtype) for operand in operands))
        return [lax.full(t.shape, 0, t.dtype) + value.astype(t.dtype) for t in types]

    rule, kinds = split.rule(letters, results)
    partitioned = custom_partitioning(typed)
    partitioned.def_partition(partition, sharding_rule=rule, **kinds)
    out, *edges = partitioned(*operands)
    limits, third = list(out.shape), OPERANDS[split.name][2]
    for axis, length in zip(dims_of(third, geometry)[2:], lengths_of(third, geometry), strict=True):
        limits[axis] = length
    return [lax.slice(out, [0] * out.ndim, limits), *edges]


# -- meshes with Explicit axes, whose shardings are part of the types of arrays


def explicit_mesh(*arrays: Any) -> Any:
    """Return the mesh with Explicit axes that arrays (or avals) are on; None where there is none."""
    avals = (array if isinstance(array, ShapedArray) else jax.typeof(array) for array in arrays)
    meshes = [*(aval.sharding.mesh for aval in avals), jax.sharding.get_abstract_mesh()]
    return next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)


def result_sharding(name: str, geometry: Geometry, a: Any, b: Any, shape: tuple[int, ...]) -> NamedSharding:
    """Return the sharding of a map's result: each axis like the operands' axis of that label.

    Of two axes over the same axes of the mesh, the batch and the spatial ones come first, and the other is gathered.
    A spatial axis whose shards would be unequal is not sharded.
    """
    mesh = explicit_mesh(a, b)
    split = Split.of(name, geometry, mesh.size)
    letters = OPERANDS[name]
    specs: dict[str, Any] = {}
    used: set[str] = set()
    labels = split.labels[letters[0]] + split.labels[letters[1]]
    given = zip(labels, (*a.sharding.spec, *b.sharding.spec), strict=True)
    for label, spec in sorted((pair for pair in given if all(pair)), key=lambda pair: "nhcf".index(pair[0][0])):
        axes = {spec} if isinstance(spec, str) else set(spec)
        fits = label[0] != "h" or split.blocks[int(label[1:])].size % _parts(mesh, spec) == 0
        if label not in specs and not used & axes and fits:
            specs[label] = spec
            used |= axes
    entries = [
        specs.get(label) if size % _parts(mesh, specs.get(label)) == 0 else None
        for label, size in zip(split.labels[letters[2]], shape, strict=True)
    ]
    return NamedSharding(mesh, PartitionSpec(*entries))


def _parts(mesh: Any, spec: Any) -> int:
    return math.prod(mesh.shape[axis] for axis in ((spec,) if isinstance(spec, str) else spec or ()))


# -- lowering


def lower(name: str, solve: Solve, context: Any, a: Any, b: Any, geometry: Geometry) -> Any:
    """Lower one of the maps in a program for several devices; see :func:`applies`."""
    module = context.module_context
    devices = tuple(module.get_backend().devices()[: module.axis_context.num_devices])
    split = Split.of(name, geometry, len(devices))
    known, key = module.cached_primitive_lowerings, None
    values, results = [a, b], OPERANDS[name][2]
    avals = [ShapedArray(aval.shape, aval.dtype) for aval in context.avals_in]
    block = mlir.ir.InsertionPoint.current.block
    if split.has_edges:
        key = ("jaxconv.edges", a, geometry.x_dims, split.geometry.x_lengths, split.halo)
        edges, where, aval = known.get(key, (None, None, None))
        if where is not None and where == block:
            values, avals = [a, b, edges], [*avals, aval]
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
    """Return whether a map is cut here and not by XLA's partitioner.

    It is not on one device, inside ``shard_map``, in an export (which holds no Python), and for unknown or empty sizes.
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


# -- from the shardings that XLA proposes to a mesh and the axes over which each label is sharded


def agree(split: Split, arrays: dict[str, Any], devices: Sequence[Any]) -> tuple[Mesh, Names]:
    """Return a mesh of all devices, and for each label of the split its axes, from the shardings of the arrays.

    A label keeps the sharding of the array that is sharded most. It is not sharded where the shards would be unequal.
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
    """Return how each axis of an array is cut: digits (stride, size) of the number of a device, the major one first."""
    hlo = sharding._to_xla_hlo_sharding(rank)
    whole: list[list[tuple[int, int]]] = [[] for _ in range(rank)]
    if not hlo.is_tiled():
        return whole
    digits = [_primes(size) for size in hlo.tile_assignment_dimensions()]
    order = np.reshape(hlo.tile_assignment_devices(), [prime for dim in digits for prime in dim])
    strides = [int(order.take(1, axis).flat[0]) for axis in range(order.ndim)]
    if not np.array_equal(order, sum(np.ix_(*(np.arange(n) * s for n, s in zip(order.shape, strides, strict=True))))):
        return whole  # not a product of digits; what is sharded like this is gathered
    pairs = iter(zip(strides, order.shape, strict=True))
    return [[next(pairs) for _ in dim] for dim in digits][:rank]


def _primes(number: int) -> list[int]:
    """Return the prime factors of a number."""
    divisor = next((d for d in range(2, number + 1) if number % d == 0), None)
    return [] if divisor is None else [divisor, *_primes(number // divisor)]
