"""Lowering "winograd": C, T and K with fewer multiplications, by Winograd's algorithms F(2, 3), F(4, 3) and their like.

The algorithms compute the outputs of one axis by tiles of two or four: see :mod:`.winograd_algorithms`. Every axis that
can is transformed: for 3x3 taps, 16 products take the place of 36, or 36 that of 144. What is left, channels and the
taps of other axes, is a convolution for each combination of the products of all axes. K is the derivative in w: the
same sums of x, the transposed sums of y, and the transposed sums of the kernel at the end.

C and T use tiles of two outputs: each output then depends on the entries that it reads and on no others. K sums over
all positions, and uses tiles of four where they fit the axis and the kernel is not larger than x and y; a NaN reaches
every tap there. Not each product of the definition is computed: the error of a result is bounded by the largest x and
the largest w that it reads, not by the largest product.

A loop runs over the products of every axis but the last, so that the program is short and the operands of one turn stay
in the cache. The products of the last axis are written one by one: XLA computes several at a time on different cores.
Each sum adds all entries of a tile, times coefficients that XLA does not know when it compiles, zeros among them: the
sums of all products are one program, which is compiled once.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.winograd_algorithms import FOURS, PAIRS, Algorithm, Rows
from jaxconv.kernels.problem import Problem, Shapes, mirrored
from jaxconv.kernels.taps import pad, total
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array

# outputs of tiles of four, relative to those that are needed
MAX_PADDED = 1.15
# entries of x and y: of one part of the batch, which fit the cache, and of the largest image that is faster this way
PART, LARGEST = 1 << 21, 1 << 22


def algorithms(name: str, problem: Problem, shapes: Shapes) -> dict[int, Algorithm]:
    """Return the algorithm of each axis that is transformed.

    Tiles of four have more products: where the kernel is large, these take longer to add than is saved.
    """
    found, p = dict[int, Algorithm](), problem
    by_fours = name == "correlate" and _size(shapes["w"]) <= _size(shapes["x"]) + _size(shapes["y"])
    for axis, (taps, stride, y, d) in enumerate(zip(p.w, p.strides, p.y, p.dilation, strict=True)):
        if taps in PAIRS and stride == 1 and y > 1:
            four = FOURS[taps]
            is_full = 4 * d * four.tiles(y, d) <= MAX_PADDED * y
            found[axis] = four if by_fours and is_full else PAIRS[taps]
    return found


def _size(shape: Sequence[Any]) -> int:
    """Return the number of entries of an array; a symbolic length counts as 1."""
    return math.prod(n if isinstance(n, int) else 1 for n in shape)


def saving(name: str, problem: Problem, shapes: Shapes) -> float:
    """Return the multiplications of the definition over those that are left."""
    p, out = problem, 1.0
    for axis, algorithm in algorithms(name, p, shapes).items():
        y, d = p.y[axis], p.dilation[axis]
        out *= p.w[axis] * y / (len(algorithm.x) * algorithm.tiles(y, d) * d)
    return out


def fits(problem: Problem, channels: int) -> bool:
    """Return whether one image is small enough, given the number of channels and filters together."""
    return math.prod(problem.y) * channels <= LARGEST


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return why a problem is not supported, or None."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if name == "transpose":
        if max(problem.strides) > 1:
            return "it computes input gradients without strides"
        problem = mirrored(problem)
    found = algorithms(name, problem, shapes)
    return None if found else "it needs an axis of two or three taps, without stride, and two outputs"


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    return _in_parts("convolve", x, w, problem, arithmetic, solve)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``: the products contract the filters of w, which is neither reversed nor transposed."""
    return _in_parts("transpose", y, w, mirrored(problem), arithmetic, solve)


def _in_parts(name: str, x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute a convolution, in parts of the batch, by products that are the one-tap map of this name."""
    w, channels = arithmetic.upcast(w), sum(w.shape[-2:])
    chosen = algorithms(name, problem, {"x": x.shape, "w": w.shape})
    if name == "transpose":  # of the mirrored problem
        chosen = {axis: algorithm.exchanged() for axis, algorithm in chosen.items()}

    def part(x: Array) -> Array:
        x = arithmetic.upcast(x)
        unknown = _Unknown.of(x, w)
        coefficients = _coefficients(name, chosen, unknown, x.dtype)

        def convolved(x: Array, w: Array, p: Problem, left: Sequence[int]) -> Array:
            """Convolve with the axes that are left transformed."""
            if not left:
                return solve(name, x, w, p if name == "convolve" else mirrored(p), unfinished=True)
            axis, *rest = left
            tiles, table = _Tiles(chosen[axis].outputs, axis, p), coefficients[axis]
            inner, number = tiles.inner(), len(chosen[axis].x)

            def product(i: Any) -> list[Array]:
                def sums() -> tuple[Array, Array]:
                    xs = _sum(tiles.entries(x, len(chosen[axis].x[0])), _row(table.first, i))
                    return tiles.flat(xs, x), _sum(_taps(w, axis), _row(table.second, i))

                shapes = (tiles.sum_shape(x), _with(w.shape, axis, 1))
                xs, taps = unknown.apart(sums, shapes) if rest else sums()
                return [convolved(xs, taps, inner, rest)]

            shape = (x.shape[0], *inner.y, w.shape[-1 if name == "convolve" else -2])
            (products,) = _all(product, number, [shape], unknown, rest, axis == min(chosen))
            return tiles.joined(products, table.result)

        x, padded = _padded(x, problem, chosen)
        y = convolved(x, w, padded, [*chosen])
        return lax.slice(y, (0,) * y.ndim, (y.shape[0], *problem.y, y.shape[-1]))

    batch, images = x.shape[0], _images(problem, x.shape[0], channels)
    if images == batch:
        return part(x)
    y = lax.map(part, x.reshape(batch // images, images, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    p, shapes = problem, {"x": x.shape, "w": (*problem.w, x.shape[-1], y.shape[-1]), "y": y.shape}
    chosen = algorithms("correlate", problem, shapes)

    def part(x: Array, y: Array) -> Array:
        x, y = arithmetic.upcast(x), arithmetic.upcast(y)
        unknown = _Unknown.of(y, x)
        coefficients = _coefficients("correlate", chosen, unknown, x.dtype)

        def correlated(x: Array, y: Array, p: Problem, left: Sequence[int]) -> list[Array]:
            """Return the kernel gradient with the axes that are left transformed: a part for each tap of them."""
            if not left:
                return [solve("correlate", x, y, p, unfinished=True)]
            axis, *rest = left
            tiles, table = _Tiles(chosen[axis].outputs, axis, p), coefficients[axis]
            inner, number = tiles.inner(), len(chosen[axis].x)

            def product(i: Any) -> list[Array]:
                def sums() -> tuple[Array, Array]:
                    xs = _sum(tiles.entries(x, len(chosen[axis].x[0])), _row(table.first, i))
                    ys = _sum(tiles.entries(y, tiles.outputs), _row(table.second, i))
                    return tiles.flat(xs, x), tiles.flat(ys, y)

                xs, ys = unknown.apart(sums, (tiles.sum_shape(x), tiles.sum_shape(y))) if rest else sums()
                return correlated(xs, ys, inner, rest)

            part = (*(1 if other in rest else n for other, n in enumerate(inner.w)), x.shape[-1], y.shape[-1])
            parts = [part] * math.prod(p.w[other] for other in rest)
            products = _all(product, number, parts, unknown, rest, axis == min(chosen))
            return [_sum(part, row) for row in table.result for part in products]

        # otherwise XLA pads x in the forward pass, and keeps the result for the backward pass
        x, padded = _padded(x * unknown.one.astype(x.dtype), problem, chosen)
        y = pad(y, [(0, whole - n) for whole, n in zip(padded.y, problem.y, strict=True)])
        parts = correlated(x, y, padded, [*chosen])
        for axis in reversed(chosen):
            parts = [jnp.concatenate(parts[i : i + p.w[axis]], axis) for i in range(0, len(parts), p.w[axis])]
        return parts[0]

    batch, images = x.shape[0], _images(problem, x.shape[0], x.shape[-1] + y.shape[-1])
    if images == batch:
        return part(x, y)

    def add(i: Array, w: Array) -> Array:
        return w + part(*(lax.dynamic_slice_in_dim(a, i * images, images) for a in (x, y)))

    zeros = varying_zeros((*problem.w, x.shape[-1], y.shape[-1]), arithmetic.accumulate_dtype, x, y)
    return lax.fori_loop(0, batch // images, add, zeros)


class _Unknown(NamedTuple):
    """Values that depend on the operands, so that XLA does not know them when it compiles, as it would constants.

    XLA removes optimization barriers before it fuses and schedules; these it keeps.

    one: an integer 1, which depends on the first operand. any_value: some number, which depends on both.
    """

    one: Array
    any_value: Array

    @classmethod
    def of(cls, first: Array, second: Array) -> "_Unknown":
        entries = [_first_entry(operand) for operand in (first, second)]
        is_positive = (entries[0] > 0).astype(jnp.int32)
        return cls(is_positive * is_positive - is_positive + 1, total(entries))

    def apart(self, compute: Callable[[], Any], shapes: Sequence[Sequence[int]]) -> Any:
        """Compute arrays of these shapes where XLA does not fuse them with what reads them.

        It would compute them again for each reader.
        """

        def never() -> Any:
            return tuple(varying_zeros(shape, self.any_value.dtype, self.any_value) for shape in shapes)

        return lax.cond(self.one == 1, compute, never)

    def hide(self, known: Any) -> Any:
        """Return constants as values that XLA does not know."""
        return lax.cond(self.one == 1, lambda: known, lambda: jax.tree.map(jnp.zeros_like, known))


class _Row(NamedTuple):
    """The coefficients of one sum. bits: those to keep of each entry, none where the coefficient is 0; or None."""

    coefficients: Any
    bits: Any


class _Coefficients(NamedTuple):
    """The coefficients of one axis: of the sums of both operands, one for each product, and of those of the products.

    Each is a tuple of rows, or one row of matrices where a loop runs over the products.
    """

    first: Any
    second: Any
    result: Any


def _coefficients(
    name: str, chosen: Mapping[int, Algorithm], unknown: _Unknown, dtype: Any
) -> dict[int, _Coefficients]:
    """Return the coefficients of each axis for one map.

    In C and T, what is not finite reaches only the outputs that read it, so entries are cut where the coefficient is 0.
    """
    cuts = name != "correlate"

    def rows(table: Rows, is_cut: bool) -> tuple[_Row, ...]:
        values = [np.asarray(numbers, dtype) for numbers in table]
        return tuple(_Row(v, -(v != 0).astype(f"int{8 * v.itemsize}") if is_cut else None) for v in values)

    def columns(table: Rows, is_cut: bool) -> tuple[_Row, ...]:
        return rows(tuple(zip(*table, strict=True)), is_cut)

    known = {}
    for axis, algorithm in chosen.items():
        second, result = (algorithm.w, algorithm.y) if cuts else (algorithm.y, algorithm.w)
        known[axis] = _Coefficients(rows(algorithm.x, cuts), rows(second, False), columns(result, cuts))
    hidden = unknown.hide(known)
    for axis in [*chosen][:-1]:
        first, second = (jax.tree.map(lambda *rows: np.stack(rows), *table) for table in known[axis][:2])
        hidden[axis] = _Coefficients(first, second, hidden[axis].result)
    return hidden


def _row(table: Any, i: Any) -> _Row:
    """Return the i-th row of coefficients; i is traced in a loop."""
    if isinstance(i, int):
        return table[i]
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(jnp.asarray(a), i, 0, keepdims=False), table)


def _sum(entries: Sequence[Array], row: _Row) -> Array:
    """Return the sum of arrays times their coefficients."""

    def of(values: Array, index: int) -> Array:
        return lax.broadcast(lax.index_in_dim(values, index, keepdims=False), entries[0].shape)

    def cut(entry: Array, index: int) -> Array:
        if row.bits is None:
            return entry
        kept = lax.bitwise_and(lax.bitcast_convert_type(entry, row.bits.dtype), of(row.bits, index))
        return lax.bitcast_convert_type(kept, entry.dtype)

    return total(lax.mul(cut(entry, i), of(row.coefficients, i)) for i, entry in enumerate(entries))


def _taps(w: Array, axis: int) -> list[Array]:
    return [lax.slice_in_dim(w, tap, tap + 1, axis=axis) for tap in range(w.shape[axis])]


def _all(
    product: Callable[[Any], list[Array]], number: int, shapes: Sequence[Sequence[int]], unknown: _Unknown,
    in_a_loop: Any, is_outermost: bool,
) -> list[list[Array]]:  # fmt: skip
    """Compute the products of one axis: for each array that a product consists of, its values in all of them."""
    if not in_a_loop:
        return [list(values) for values in zip(*(product(i) for i in range(number)), strict=True)]
    if not is_outermost:
        return [list(values) for values in lax.map(product, jnp.arange(number))]

    def add(i: Array, out: list[Array]) -> list[Array]:
        return [lax.dynamic_update_index_in_dim(a, one, i, 0) for a, one in zip(out, product(i), strict=True)]

    # the loop starts when the operands are computed: XLA would prepare zeros for the loops of all layers before
    out = lax.fori_loop(0, number, add, [lax.broadcast(unknown.any_value, (number, *shape)) for shape in shapes])
    return [list(values) for values in out]


def _first_entry(a: Array) -> Array:
    """Return one entry of an array; of a symbolic one, which may not be sliced, a 0."""
    if not all(isinstance(n, int) for n in a.shape):
        return jnp.zeros((), a.dtype)
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())


def _images(problem: Problem, batch: int, channels: int) -> int:
    """Return how many images are computed at a time: a divisor of the batch, or all of a symbolic one."""
    if not isinstance(batch, int):
        return batch
    fitting = PART // (math.prod(problem.y) * channels)
    return next(n for n in range(max(1, min(fitting, batch)), 0, -1) if batch % n == 0)


def _padded(x: Array, problem: Problem, chosen: Mapping[int, Algorithm]) -> tuple[Array, Problem]:
    """Pad the transformed axes of x to whole tiles; return the problem of the padded x."""
    p, y, pads = problem, list(problem.y), list(problem.pads)
    for axis, algorithm in chosen.items():
        low, d = p.pads[axis][0], p.dilation[axis]
        y[axis] = algorithm.outputs * algorithm.tiles(p.y[axis], d) * d
        pads[axis] = (low, y[axis] + 2 * d - p.x[axis] - low)
    x = pad(x, [pads[axis] if axis in chosen else (0, 0) for axis in range(p.rank)])
    none = [(0, 0) if axis in chosen else pads[axis] for axis in range(p.rank)]
    return x, replace(p, x=x.shape[1:-1], y=tuple(y), pads=tuple(none))


class _Tiles(NamedTuple):
    """The tiles of one axis of a padded problem, each with this many outputs."""

    outputs: int
    axis: int
    problem: Problem

    def entries(self, a: Array, number: int) -> list[Array]:
        """Return the first entries of all tiles, then the second ones, and so on."""
        step, d = self.outputs, self.problem.dilation[self.axis]
        tiles = self.problem.y[self.axis] // (step * d)
        # a dilated axis is one of runs, as long as the dilation; three axes in all take less time to compile
        runs = a.reshape(math.prod(a.shape[: self.axis + 1]), -1, d * math.prod(a.shape[self.axis + 2 :]))
        return [lax.slice_in_dim(runs, i, i + step * (tiles - 1) + 1, step, 1) for i in range(number)]

    def flat(self, sums: Array, a: Array) -> Array:
        """Return a sum of entries with the axes of a."""
        return sums.reshape(*a.shape[: self.axis + 1], -1, *a.shape[self.axis + 2 :])

    def sum_shape(self, a: Array) -> tuple[int, ...]:
        """Return the shape of the sums of entries of a."""
        return _with(a.shape, self.axis + 1, self.problem.y[self.axis] // self.outputs)

    def joined(self, products: Sequence[Array], columns: Sequence[_Row]) -> Array:
        """Return the outputs of all tiles, from their products."""
        after = products[0].shape[self.axis + 2 :]
        runs = [product.reshape(-1, self.problem.dilation[self.axis] * math.prod(after)) for product in products]
        return self.flat(jnp.concatenate([_sum(runs, column) for column in columns], 1), products[0])

    def inner(self) -> Problem:
        """Return the problem of one product: a transformed axis has one tap for each tile."""
        p, axis, n = self.problem, self.axis, self.problem.y[self.axis] // self.outputs
        pads = _with(p.pads, axis, (0, 0))
        x, y, w, dilation = (_with(v, axis, m) for v, m in ((p.x, n), (p.y, n), (p.w, 1), (p.dilation, 1)))
        return replace(p, x=x, y=y, w=w, dilation=dilation, pads=pads)


def _with(values: Sequence[Any], index: int, value: Any) -> tuple:
    """Return a tuple with one value replaced."""
    return (*values[:index], value, *values[index + 1 :])


MAPS = {"convolve": convolve, "transpose": transpose, "correlate": correlate}
WINOGRAD = Lowering("winograd", MAPS, limits, is_direct=False)
