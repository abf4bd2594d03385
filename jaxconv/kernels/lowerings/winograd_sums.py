"""The sums before and after the products of the lowering "winograd": their coefficients, and the tiles of an axis.

Each sum adds all entries of a tile, times coefficients that XLA does not know when it compiles, zeros among them: the
sums of all products are one program, which is compiled once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv.kernels.lowerings.winograd_algorithms import Algorithm, Rows
from jaxconv.kernels.problem import Problem
from jaxconv.kernels.taps import total
from jaxconv.kernels.unknown import Unknown

Shape = tuple[Any, ...]
Entries = tuple[Callable[[], list[Array]], Shape]  # a function that slices what a sum adds; the shape of the sum


class Row(NamedTuple):
    """The coefficients of one sum.

    bits: a mask for each entry, of all bits, or of none where the coefficient is 0. None: no entry is masked.
    """

    coefficients: Any
    bits: Any


class Coefficients(NamedTuple):
    """The coefficients of one axis: of the sums of both operands, one for each product, and of those of the products.

    Each is a tuple of rows, or one row of matrices where a loop runs over the products.
    """

    first: Any
    second: Any
    result: Any


def coefficients_of(
    name: str, chosen: Mapping[int, Algorithm], unknown: Unknown, dtype: Any, cuts: bool
) -> dict[int, Coefficients]:
    """Return the coefficients of each axis for one map.

    cuts: whether an entry that is not finite is cut where its coefficient is 0.
    """

    def rows(table: Rows, is_cut: bool) -> tuple[Row, ...]:
        values = [np.asarray(numbers, dtype) for numbers in table]
        return tuple(Row(v, -(v != 0).astype(f"int{8 * v.itemsize}") if is_cut else None) for v in values)

    def columns(table: Rows, is_cut: bool) -> tuple[Row, ...]:
        return rows(tuple(zip(*table, strict=True)), is_cut)

    known = {}
    for axis, algorithm in chosen.items():
        second, result = (algorithm.y, algorithm.w) if name == "correlate" else (algorithm.w, algorithm.y)
        known[axis] = Coefficients(rows(algorithm.x, cuts), rows(second, False), columns(result, cuts))
    hidden = unknown.hide(known)
    for axis in [*chosen][:-1]:
        first, second = (jax.tree.map(lambda *rows: np.stack(rows), *table) for table in known[axis][:2])
        hidden[axis] = Coefficients(first, second, hidden[axis].result)
    return hidden


def row(table: Any, i: Any) -> Row:
    """Return the i-th row of coefficients; i is traced in a loop."""
    if isinstance(i, int):
        return table[i]
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(jnp.asarray(a), i, 0, keepdims=False), table)


@jax.jit
def weighted_sum(entries: Sequence[Array], row: Row) -> Array:
    """Return the sum of arrays times their coefficients; jitted, so that equal sums are traced once."""

    def of(values: Array, index: int) -> Array:
        return lax.broadcast(lax.index_in_dim(values, index, keepdims=False), entries[0].shape)

    def cut(entry: Array, index: int) -> Array:
        if row.bits is None:
            return entry
        kept = lax.bitwise_and(lax.bitcast_convert_type(entry, row.bits.dtype), of(row.bits, index))
        return lax.bitcast_convert_type(kept, entry.dtype)

    return total(lax.mul(cut(entry, i), of(row.coefficients, i)) for i, entry in enumerate(entries))


class Tiles(NamedTuple):
    """The tiles of one axis of a padded problem, each with this many outputs."""

    outputs: int
    axis: int
    problem: Problem

    def inputs_of(self, x: Array) -> Entries:
        """Return the entries of x that a tile reads."""
        return self._entries(x, self.outputs + self.problem.w[self.axis] - 1)

    def outputs_of(self, y: Array) -> Entries:
        """Return the entries of y in a tile."""
        return self._entries(y, self.outputs)

    def taps(self, w: Array) -> Entries:
        """Return the taps of the kernel along the axis."""

        def taps() -> list[Array]:
            return [lax.slice_in_dim(w, tap, tap + 1, axis=self.axis) for tap in range(w.shape[self.axis])]

        return taps, _with(w.shape, self.axis, 1)

    def _entries(self, a: Array, number: int) -> Entries:
        """Return the first entries of all tiles, then the second ones, and so on."""
        step, d = self.outputs, self.problem.dilation[self.axis]
        tiles = self.problem.y[self.axis] // (step * d)

        def entries() -> list[Array]:
            # a dilated axis is one of runs, as long as the dilation; three axes in all take less time to compile
            runs = a.reshape(math.prod(a.shape[: self.axis + 1]), -1, d * math.prod(a.shape[self.axis + 2 :]))
            return [lax.slice_in_dim(runs, i, i + step * (tiles - 1) + 1, step, 1) for i in range(number)]

        return entries, _with(a.shape, self.axis + 1, tiles * d)

    def joined(self, products: Sequence[Array], columns: Sequence[Row]) -> Array:
        """Return the outputs of all tiles, from their products."""
        shape = products[0].shape
        run = self.problem.dilation[self.axis] * math.prod(shape[self.axis + 2 :])
        runs = [product.reshape(-1, run) for product in products]
        outputs = jnp.concatenate([weighted_sum(runs, column) for column in columns], 1)
        return outputs.reshape(_with(shape, self.axis + 1, self.problem.y[self.axis]))

    def inner(self) -> Problem:
        """Return the problem of one product: a transformed axis has one tap for each tile."""
        p, axis, n = self.problem, self.axis, self.problem.y[self.axis] // self.outputs
        pads = _with(p.pads, axis, (0, 0))
        x, y, w, dilation = (_with(v, axis, m) for v, m in ((p.x, n), (p.y, n), (p.w, 1), (p.dilation, 1)))
        return replace(p, x=x, y=y, w=w, dilation=dilation, pads=pads)


def _with(values: Sequence[Any], index: int, value: Any) -> tuple:
    """Return a tuple with one value replaced."""
    return (*values[:index], value, *values[index + 1 :])
