"""The sums before and after the products of the lowering "winograd": their coefficients, and the tiles of an axis.

Each sum adds all entries of a tile, times coefficients that XLA does not know when it compiles, including zeros. So the
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

from jaxconv.kernels.apart import apart
from jaxconv.kernels.lowerings.winograd_algorithms import Algorithm
from jaxconv.kernels.parts import entry_at
from jaxconv.kernels.problem import Problem
from jaxconv.kernels.taps import total

Shape = tuple[Any, ...]
Entries = tuple[Callable[[], list[Array]], Shape]  # a function that slices what a sum adds; the shape of the sum


class Weights(NamedTuple):
    """The coefficients of one sum; or of several sums, in the rows of a matrix.

    bits: a mask for each entry: all bits, or no bits if the coefficient is 0. None if no entry is masked.
    """

    coefficients: Any
    bits: Any


class Coefficients(NamedTuple):
    """The coefficients of one axis: of the sums of both operands, for each product, and of the sums of the products.

    operands: a tuple of two weights for each product; or a table (products, 2, entries) if a loop runs over them.
    """

    operands: Any
    result: Weights


def coefficients_of(name: str, chosen: Mapping[int, Algorithm], dtype: Any, cuts: bool) -> dict[int, Coefficients]:
    """Return the coefficients of each axis for one map.

    cuts: whether entries whose coefficient is 0 are masked, so that they may be NaN or infinite.
    """

    def weights(numbers: Any, is_cut: bool) -> Weights:
        values = np.asarray(numbers, dtype)
        return Weights(values, -(values != 0).astype(f"int{8 * values.itemsize}") if is_cut else None)

    known = {}
    for axis, algorithm in chosen.items():
        second, result = (algorithm.y, algorithm.w) if name == "correlate" else (algorithm.w, algorithm.y)
        rows = zip(algorithm.x, second, strict=True)
        operands = tuple((weights(numbers, cuts), weights(others, False)) for numbers, others in rows)
        known[axis] = Coefficients(operands, weights(tuple(zip(*result, strict=True)), cuts))
    hidden = apart(lambda: known)
    for axis in [*chosen][:-1]:
        hidden[axis] = hidden[axis]._replace(operands=_table(known[axis].operands))
    return hidden


def _table(operands: Sequence[tuple[Weights, Weights]]) -> Weights:
    """Return the weights of all products as one table. Equal rows let the loops of C, T and K share code."""
    longest = max(one.coefficients.size for one in operands[0])
    rows = [[np.pad(one.coefficients, (0, longest - one.coefficients.size)) for one in pair] for pair in operands]
    bits = None if operands[0][0].bits is None else np.stack([first.bits for first, _ in operands])
    return Weights(np.array(rows), bits)


def weights_of(table: Weights, i: Array) -> tuple[Weights, Weights]:
    """Return the weights of both operands of the i-th product, from a table."""
    coefficients, bits = jax.tree.map(lambda a: entry_at(jnp.asarray(a), i), table)
    return Weights(coefficients[0], bits), Weights(coefficients[1], None)


@jax.jit
def weighted_sum(entries: Sequence[Array], weights: Weights) -> Array:
    """Return the sum of arrays times their coefficients; jitted, so that equal sums are traced once.

    With the weights of several sums, the result has an axis for them, after the first one. XLA computes it in one pass;
    a concatenation would copy the sums.
    """
    several, (first, *rest) = weights.coefficients.shape[:-1], entries[0].shape
    shape, axes = (first, *several, *rest), (0, *range(1 + len(several), 1 + len(several) + len(rest)))

    def of(values: Array, index: int) -> Array:
        one = lax.index_in_dim(values, index, -1, keepdims=False)
        return lax.broadcast_in_dim(one, shape, range(1, 1 + len(several)))

    def cut(entry: Array, index: int) -> Array:
        if weights.bits is None:
            return entry
        kept = lax.bitwise_and(lax.bitcast_convert_type(entry, weights.bits.dtype), of(weights.bits, index))
        return lax.bitcast_convert_type(kept, entry.dtype)

    def term(index: int) -> Array:
        entry = entries[index]
        spread = lax.broadcast_in_dim(entry, shape, axes) if several else entry
        return lax.mul(cut(spread, index), of(weights.coefficients, index))

    return total(term(index) for index in range(len(entries)))


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

    def outputs_from(self, products: Sequence[Array], weights: Weights) -> Array:
        """Return the outputs of all tiles, from their products."""
        shape = products[0].shape
        run = self.problem.dilation[self.axis] * math.prod(shape[self.axis + 2 :])
        outputs = weighted_sum([product.reshape(-1, run) for product in products], weights)
        return outputs.reshape(_with(shape, self.axis + 1, self.problem.y[self.axis]))

    def taps_from(self, products: Sequence[Array], weights: Weights) -> Array:
        """Return the taps of the kernel along the axis, from the products of a kernel gradient."""
        shape = products[0].shape
        run = math.prod(shape[self.axis + 1 :])
        taps = weighted_sum([product.reshape(-1, run) for product in products], weights)
        return taps.reshape(_with(shape, self.axis, taps.shape[1]))

    def inner(self) -> Problem:
        """Return the problem of one product: a transformed axis has one tap for each tile."""
        p, axis, n = self.problem, self.axis, self.problem.y[self.axis] // self.outputs
        pads = _with(p.pads, axis, (0, 0))
        x, y, w, dilation = (_with(v, axis, m) for v, m in ((p.x, n), (p.y, n), (p.w, 1), (p.dilation, 1)))
        return replace(p, x=x, y=y, w=w, dilation=dilation, pads=pads)


def _with(values: Sequence[Any], index: int, value: Any) -> tuple:
    """Return a tuple with one value replaced."""
    return (*values[:index], value, *values[index + 1 :])
