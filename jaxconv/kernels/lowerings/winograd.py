"""Lowering "winograd": C, T and K with fewer multiplications, by Winograd's algorithms such as F(2, 3).

The algorithms compute the outputs of one axis in tiles of two or four: see :mod:`.winograd_algorithms`. All suitable
axes are transformed: for 3x3 taps, 16 products replace 36, or 36 replace 144; for 5x5 taps, 36 replace 100. The rest,
channels and the taps of other axes, is a convolution for each combination of the products of all axes. K is the
derivative in w: the same sums of x, the transposed sums of y, and the transposed sums of the kernel at the end.

Tiles of four are used on an axis that they fill, if the kernel is not larger than x and y together. Each output then
also depends on entries of its tile that it does not read: their rounding errors reach it, and so would a NaN. So C and
T first look for outliers in their operand, which takes 4 percent of the time. If there is an entry that is not finite,
or far larger than most of its image, XLA's convolution computes the result. K sums over all positions, so a NaN reaches
every tap. With tiles of two, an output depends only on the entries that it reads.

The products of the definition are not computed. The error of a result is therefore bounded by the largest x of its
tiles and the largest w, not by the largest product.

A loop runs over the products of every axis but the last, so that the program is short and the operands of one step stay
in the cache. The products of the last axis are written one by one: XLA computes several at a time on different cores.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.apart import apart
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.lowerings.winograd_algorithms import FOURS, PAIRS, Algorithm
from jaxconv.kernels.lowerings.winograd_sums import (
    Coefficients,
    Entries,
    Shape,
    Tiles,
    Weights,
    coefficients_of,
    weighted_sum,
    weights_of,
)
from jaxconv.kernels.lowerings.xla_nhwc import convolve as convolve_nhwc
from jaxconv.kernels.parts import divisor, in_parts, part_at, update_at
from jaxconv.kernels.problem import Problem, Shapes, mirror, mirrored
from jaxconv.kernels.taps import pad
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array

# the most outputs of tiles of four, relative to those that are needed
MAX_PADDED = 1.15
# the binary exponent of an outlier, above the mean; the longest runs of entries, for which XLA's code is the fastest
OUTLIER, LONGEST_RUN = 12.0, 4
# the most entries of x and y in one part of the batch: each takes a pass over its result, and its arrays should fit the
# cache; and in the largest image that is faster this way
PART, LARGEST = 3 << 21, 1 << 22
# the same for K with one transformed axis. Without a loop over the products, XLA may compute the sums of all of them
# first: a training step of three convolutions of signals (jaxconv bench fcn --accelerate) took 51 instead of 32 ms
PART_WITHOUT_LOOP = 1 << 21


def algorithms(name: str, problem: Problem, shapes: Shapes) -> dict[int, Algorithm]:
    """Return the algorithm of each axis that is transformed; for T, those of the mirrored problem.

    Tiles of four have more products: if the kernel is large, adding these takes longer than the tiles save.
    """
    found, p = dict[int, Algorithm](), mirrored(problem) if name == "transpose" else problem
    by_fours = not _is_large(shapes)
    for axis, (taps, stride, y, d) in enumerate(zip(p.w, p.strides, p.y, p.dilation, strict=True)):
        if taps in PAIRS and stride == 1 and y > 1:
            four = FOURS.get(taps)
            is_full = four is not None and four.outputs * d * four.tiles(y, d) <= MAX_PADDED * y
            found[axis] = four if four and by_fours and is_full else PAIRS[taps]
    return found


def _is_large(shapes: Shapes) -> bool:
    """Return whether the kernel is larger than x and y together; a symbolic length counts as 1."""
    x, w, y = (math.prod(n if isinstance(n, int) else 1 for n in shapes[letter]) for letter in "xwy")
    return w > x + y


def saving(name: str, problem: Problem, shapes: Shapes) -> float:
    """Return the number of multiplications of the definition divided by the number of those left."""
    p, out = mirrored(problem) if name == "transpose" else problem, 1.0
    for axis, algorithm in algorithms(name, problem, shapes).items():
        y, d = p.y[axis], p.dilation[axis]
        # for T, the definition multiplies each entry of y, and not the zeros around them in the mirrored problem
        out *= p.w[axis] * problem.y[axis] / (len(algorithm.x) * algorithm.tiles(y, d) * d)
    return out


def fits(problem: Problem, channels: int) -> bool:
    """Return whether one image is small enough, given the number of channels and filters together."""
    return math.prod(problem.y) * channels <= LARGEST


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if name == "transpose" and max(problem.strides) > 1:
        return "it computes input gradients without strides"
    found = algorithms(name, problem, shapes)
    return None if found else "it needs an axis of two, three or five taps, without stride, and two outputs"


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``; by XLA if tiles of four would spread an outlier."""
    chosen = algorithms("convolve", problem, problem.shapes("convolve", x.shape, w.shape))

    def transformed(x: Array, w: Array) -> Array:
        return _in_parts("convolve", x, w, problem, chosen, arithmetic, solve)

    def direct(x: Array, w: Array) -> Array:
        return convolve_nhwc(x, w, problem, arithmetic)

    return lax.cond(has_outliers(x), direct, transformed, x, w) if _has_fours(chosen) else transformed(x, w)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``, as C with the mirrored kernel.

    A large kernel is not copied: the products contract its filters.
    """
    shapes = problem.shapes("transpose", y.shape, w.shape)
    chosen, problem = algorithms("transpose", problem, shapes), mirrored(problem)
    if _is_large(shapes):
        chosen = {axis: algorithm.reversed() for axis, algorithm in chosen.items()}
        return _in_parts("transpose", y, w, problem, chosen, arithmetic, solve)
    return convolve(y, apart(lambda w: mirror(w, 1), w), problem, arithmetic, solve)


def _has_fours(chosen: Mapping[int, Algorithm]) -> bool:
    return any(algorithm in FOURS.values() for algorithm in chosen.values())


def has_outliers(x: Array) -> Array:
    """Return whether an image has an entry that is not finite, or far larger than most of its entries.

    The largest entry of each short run is taken. The binary exponent of the largest of these is compared with the mean
    exponent of all that are not zero. Maxima of integers are computed, which takes a fraction of the time. The sums are
    integers, too, and one loop computes all three. An overflow would lower the mean: then XLA computes the result.
    """
    info = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(lax.abs(x), f"int{info.bits}")
    runs = bits.reshape(*x.shape[:-1], -1, math.gcd(x.shape[-1], LONGEST_RUN) if isinstance(x.shape[-1], int) else 1)
    exponents = lax.shift_right_logical(jnp.max(runs, -1), jnp.asarray(info.nmant, bits.dtype)).astype(jnp.int32)

    def both(a: Sequence[Array], b: Sequence[Array]) -> tuple[Array, ...]:
        return lax.max(a[0], b[0]), lax.add(a[1], b[1]), lax.add(a[2], b[2])

    values, zero = (exponents, exponents, (exponents > 0).astype(jnp.int32)), jnp.zeros((), jnp.int32)
    largest, sums, counts = lax.reduce(values, (zero,) * 3, both, tuple(range(1, x.ndim)))
    mean = sums.astype(jnp.float32) / counts.astype(jnp.float32)  # NaN: all are zero
    # the largest exponent is that of values that are not finite
    return jnp.any(largest.astype(jnp.float32) > jnp.minimum(mean + OUTLIER, 2**info.nexp - 1.5))


def _in_parts(
    name: str, x: Array, w: Array, problem: Problem, chosen: Mapping[int, Algorithm], arithmetic: Arithmetic,
    solve: Solve,
) -> Array:  # fmt: skip
    """Compute a convolution, in parts of the batch. Its products are the one-tap map of this name."""
    w, channels = arithmetic.upcast(w), sum(w.shape[-2:])

    def product(x: Array, w: Array, p: Problem) -> Array:
        return solve(name, x, w, p if name == "convolve" else mirrored(p), unfinished=True)

    def shape(x: Array, w: Array, inner: Problem) -> Shape:
        return (x.shape[0], *inner.y, w.shape[-1 if name == "convolve" else -2])

    def part(x: Array) -> Array:
        x = arithmetic.upcast(x)
        # with tiles of two, a value that is not finite reaches only the outputs that read it
        coefficients = coefficients_of(name, chosen, x.dtype, not _has_fours(chosen))
        one_map = _Map(product, Tiles.taps, shape, Tiles.outputs_from, chosen, coefficients)
        pads, padded = _padded(problem, chosen)
        y = _transformed(one_map, pad(x, pads), w, padded, [*chosen], _first_entry(x))
        return lax.slice(y, (0,) * y.ndim, (y.shape[0], *problem.y, y.shape[-1]))

    return in_parts(part, x, _images(problem, x.shape[0], channels, PART), arithmetic.accumulate_dtype)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    p, batch, channels, filters = problem, x.shape[0], x.shape[-1], y.shape[-1]
    chosen = algorithms("correlate", p, p.shapes("correlate", x.shape, y.shape))
    pads, padded = _padded(p, chosen)
    ends = [(0, whole - n) for whole, n in zip(padded.y, p.y, strict=True)]
    images = _images(p, batch, channels + filters, PART if len(chosen) > 1 else PART_WITHOUT_LOOP)

    def product(x: Array, y: Array, p: Problem) -> Array:
        return solve("correlate", x, y, p, unfinished=True)

    def shape(x: Array, y: Array, inner: Problem) -> Shape:
        return (*inner.w, channels, filters)

    def part(images_of: Callable[[Array], Array]) -> Array:
        def prepared(a: Array, pads: Sequence[tuple[int, int]]) -> Array:
            if images == batch and not any(map(any, pads)):
                return arithmetic.upcast(a)
            # separately: otherwise XLA would pad x in the forward pass and keep the result for the backward pass, or it
            # would slice and pad in every sum, entry by entry
            return apart(lambda a: pad(arithmetic.upcast(images_of(a)), pads), a)

        coefficients = coefficients_of("correlate", chosen, arithmetic.accumulate_dtype, False)
        one_map = _Map(product, Tiles.outputs_of, shape, Tiles.taps_from, chosen, coefficients)
        first, second = prepared(x, pads), prepared(y, ends)
        return _transformed(one_map, first, second, padded, [*chosen], _first_entry(second))

    if images == batch:
        return part(lambda a: a)

    def add(i: Array, w: Array) -> Array:
        return w + part(lambda a: part_at(a, i, images))

    zeros = varying_zeros((*p.w, channels, filters), arithmetic.accumulate_dtype, x, y)
    return lax.fori_loop(0, batch // images, add, zeros)


class _Map(NamedTuple):
    """The functions that differ between a convolution and a kernel gradient.

    product: computes the rest when all axes are transformed. entries: returns the entries of the second operand that a
    sum adds, and the shape of the sum. shape: returns that of one product of an axis. result: combines the products of
    an axis.
    """

    product: Callable[[Array, Array, Problem], Array]
    entries: Callable[[Tiles, Array], Entries]
    shape: Callable[[Array, Array, Problem], Shape]
    result: Callable[[Tiles, Sequence[Array], Weights], Array]
    algorithms: Mapping[int, Algorithm]
    coefficients: Mapping[int, Coefficients]


def _transformed(one_map: _Map, a: Array, b: Array, p: Problem, left: Sequence[int], any_value: Array) -> Array:
    """Compute a map of padded operands, of which the axes ``left`` are still to be transformed.

    any_value: an entry of an operand, which fills results before they are computed.
    """
    if not left:
        return one_map.product(a, b, p)
    axis, *rest = left
    algorithm, table = one_map.algorithms[axis], one_map.coefficients[axis]
    tiles = Tiles(algorithm.outputs, axis, p)
    inner, number = tiles.inner(), len(algorithm.x)

    @jax.jit  # all products are traced once
    def product(firsts: Weights, seconds: Weights) -> Array:
        (entries, first), (others, second) = tiles.inputs_of(a), one_map.entries(tiles, b)

        def sums() -> tuple[Array, Array]:
            return weighted_sum(entries(), firsts).reshape(first), weighted_sum(others(), seconds).reshape(second)

        one, other = apart(sums) if rest else sums()
        return _transformed(one_map, one, other, inner, rest, any_value)

    def add(i: Array, out: Array) -> Array:
        return update_at(out, product(*weights_of(table.operands, i))[None], i, 0)

    if rest:
        shape = one_map.shape(a, b, inner)
        # the loop starts when the operands are computed: XLA would allocate zeros for the loops of all layers earlier
        # two axes: XLA takes twice as long to fill an array of more
        filled = lax.broadcast(any_value, (number, math.prod(shape))).reshape(number, *shape)
        products = list(lax.fori_loop(0, number, add, filled))
    else:
        products = [product(*weights) for weights in table.operands]
    return one_map.result(tiles, products, table.result)


def _first_entry(a: Array) -> Array:
    """Return one entry of an array, or 0 for a symbolic one, which must not be sliced."""
    if not all(isinstance(n, int) for n in a.shape):
        return jnp.zeros((), a.dtype)
    return lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())


def _images(problem: Problem, batch: int, channels: int, most: int) -> int:
    """Return the number of images that are computed at a time: a divisor of the batch, or all of a symbolic one."""
    return divisor(batch, most // (math.prod(problem.y) * channels))


def _padded(problem: Problem, chosen: Mapping[int, Algorithm]) -> tuple[list[tuple[int, int]], Problem]:
    """Return the pads of x that fill the tiles of the transformed axes, and the problem of the padded x."""
    p, x, y = problem, list(problem.x), list(problem.y)
    now, later = [(0, 0)] * p.rank, list(p.pads)
    for axis, algorithm in chosen.items():
        low, d = p.pads[axis][0], p.dilation[axis]
        y[axis] = algorithm.outputs * algorithm.tiles(p.y[axis], d) * d
        x[axis] = y[axis] + (p.w[axis] - 1) * d
        now[axis], later[axis] = (low, x[axis] - p.x[axis] - low), (0, 0)
    return now, replace(p, x=tuple(x), y=tuple(y), pads=tuple(later))


MAPS = {"convolve": convolve, "transpose": transpose, "correlate": correlate}
WINOGRAD = Lowering("winograd", MAPS, limits, is_direct=False, sums=("convolve", "transpose"))
