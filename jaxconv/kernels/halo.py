"""Halos: the entries that a shard of a spatial axis reads from its neighbors, and their exchange between devices.

The shards of x and y must correspond to each other: an axis is split into blocks of ``stride`` steps of x and
``lhs_dilation`` steps of y (without common factors).
"""

import functools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import linear_call

from jaxconv.geometry import Geometry, dilate
from jaxconv.kernels.varying import varying_zeros

# our names, PyTorch's -> those of jnp.pad
PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Halo(NamedTuple):
    """Steps that a shard reads before and after its own; negative if it does not read all of its own."""

    before: int
    after: int


class Shards(NamedTuple):
    """The shards of an axis, in order: the mesh axes over which they lie, and the position of each on these.

    ``lax.ppermute`` counts positions in the order of the mesh, regardless of the order of the names.
    """

    names: tuple[str, ...] = ()
    places: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, names: tuple[str, ...], sizes: dict[str, int]) -> "Shards":
        """Return the shards of an axis over these axes of a mesh, the major one first.

        Args:
            sizes: the sizes of all axes of the mesh, in its order.
        """
        inside = tuple(name for name in sizes if name in names)
        order = np.arange(math.prod(sizes[name] for name in names)).reshape([sizes[name] for name in inside])
        return cls(inside, tuple(order.transpose([inside.index(name) for name in names]).ravel().tolist()))

    @property
    def size(self) -> int:
        """Return the number of shards."""
        return len(self.places)


class Blocks(NamedTuple):
    """The split of one spatial axis: ``size`` blocks, each of ``x`` steps of the input and ``y`` of the output."""

    size: int
    x: int
    y: int

    @classmethod
    def of(cls, axis: "Axis", devices: int) -> "Blocks":
        """Return the blocks that cover an axis: as many as ``devices``, or the largest factor that fits."""
        common = math.gcd(axis.stride, axis.dilation)
        x, y = axis.stride // common, axis.dilation // common
        needed = max(-(-axis.x // x), -(-axis.y // y), 1)
        count = math.gcd(needed, devices)
        return cls(count, needed // count * x, needed // count * y) if count > 1 else cls(1, axis.x, axis.y)


class Axis(NamedTuple):
    """One spatial axis of a geometry: lengths, stride, dilation of the input, extent of the kernel, padding before."""

    x: int
    y: int
    stride: int
    dilation: int
    extent: int
    low: int

    def input_halo(self, x: int, y: int) -> Halo:
        """Return the inputs around ``x`` local ones that ``y`` local outputs read, for C and K."""
        last = (y - 1) * self.stride + self.extent - 1 - self.low
        return Halo(self.low // self.dilation, last // self.dilation - (x - 1))

    def output_halo(self, x: int, y: int) -> Halo:
        """Return the outputs around ``y`` local ones that ``x`` local inputs contribute to, for T."""
        last = (x - 1) * self.dilation + self.low
        return Halo((self.extent - 1 - self.low) // self.stride, last // self.stride - (y - 1))

    def padding(self, x: int, y: int, low: int) -> tuple[int, int]:
        """Return the padding with which ``x`` inputs give ``y`` outputs."""
        return low, (y - 1) * self.stride + self.extent - low - dilate(x, self.dilation)


def axes_of(geometry: Geometry) -> list[Axis]:
    """Return the spatial axes of a geometry."""
    g = geometry
    return [
        Axis(x, y, s, e, dilate(k, d), low)
        for x, y, s, e, k, d, (low, _) in zip(
            g.x_lengths, g.y_lengths, g.strides, g.lhs_dilation, g.w_lengths, g.rhs_dilation, g.padding, strict=True
        )
    ]


def with_lengths(geometry: Geometry, lengths: list[tuple[int, int, int]]) -> Geometry:
    """Return the geometry with other lengths of x and y, and another padding before, on each axis."""
    padding = tuple(axis.padding(x, y, low) for axis, (x, y, low) in zip(axes_of(geometry), lengths, strict=True))
    return replace(geometry, x_lengths=tuple(x for x, _, _ in lengths), padding=padding)


def exchange(x: Array, axis: int, halo: Halo, shards: Shards, mode: str = "zeros", fill: float = 0) -> Array:
    """Return a shard with its halo, which may come from several neighbors on each side.

    Args:
        mode: the values beyond the ends of the array, as in :func:`jaxconv.conv`.
        fill: the value that is used instead of zero.
    """
    before, after = max(halo.before, 0), max(halo.after, 0)
    if mode != "zeros":
        pads = [(before, after) if a == axis else (0, 0) for a in range(x.ndim)]
        padded = jnp.pad(x, pads, PADDING_MODES[mode])
        padded = lax.slice_in_dim(padded, before - halo.before, padded.shape[axis] - after + halo.after, axis=axis)
        if shards.size == 1:
            return padded
    parts = []
    for shard, low, high in _pieces(x.shape[axis], halo):
        piece = lax.slice_in_dim(x, low, high, axis=axis)
        parts.append(_shift(piece, -shard, shards, mode == "circular", fill))
    out = jnp.concatenate(parts, axis) if len(parts) > 1 else parts[0]
    if mode in ("zeros", "circular"):
        return out
    here, step = lax.axis_index(shards.names), jnp.arange(out.shape[axis], dtype=np.int32)
    ends = (step < before) & (here == shards.places[0]) | (step >= len(step) - after) & (here == shards.places[-1])
    return jnp.where(lax.broadcast_in_dim(ends, out.shape, (axis,)), padded, out)


def collect(x: Array, axis: int, halo: Halo, shards: Shards, mode: str = "zeros") -> Array:
    """Return a shard plus the copies of it in other shards' halos: the transpose of :func:`exchange`."""
    shape = tuple(n - sum(halo) if a == axis else n for a, n in enumerate(x.shape))
    extend = functools.partial(exchange, axis=axis, halo=halo, shards=shards, mode=mode)
    return jax.linear_transpose(extend, varying_zeros(shape, x.dtype, x))(x)[0]


def _pieces(length: int, halo: Halo) -> list[tuple[int, int, int]]:
    """List (shard, low, high): the slice of each shard, counted from a device's own, that its extended shard covers."""
    start, end = -halo.before, length + halo.after
    shards = range(start // length, -(-end // length))
    return [(i, max(start - i * length, 0), min(end - i * length, length)) for i in shards]


def _shift(x: Array, distance: int, shards: Shards, ring: bool, fill: float) -> Array:
    """Return the array of the device ``distance`` shards before; beyond the ends, unless in a ring, the fill."""
    count = shards.size
    ends = [(i, (i + distance) % count) for i in range(count) if ring or 0 <= i + distance < count]
    if distance % count == 0 if ring else distance == 0:
        return x
    if not ends:
        return jnp.full_like(x, fill)
    if fill:  # what is not sent arrives as zero bits
        kind = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
        zero = np.array(fill, x.dtype).view(kind)
        moved = _move(lax.bitcast_convert_type(x, kind) ^ zero, shards, ends)
        return lax.bitcast_convert_type(moved ^ zero, x.dtype)
    back = [(j, i) for i, j in ends]
    return linear_call(lambda _, x: _move(x, shards, ends), lambda _, y: _move(y, shards, back), (), x)


def _move(x: Array, shards: Shards, ends: list[tuple[int, int]]) -> Array:
    """Send x from one shard to another for each pair of shards, in order."""
    pairs = [(shards.places[i], shards.places[j]) for i, j in ends]
    if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize == 2:  # as bits: XLA on CPU sends these as float32
        bits = lax.ppermute(lax.bitcast_convert_type(x, jnp.uint16), shards.names, pairs)
        return lax.bitcast_convert_type(bits, x.dtype)
    return lax.ppermute(x, shards.names, pairs)
