"""Lowering "winograd": C and K with fewer multiplications, by Winograd's algorithms F(2, 3) and F(2, 2).

On an axis of three taps, two neighbouring outputs need four products instead of six:

    y[0] = m0 + m1 + m2        m0 = (x[0] - x[2]) w[0]        m1 = (x[1] + x[2]) (w[0] + w[1] + w[2]) / 2
    y[1] = m1 - m2 - m3        m3 = (x[1] - x[3]) w[2]        m2 = (x[2] - x[1]) (w[0] - w[1] + w[2]) / 2

and with two taps, three instead of four:

    y[0] = m0 + m1             m0 = (x[0] - x[1]) w[0]        m1 = x[1] (w[0] + w[1])
    y[1] = m1 - m2             m2 = (x[1] - x[2]) w[1]

Every axis that can is transformed: 3x3 taps take 16 products for 4 outputs instead of 36. What is left, channels and
the taps of other axes, is a convolution for each combination of the m. K is the derivative in w: the same x, the
transposed sums of y, and the transposed sums of the kernel at the end. The products are written one by one, since XLA
computes several at a time on different cores; a loop over them takes twice the time.

Each output depends on the entries that it reads and no others, as y[0] above does not on x[3]. But not each product of
the definition is computed: the error of a result is bounded by the largest x and the largest w that it reads, not by
the largest product.

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2016.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

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
# entries of x and y in one part of the batch, and products whose operands are prepared at a time: both fit the cache
PART, AHEAD = 1 << 20, 4


def axes(problem: Problem) -> list[int]:
    """List the axes that are transformed."""
    facts = zip(problem.w, problem.strides, problem.y, strict=True)
    return [axis for axis, (taps, stride, y) in enumerate(facts) if taps in INPUTS and stride == 1 and y > 1]


def saving(problem: Problem) -> float:
    """Return the multiplications of the definition over those that are left."""
    pairs = [(problem.w[axis], problem.y[axis], problem.dilation[axis]) for axis in axes(problem)]
    return math.prod(taps * y / (len(INPUTS[taps]) * _tiles(y, d) * d) for taps, y, d in pairs)


def fits(problem: Problem, channels: int) -> bool:
    """Return whether one image fits one part, given the number of channels and filters together."""
    return math.prod(problem.y) * channels <= PART


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
    """Compute ``T(y, w)``: the products contract the filters of w, which is reversed, but not transposed in memory."""
    p = mirrored(problem)
    return _in_parts("transpose", y, lax.rev(w, axes(p)), p, arithmetic, solve)


def _in_parts(name: str, x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute a convolution, in parts of the batch, by products that are the one-tap map of this name."""
    own, w, channels = axes(problem), arithmetic.upcast(w), sum(w.shape[-2:])

    def part(x: Array) -> Array:
        x, padded = _padded(arithmetic.upcast(x), problem)
        y = _convolve(name, x, w, padded, own, _in_turn(solve))
        return lax.slice(y, (0,) * y.ndim, (y.shape[0], *problem.y, y.shape[-1]))

    batch, images = x.shape[0], _images(problem, x.shape[0], channels)
    if images == batch:
        return part(x)
    y = lax.map(part, x.reshape(batch // images, images, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def _convolve(name: str, x: Array, w: Array, p: Problem, left: Sequence[int], solve: Solve) -> Array:
    """Convolve with the axes that are left transformed."""
    if not left:
        return solve(name, x, w, p if name == "convolve" else mirrored(p), unfinished=True)
    axis, *rest = left
    pairs = zip(_sums(x, INPUTS[p.w[axis]], axis, p), _kernels(w, axis), strict=True)
    inner = _without(p, axis)
    return _restored([_convolve(name, u, v, inner, rest, solve) for u, v in pairs], p, axis)


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    own = axes(problem)
    # otherwise XLA transforms x in the forward pass, and keeps the result, four times as large, for the backward pass
    (x,) = _after(y, x)

    def products(x: Array, y: Array) -> Array:
        x, padded = _padded(arithmetic.upcast(x), problem)
        y = pad(arithmetic.upcast(y), [(0, whole - n) for whole, n in zip(padded.y, problem.y, strict=True)])
        return _correlate(x, y, padded, own, _in_turn(solve))

    batch, images = x.shape[0], _images(problem, x.shape[0], x.shape[-1] + y.shape[-1])
    if images == batch:
        out = products(x, y)
    else:

        def add(i: Array, out: Array) -> Array:
            return out + products(*(lax.dynamic_slice_in_dim(a, i * images, images) for a in (x, y)))

        shape = jax.eval_shape(products, x[:images], y[:images]).shape
        out = lax.fori_loop(0, batch // images, add, varying_zeros(shape, arithmetic.accumulate_dtype, x, y))
    for left, axis in zip(range(len(own) - 1, -1, -1), own, strict=True):  # the sums of w, transposed
        columns = zip(*KERNELS[problem.w[axis]], strict=True)
        out = jnp.concatenate([_combined(list(out), column) for column in columns], left + axis)
    return out


def _correlate(x: Array, y: Array, p: Problem, left: Sequence[int], solve: Solve) -> Array:
    """Return the kernel gradient of each product, with leading axes for those of the axes that are left."""
    if not left:
        return solve("correlate", x, y, p, unfinished=True)
    axis, *rest = left
    pairs = zip(_sums(x, INPUTS[p.w[axis]], axis, p), _sums(y, OUTPUTS[p.w[axis]], axis, p), strict=True)
    inner = _without(p, axis)
    return jnp.stack([_correlate(u, v, inner, rest, solve) for u, v in pairs])


def _after(first: Array, *others: Array) -> list[Array]:
    """Return the other arrays so that XLA uses them only after it has computed the first one.

    Barriers do not order its work: it removes them before it schedules. Here the arrays are multiplied by a 1 that is
    computed from the first array, which XLA does not simplify.
    """
    if not isinstance(first.shape[0], int):
        return list(others)
    is_positive = (lax.slice(first, (0,) * first.ndim, (1,) * first.ndim) > 0).astype(jnp.int32).reshape(())
    factor = is_positive * is_positive - is_positive + 1
    return [array * factor.astype(array.dtype) for array in others]


def _in_turn(solve: Solve) -> Solve:
    """Return a ``solve`` that starts a product after the one AHEAD places before it.

    Otherwise XLA would prepare the operands of all products first, and they would not fit the cache.
    """
    results: list[Array] = []

    def one(name: str, a: Array, b: Array, problem: Problem, unfinished: bool = False) -> Array:
        if len(results) >= AHEAD:
            a, b = _after(results[-AHEAD], a, b)
        results.append(solve(name, a, b, problem, unfinished))
        return results[-1]

    return one


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


def _entries(a: Array, axis: int, entry: int, problem: Problem) -> Array:
    """Return one entry of each tile along a spatial axis; a dilated axis is one of runs, as long as the dilation."""
    d, tiles = problem.dilation[axis], problem.y[axis] // (2 * problem.dilation[axis])
    before, after = a.shape[: axis + 1], a.shape[axis + 2 :]
    a = a if d == 1 else a.reshape(*before, -1, d, *after)
    a = lax.slice_in_dim(a, entry, entry + 2 * tiles - 1, 2, axis + 1)
    return a if d == 1 else a.reshape(*before, tiles * d, *after)


def _combined(parts: Sequence[Array], coefficients: Sequence[float]) -> Array:
    """Return the sum of the parts times their coefficients, without the parts of 0."""
    return total(part if c == 1 else part * c for part, c in zip(parts, coefficients, strict=True) if c)


def _sums(a: Array, rows: Rows, axis: int, problem: Problem) -> list[Array]:
    """Return the sum of entries of each tile along a spatial axis, for each row of coefficients."""
    entries = [_entries(a, axis, entry, problem) for entry in range(len(rows[0]))]
    return [_combined(entries, row) for row in rows]


def _kernels(w: Array, axis: int) -> list[Array]:
    """Return the factor w of each product along an axis."""
    taps = [lax.slice_in_dim(w, tap, tap + 1, axis=axis) for tap in range(w.shape[axis])]
    return [_combined(taps, row) for row in KERNELS[len(taps)]]


def _restored(products: Sequence[Array], p: Problem, axis: int) -> Array:
    """Return the outputs of all tiles along an axis, from their products."""
    d, pair = p.dilation[axis], [_combined(products, column) for column in zip(*OUTPUTS[p.w[axis]], strict=True)]
    before, after = pair[0].shape[: axis + 1], pair[0].shape[axis + 2 :]
    y = jnp.stack([one.reshape(*before, -1, d, *after) for one in pair], axis + 2)
    return y.reshape(*before, -1, *after)


MAPS = {"convolve": convolve, "transpose": transpose, "correlate": correlate}
WINOGRAD = Lowering("winograd", MAPS, limits, is_direct=False)
