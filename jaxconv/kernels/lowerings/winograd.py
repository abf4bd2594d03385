"""Lowering "winograd": C, T and K with fewer multiplications, by Winograd's algorithms F(2, 3) and F(2, 2).

On an axis of three taps, two neighbouring outputs need four products instead of six:

    y[0] = m0 + m1 + m2        m0 = (x[0] - x[2]) w[0]        m1 = (x[1] + x[2]) (w[0] + w[1] + w[2]) / 2
    y[1] = m1 - m2 - m3        m3 = (x[1] - x[3]) w[2]        m2 = (x[2] - x[1]) (w[0] - w[1] + w[2]) / 2

and with two taps, three instead of four:

    y[0] = m0 + m1             m0 = (x[0] - x[1]) w[0]        m1 = x[1] (w[0] + w[1])
    y[1] = m1 - m2             m2 = (x[1] - x[2]) w[1]

Every axis that can is transformed: 3x3 taps take 16 products for 4 outputs instead of 36. What is left, channels and
the taps of other axes, is a convolution for each combination of the m. K is the derivative in w: the same x, the
transposed sums of y, and the transposed sums of the kernel at the end.

A loop runs over the products of every axis but the last, so that the program is short and the operands of one turn stay
in the cache. Each turn computes its sums in its own branch of a conditional: slices at traced positions would take six
times as long. The products of the last axis are written one by one: XLA computes several at a time on different cores.

Each output depends on the entries that it reads and no others, as y[0] above does not on x[3]. But not each product of
the definition is computed: the error of a result is bounded by the largest x and the largest w that it reads, not by
the largest product.

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2016.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem, Shapes, mirrored
from jaxconv.kernels.taps import pad, total
from jaxconv.kernels.varying import varying_zeros

Array = jax.Array
Rows = Sequence[Sequence[float]]

# For a number of taps: the coefficients of x, of w and of the two outputs, in each product.
INPUTS = {3: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)), 2: ((1, -1, 0), (0, 1, 0), (0, 1, -1))}
KERNELS = {3: ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)), 2: ((1, 0), (1, 1), (0, 1))}
OUTPUTS = {3: ((1, 0), (1, 1), (1, -1), (0, -1)), 2: ((1, 0), (1, 1), (0, -1))}
# entries of x and y: of one part of the batch, which fit the cache, and of the largest image that is faster this way
PART, LARGEST = 1 << 21, 1 << 22


def axes(problem: Problem) -> list[int]:
    """List the axes that are transformed."""
    facts = zip(problem.w, problem.strides, problem.y, strict=True)
    return [axis for axis, (taps, stride, y) in enumerate(facts) if taps in INPUTS and stride == 1 and y > 1]


def saving(problem: Problem) -> float:
    """Return the multiplications of the definition over those that are left."""
    pairs = [(problem.w[axis], problem.y[axis], problem.dilation[axis]) for axis in axes(problem)]
    return math.prod(taps * y / (len(INPUTS[taps]) * _tiles(y, d) * d) for taps, y, d in pairs)


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
    return None if axes(problem) else "it needs an axis of two or three taps, without stride, and two outputs"


def _tiles(y: int, dilation: int) -> int:
    """Return the number of pairs of outputs of one axis, which are one dilation apart."""
    return -(-y // (2 * dilation))


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    return _in_parts("convolve", x, w, problem, arithmetic, solve)


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``: the products contract the filters of w, which is neither reversed nor transposed."""
    return _in_parts("transpose", y, w, mirrored(problem), arithmetic, solve)


def _in_parts(name: str, x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute a convolution, in parts of the batch, by products that are the one-tap map of this name."""
    w, channels = arithmetic.upcast(w), sum(w.shape[-2:])
    # the sums of a reversed kernel are those of the kernel, the first one and the last one exchanged
    inputs, outputs = (_exchanged(INPUTS), _exchanged(OUTPUTS)) if name == "transpose" else (INPUTS, OUTPUTS)

    def convolved(x: Array, w: Array, p: Problem, left: Sequence[int]) -> Array:
        """Convolve with the axes that are left transformed."""
        if not left:
            return solve(name, x, w, p if name == "convolve" else mirrored(p), unfinished=True)
        axis, *rest = left
        inner, rows, operands = _without(p, axis), inputs[p.w[axis]], (x, w) if axis == axes(problem)[0] else ()

        def product(i: Any) -> Array:
            return convolved(_branch(i, _sums(rows, axis, p), x), _branch(i, _kernels(axis, p), w), inner, rest)

        return _restored(_all(product, len(rows), bool(rest), operands), outputs[p.w[axis]], axis, p)

    def part(x: Array) -> Array:
        x, padded = _padded(arithmetic.upcast(x), problem)
        y = convolved(x, w, padded, axes(problem))
        return lax.slice(y, (0,) * y.ndim, (y.shape[0], *problem.y, y.shape[-1]))

    batch, images = x.shape[0], _images(problem, x.shape[0], channels)
    if images == batch:
        return part(x)
    y = lax.map(part, x.reshape(batch // images, images, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def _exchanged(table: Mapping[int, Rows]) -> Mapping[int, Rows]:
    """Return tables with the first and the last product exchanged."""
    return {taps: (rows[-1], *rows[1:-1], rows[0]) for taps, rows in table.items()}


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""

    def correlated(x: Array, y: Array, p: Problem, left: Sequence[int]) -> Array:
        """Return the kernel gradient with the axes that are left transformed."""
        if not left:
            return solve("correlate", x, y, p, unfinished=True)
        axis, *rest = left
        inner, operands = _without(p, axis), (x, y) if axis == axes(problem)[0] else ()
        xs, ys = INPUTS[p.w[axis]], OUTPUTS[p.w[axis]]

        def product(i: Any) -> Array:
            return correlated(_branch(i, _sums(xs, axis, p), x), _branch(i, _sums(ys, axis, p), y), inner, rest)

        products = _all(product, len(xs), bool(rest), operands)
        columns = zip(*KERNELS[p.w[axis]], strict=True)  # the sums of w, transposed
        return jnp.concatenate([_combined(products, column) for column in columns], axis)

    def part(x: Array, y: Array) -> Array:
        # otherwise XLA pads x in the forward pass, and keeps the result for the backward pass
        x, padded = _padded(arithmetic.upcast(_after(y, x)), problem)
        y = pad(arithmetic.upcast(y), [(0, whole - n) for whole, n in zip(padded.y, problem.y, strict=True)])
        return correlated(x, y, padded, axes(problem))

    batch, images = x.shape[0], _images(problem, x.shape[0], x.shape[-1] + y.shape[-1])
    if images == batch:
        return part(x, y)

    def add(i: Array, w: Array) -> Array:
        return w + part(*(lax.dynamic_slice_in_dim(a, i * images, images) for a in (x, y)))

    zeros = varying_zeros((*problem.w, x.shape[-1], y.shape[-1]), arithmetic.accumulate_dtype, x, y)
    return lax.fori_loop(0, batch // images, add, zeros)


def _all(product: Callable[[Any], Array], number: int, in_a_loop: bool, operands: Sequence[Array]) -> list[Array]:
    """Compute the products of one axis. The operands of the outermost loop order it behind what computes them."""
    if not in_a_loop:
        return [product(i) for i in range(number)]
    if not operands:
        return list(lax.map(product, jnp.arange(number)))
    one = jax.eval_shape(product, 0)
    # XLA would prepare constant zeros for the loops of all layers before the first one
    any_value = total(_first_entry(operand) for operand in operands).astype(one.dtype)
    out = jnp.broadcast_to(any_value, (number, *one.shape))
    return list(lax.fori_loop(0, number, lambda i, out: lax.dynamic_update_index_in_dim(out, product(i), i, 0), out))


def _branch(i: Any, functions: Sequence[Callable[[Array], Array]], operand: Array) -> Array:
    """Apply the i-th function; i may be traced."""
    return functions[i](operand) if isinstance(i, int) else lax.switch(i, functions, operand)


def _after(first: Array, then: Array) -> Array:
    """Return the second array so that XLA uses it only after it has computed the first one.

    Barriers do not order its work: it removes them before it schedules. Here the array is multiplied by a 1 that is
    computed from the first array, which XLA does not simplify.
    """
    is_positive = (_first_entry(first) > 0).astype(jnp.int32)
    return then * (is_positive * is_positive - is_positive + 1).astype(then.dtype)


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


def _padded(x: Array, problem: Problem) -> tuple[Array, Problem]:
    """Pad the transformed axes of x to whole tiles; return the problem of the padded x."""
    p, own = problem, axes(problem)
    y, pads = list(p.y), list(p.pads)
    for axis in own:
        low, d = p.pads[axis][0], p.dilation[axis]
        y[axis] = 2 * _tiles(p.y[axis], d) * d
        pads[axis] = (low, y[axis] + 2 * d - p.x[axis] - low)
    x = pad(x, [pads[axis] if axis in own else (0, 0) for axis in range(p.rank)])
    none = [(0, 0) if axis in own else pads[axis] for axis in range(p.rank)]
    return x, replace(p, x=x.shape[1:-1], y=tuple(y), pads=tuple(none))


def _without(problem: Problem, axis: int) -> Problem:
    """Return the problem of one product: a transformed axis has one tap for each tile."""
    p, n = problem, problem.y[axis] // 2

    def at(values: tuple, value: object) -> tuple:
        return (*values[:axis], value, *values[axis + 1 :])

    return replace(p, x=at(p.x, n), y=at(p.y, n), w=at(p.w, 1), dilation=at(p.dilation, 1), pads=at(p.pads, (0, 0)))


def _sums(rows: Rows, axis: int, problem: Problem) -> list[Callable[[Array], Array]]:
    """Return the functions that compute a sum of entries of each tile along an axis, for each row of coefficients."""
    d = problem.dilation[axis]
    tiles = problem.y[axis] // (2 * d)

    def of(row: Sequence[float]) -> Callable[[Array], Array]:
        def sums(a: Array) -> Array:
            before, after = a.shape[: axis + 1], a.shape[axis + 2 :]
            # a dilated axis is one of runs, as long as the dilation; three axes in all take less time to compile
            runs = a.reshape(math.prod(before), -1, d * math.prod(after))
            entries = [lax.slice_in_dim(runs, entry, entry + 2 * tiles - 1, 2, 1) for entry in range(len(row))]
            return _combined(entries, row).reshape(*before, tiles * d, *after)

        return sums

    return [of(row) for row in rows]


def _combined(parts: Sequence[Array], coefficients: Sequence[float]) -> Array:
    """Return the sum of the parts times their coefficients, without the parts of 0."""
    return total(part if c == 1 else part * c for part, c in zip(parts, coefficients, strict=True) if c)


def _kernels(axis: int, problem: Problem) -> list[Callable[[Array], Array]]:
    """Return the functions that compute the factor w of each product along an axis."""
    taps = problem.w[axis]

    def of(row: Sequence[float]) -> Callable[[Array], Array]:
        return lambda w: _combined([lax.slice_in_dim(w, tap, tap + 1, axis=axis) for tap in range(taps)], row)

    return [of(row) for row in KERNELS[taps]]


def _restored(products: Sequence[Array], rows: Rows, axis: int, p: Problem) -> Array:
    """Return the outputs of all tiles along an axis, from their products."""
    before, after = products[0].shape[: axis + 1], products[0].shape[axis + 2 :]
    runs = [product.reshape(-1, p.dilation[axis] * math.prod(after)) for product in products]
    pair = [_combined(runs, column) for column in zip(*rows, strict=True)]
    return jnp.concatenate(pair, 1).reshape(*before, -1, *after)


MAPS = {"convolve": convolve, "transpose": transpose, "correlate": correlate}
WINOGRAD = Lowering("winograd", MAPS, limits, is_direct=False)
