"""The standard form of a convolution: channels last, exact padding, no dilated input.

Lowerings are written for this form. This module converts problems and arrays to it and back.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry, Pairs, dilate

Sizes = tuple[int, ...]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Problem:
    """A convolution in standard form: ``x (batch, *x, groups * channels)``, ``w (*w, channels, groups * filters)`` and
    ``y (batch, *y, groups * filters)``; the group is the major part of a channel index.

    On each axis ``y[o] = sum_j x[o * stride + j * dilation - pads[0]] w[j]``, and the last window ends exactly where
    the padded input ends: a negative pad crops the inputs that no window reads.
    """

    x: Sizes
    w: Sizes
    y: Sizes
    strides: Sizes
    dilation: Sizes
    pads: Pairs
    groups: int

    @property
    def rank(self) -> int:
        """Return the number of spatial axes."""
        return len(self.x)

    @property
    def taps(self) -> int:
        """Return the number of kernel positions."""
        return math.prod(self.w)

    @property
    def has_one_window(self) -> bool:
        """Return whether the kernel covers the padded input once, as a dense layer does."""
        padded = tuple(n + sum(pads) for n, pads in zip(self.x, self.pads, strict=True))
        return padded == self.w and max(self.dilation) == 1

    @property
    def extents(self) -> Sizes:
        """Return the effective kernel lengths."""
        return tuple(dilate(k, d) for k, d in zip(self.w, self.dilation, strict=True))

    def axes(self, keep: slice) -> "Problem":
        """Return the problem restricted to some of the spatial axes."""
        fields = {name: getattr(self, name)[keep] for name in ("x", "w", "y", "strides", "dilation", "pads")}
        return Problem(**fields, groups=self.groups)

    def shapes(self, name: str, a: Sequence[int], b: Sequence[int]) -> Shapes:
        """Return the shapes of x, w and y, given those of the two operands of a map."""
        if name == "convolve":
            return {"x": tuple(a), "w": tuple(b), "y": (a[0], *self.y, b[-1])}
        if name == "transpose":
            return {"x": (a[0], *self.x, b[-2] * self.groups), "w": tuple(b), "y": tuple(a)}
        return {"x": tuple(a), "w": (*self.w, a[-1] // self.groups, b[-1]), "y": tuple(b)}


def exact(x: Sizes, w: Sizes, y: Sizes, strides: Sizes, dilation: Sizes, low: Sizes, groups: int) -> Problem:
    """Return the problem with these lengths and leading pads; the trailing pads are computed."""
    high = (
        (o - 1) * s + dilate(k, d) - n - p for n, k, o, s, d, p in zip(x, w, y, strides, dilation, low, strict=True)
    )
    return Problem(x, w, y, strides, dilation, tuple(zip(low, high, strict=True)), groups)


def mirrored(problem: Problem) -> Problem:
    """Return T, for strides of 1, as a convolution of y with the mirrored kernel. A second call undoes it."""
    p = problem
    low = tuple(extent - 1 - pad[0] for extent, pad in zip(p.extents, p.pads, strict=True))
    return exact(p.y, p.w, p.x, p.strides, p.dilation, low, p.groups)


class Form(NamedTuple):
    """One map in the form that a lowering is written for.

    map, problem, shapes: the map, its geometry, and the shapes of x, w and y in that form. arrange: converts the
    two operands to it, in the order of the map. restore: converts the result back. moves: whether the first operand or
    the result is transposed, for example if the channels are not last.
    """

    map: str
    problem: Any
    shapes: Shapes
    arrange: Callable[[Array, Array], tuple[Array, Array]]
    restore: Callable[[Array], Array]
    moves: bool = False


def standard_form(name: str, geometry: Geometry, a: Any, b: Any) -> Form | None:
    """Convert a map of two operands (arrays or avals) to standard form.

    A convolution of a dilated input scatters x, so it becomes the transposed map of a strided convolution.

    Returns:
        The form, or None if a dtype is not a real float, an array is empty, a spatial length is symbolic, or there are
        both strides and a dilated input.
    """
    g, common = geometry, promote(a.dtype, b.dtype)
    lengths = (*g.x_lengths, *g.w_lengths, *g.y_lengths)
    is_empty = any(isinstance(n, int) and n == 0 for n in (*lengths, *a.shape, *b.shape))
    is_symbolic = not all(isinstance(n, int) for n in lengths)
    if is_empty or is_symbolic or not all(jnp.issubdtype(v.dtype, jnp.floating) for v in (a, b)):
        return None
    orders = {
        "x": (g.x_dims[0], *g.x_dims[2:], g.x_dims[1]),
        "w": (*g.w_dims[2:], g.w_dims[1], g.w_dims[0]),
        "y": (g.y_dims[0], *g.y_dims[2:], g.y_dims[1]),
    }
    first, second, third = {"convolve": [*"xwy"], "transpose": [*"ywx"], "correlate": [*"xyw"]}[name]
    low = tuple(pair[0] for pair in g.padding)
    exchanged = max(g.lhs_dilation) > 1  # x and y exchange their roles
    if not exchanged:
        problem = exact(g.x_lengths, g.w_lengths, g.y_lengths, g.strides, g.rhs_dilation, low, g.groups)
    elif max(g.strides) == 1:
        low = tuple(dilate(k, d) - 1 - p for k, d, p in zip(g.w_lengths, g.rhs_dilation, low, strict=True))
        problem = exact(g.y_lengths, g.w_lengths, g.x_lengths, g.lhs_dilation, g.rhs_dilation, low, g.groups)
        name = {"convolve": "transpose", "transpose": "convolve", "correlate": "correlate"}[name]
    else:
        return None

    def in_order(a: Any, b: Any) -> tuple[Any, Any]:
        return (b, a) if exchanged and name == "correlate" else (a, b)

    def forth(array: Array, letter: str) -> Array:
        # not for kernels: XLA takes longer if their few positions are one axis
        array = (jnp.transpose if letter == "w" else permuted)(array.astype(common), orders[letter])
        return mirror(array, g.groups) if exchanged and letter == "w" else array

    def shape(array: Any, letter: str) -> tuple[int, ...]:
        *sizes, channels, filters = (array.shape[axis] for axis in orders[letter])
        if exchanged and letter == "w":
            channels, filters = filters // g.groups, channels * g.groups
        return (*sizes, channels, filters)

    def arrange(a: Array, b: Array) -> tuple[Array, Array]:
        return in_order(forth(a, first), forth(b, second))

    def restore(result: Array) -> Array:
        result = mirror(result, g.groups) if exchanged and third == "w" else result
        order = sorted(range(result.ndim), key=orders[third].__getitem__)
        return (jnp.transpose if third == "w" else permuted)(result, order)

    shapes = problem.shapes(name, *in_order(shape(a, first), shape(b, second)))
    moves = any(orders[letter] != (*range(len(orders[letter])),) for letter in (first, third))
    return Form(name, problem, shapes, arrange, restore, moves)


def permuted(array: Array, order: Sequence[int]) -> Array:
    """Return ``jnp.transpose(array, order)``.

    Axes that stay next to each other are merged first: on CPU, XLA then takes as little as half the time.
    """
    if [*order] == sorted(order):
        return array
    runs: list[list[int]] = []
    for axis in order:
        if runs and axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    merged = sorted(runs)
    moved = array.reshape([math.prod(array.shape[axis] for axis in run) for run in merged])
    moved = lax.transpose(moved, [merged.index(run) for run in runs])
    return moved.reshape([array.shape[axis] for axis in order])


def mirror(w: Array, groups: int) -> Array:
    """Reverse a kernel on every spatial axis and exchange the channels and filters of each group."""
    *spatial, channels, filters = w.shape
    rank = len(spatial)
    w = lax.rev(w, range(rank)).reshape(*spatial, channels, groups, filters // groups)
    w = jnp.moveaxis(w, rank, -1)  # (*spatial, groups, filters, channels)
    return jnp.moveaxis(w, rank, -2).reshape(*spatial, filters // groups, groups * channels)
