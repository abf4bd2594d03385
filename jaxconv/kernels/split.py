"""The split of one map over devices: blocks along labeled axes, and the computation of one device's part.

:mod:`.partition` passes it to XLA.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.geometry import Geometry
from jaxconv.kernels.halo import Axis, Blocks, Halo, Shards, axes_of, collect, exchange, with_lengths

Solve = Callable[..., Array]  # (name, *operands, geometry=) -> result, on one device
Names = dict[str, tuple[str, ...]]  # the mesh axes over which each label is sharded
# the operands, then the result; u is another array like x
OPERANDS = {"convolve": "xwy", "transpose": "ywx", "correlate": "xyw"}
OPERANDS |= {"max": "xy", "select": "xuy", "select_transpose": "xyu"}
OPERANDS |= {"sum": "xy", "sum_transpose": "yx", "patches": "xy", "patches_transpose": "yx"}
# maps that read x and share it with their derivatives
SHARED = ("convolve", "correlate", "max", "select", "select_transpose")


def dims_of(letter: str, geometry: Geometry) -> tuple[int, ...]:
    """Return the positions of an array's axes: batch or filters, channels, spatial axes."""
    return {"w": geometry.w_dims, "y": geometry.y_dims}.get(letter, geometry.x_dims)


class Split(NamedTuple):
    """One map, prepared to be split: its geometry extended to whole blocks, and labels for the axes of the arrays.

    ``labels[letter]`` has n, c, f, h0, h1, ... in the order of an array's axes, and "" for axes that cannot be sharded.
    The letter e represents the edges of x: the entries that each block reads from others along the first spatial axis.
    """

    name: str
    geometry: Geometry
    blocks: list[Blocks]
    labels: dict[str, list[str]]
    mode: str = "zeros"
    aligned: bool = True  # if False, XLA's partitioner splits the map

    @classmethod
    def of(cls, name: str, geometry: Geometry, devices: int, mode: str = "zeros") -> "Split":
        """Return the split of a map over this geometry, for a number of devices.

        Args:
            mode: the values of the padding of x, as in :func:`jaxconv.conv`.
        """
        axes = axes_of(geometry)
        blocks = [_blocks(axis, devices, mode) for axis in axes]
        lengths = [(b.size * b.x, b.size * b.y, axis.low) for b, axis in zip(blocks, axes, strict=True)]
        c, f = ("c", "f") if geometry.groups == 1 and not name.startswith("patches") else ("", "")
        f = f if "w" in OPERANDS[name] else c
        spatial = [f"h{i}" if block.size > 1 else "" for i, block in enumerate(blocks)]
        order = {"x": ["n", c, *spatial], "y": ["n", f, *spatial], "w": [f, c, *[""] * geometry.rank]}
        labels = {
            letter: [names[dims_of(letter, geometry).index(i)] for i in range(len(names))]
            for letter, names in order.items()
        }
        labels |= {"e": labels["x"], "u": labels["x"]}
        # whether equal shards of x are whole blocks; if not, XLA splits the lowerings of a convolution no better
        counts = [(block.size, math.gcd(axis.x, devices)) for block, axis in zip(blocks, axes, strict=True)]
        fits = any(own == devices for own, _ in counts) or all(own >= shards for own, shards in counts)
        return cls(name, with_lengths(geometry, lengths), blocks, labels, mode, fits or "w" in OPERANDS[name])

    @property
    def fill(self) -> float:
        """Return the value that pads x."""
        return -np.inf if self.name in ("max", "select", "select_transpose") else 0

    @property
    def halo(self) -> Halo:
        """Return the edges of a block along the first spatial axis: steps before and after, none negative."""
        halo = axes_of(self.geometry)[0].input_halo(self.blocks[0].x, self.blocks[0].y)
        return Halo(max(halo.before, 0), max(halo.after, 0))

    @property
    def has_edges(self) -> bool:
        """Return whether the map reads edges of x that another map can share."""
        return self.aligned and self.name in SHARED and self.blocks[0].size > 1 and sum(self.halo) > 0

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
        """Return the rule by which shardings propagate, in the syntax of ``custom_partitioning``."""
        sizes: dict[str, int] = {}
        whole: set[str] = set()  # labels that are an entire axis of an array, which gives their size

        def word(letter: str, index: int, label: str) -> str:
            if label[:1] != "h":
                return label or f"{letter}{index}"
            size = self.steps(letter, int(label[1:]))
            if size == 1:
                whole.add(label)
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
        sizes = {factor: size for factor, size in sizes.items() if factor not in whole}
        return text, {kind: tuple(values) for kind, values in kinds.items() if values} | sizes

    def pad(self, letter: str, array: Array) -> Array:
        """Pad an array at its end to whole blocks."""
        pads = [(0, 0, 0)] * array.ndim
        for axis, length in zip(dims_of(letter, self.geometry)[2:], lengths_of(letter, self.geometry), strict=True):
            pads[axis] = (0, length - array.shape[axis], 0)
        fill = np.array(self.fill if letter == "x" else 0, array.dtype)
        return lax.pad(array, fill, pads) if any(map(any, pads)) else array

    def solve(self, solve: Solve, names: Names, sizes: dict[str, int], results: str, *operands: Array) -> list[Array]:
        """Compute the part of one device.

        Args:
            solve: computes one map on one device.
            names: the mesh axes of each sharded label.
            sizes: the sizes of all mesh axes.
            results: the letters of the results: "e" for the edges of x.
            operands: the local operands, and the edges of x if they are known.
        """
        g, letters = self.geometry, OPERANDS[self.name][:-1]
        arrays = dict(zip(letters + "e", operands, strict=False))
        shards = [Shards.of(names.get(f"h{i}", ()), sizes) for i in range(g.rank)]
        local = [(axis.x // one.size, axis.y // one.size) for axis, one in zip(axes_of(g), shards, strict=True)]
        lengths, collected = [], []
        for i, (axis, (x, y), one) in enumerate(zip(axes_of(g), local, shards, strict=True)):
            low, inputs, outputs = axis.low, axis.input_halo(x, y), axis.output_halo(x, y)
            extended = one.size > 1 or self.mode != "zeros"
            if extended and self._exchanges_y(i, local, operands):
                arrays["y"] = exchange(arrays["y"], g.y_dims[2 + i], outputs, one)
                y, low = y + sum(outputs), low + outputs.before * axis.stride
                extended = False
            if extended or (i == 0 and "e" in results):
                for letter in sorted(set(letters) & set("xu")):
                    arrays = self._extend(arrays, letter, i, one, results, inputs if extended else None)
            if extended:
                x, low = x + sum(inputs), low - inputs.before * axis.dilation
                collected += [(g.x_dims[2 + i], inputs, one, self.mode)] if results[0] in "xu" else []
            lengths.append((x, y, low))
        out = solve(self.name, *(arrays[letter] for letter in letters), geometry=with_lengths(g, lengths))
        for arguments in reversed(collected):
            out = collect(out, *arguments)
        summed = sum((axes for label, axes in names.items() if label not in self.labels[results[0]]), ())
        out = lax.psum(out, summed) if summed else out
        return [out, arrays["e"]] if "e" in results else [out]

    def _exchanges_y(self, i: int, local: list[tuple[int, int]], operands: Sequence[Array]) -> bool:
        """Return whether a halo of y is exchanged instead of one of the resulting x, because it is not larger."""
        if self.name != "transpose" or self.mode != "zeros":
            return False
        axis = axes_of(self.geometry)[i]
        x, y = (sum(halo(*local[i])) for halo in (axis.input_halo, axis.output_halo))
        return x * self._row("x", i, local, operands) >= y * self._row("y", i, local, operands)

    def _extend(
        self, arrays: dict[str, Array], letter: str, i: int, shards: Shards, results: str, cut: Halo | None
    ) -> dict[str, Array]:
        """Return the arrays, one of them extended by its halo along spatial axis ``i``.

        Args:
            results: if it contains "e", the edges of x are added.
            cut: the halo to which the array is cropped, or None to leave it without one.
        """
        axis, x = self.geometry.x_dims[2 + i], arrays[letter]
        if i == 0 and letter == "x" and "e" in arrays:
            before, after = self.halo
            edges, start = arrays["e"], arrays["e"].shape[axis] - after
            parts = [lax.slice_in_dim(edges, 0, before, axis=axis), x, lax.slice_in_dim(edges, start, None, axis=axis)]
            extended = jnp.concatenate(parts, axis)
        else:
            one = axes_of(self.geometry)[i]
            halo = one.input_halo(one.x // shards.size, one.y // shards.size)
            halo = Halo(max(halo.before, 0), max(halo.after, 0))
            extended = exchange(x, axis, halo, shards, self.mode, self.fill if letter == "x" else 0)
        if i == 0 and letter == "x" and "e" in results:
            arrays = arrays | {"e": self._edges(extended, self.blocks[0].size // shards.size)}
        if cut is None:
            return arrays
        end = extended.shape[axis] - max(-cut.after, 0)
        return arrays | {letter: lax.slice_in_dim(extended, max(-cut.before, 0), end, axis=axis)}

    def _edges(self, extended: Array, blocks: int) -> Array:
        """Return the entries that each local block reads from others along the first axis: before it, then after."""
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
    return {"w": geometry.w_lengths, "y": geometry.y_lengths}.get(letter, geometry.x_lengths)


def padded(geometry: Geometry) -> Geometry:
    """Return the geometry in which the padding is part of x."""
    each = zip(geometry.x_lengths, geometry.padding, strict=True)
    return replace(geometry, x_lengths=tuple(n + sum(pair) for n, pair in each), padding=((0, 0),) * geometry.rank)


def _blocks(axis: Axis, devices: int, mode: str) -> Blocks:
    """Return the blocks of one axis: a single one if a device would lack the values that the padding consists of."""
    blocks = Blocks.of(axis, devices)
    halo = axis.input_halo(blocks.x, blocks.y)
    exact = (blocks.size * blocks.x, blocks.size * blocks.y) == (axis.x, axis.y)
    return blocks if mode == "zeros" or (exact and max(halo) < blocks.x) else Blocks(1, axis.x, axis.y)
