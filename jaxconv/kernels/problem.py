"""One form for every convolution: channels last, padding exact, no stretched input.

Lowerings are written for this form alone. Knows how to bring arrays into it and out of it, and nothing of how a map is
computed or chosen.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.geometry import Geometry, Pairs, dilate

Array = jax.Array
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """A convolution in standard form: ``x (batch, *x, groups * channels)``, ``w (*w, channels, groups * filters)`` and
    ``y (batch, *y, groups * filters)``; the group is the slower part of a channel index.

    On each axis ``y[o] = sum_j x[o * stride + j * dilation - pads[0]] w[j]``, and the last window ends exactly where
    the padded input does: what no window reads is cropped by a negative pad.
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
        """Give the number of spatial axes."""
        return len(self.x)

    @property
    def taps(self) -> int:
        """Give the number of kernel places."""
        return math.prod(self.w)

    @property
    def extents(self) -> Sizes:
        """Give the effective kernel lengths."""
        return tuple(dilate(k, d) for k, d in zip(self.w, self.dilation, strict=True))

    def axes(self, keep: slice) -> "Problem":
        """Give the problem on some of the spatial axes."""
        fields = {name: getattr(self, name)[keep] for name in ("x", "w", "y", "strides", "dilation", "pads")}
        return Problem(**fields, groups=self.groups)

    def shapes(self, name: str, a: Sequence[int], b: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Give the shapes of x, w and y by the shapes of the two operands of a map."""
        if name == "convolve":
            return {"x": tuple(a), "w": tuple(b), "y": (a[0], *self.y, b[-1])}
        if name == "transpose":
            return {"x": (a[0], *self.x, b[-2] * self.groups), "w": tuple(b), "y": tuple(a)}
        return {"x": tuple(a), "w": (*self.w, a[-1] // self.groups, b[-1]), "y": tuple(b)}


def exact(x: Sizes, w: Sizes, y: Sizes, strides: Sizes, dilation: Sizes, low: Sizes, groups: int) -> Problem:
    """Make a problem; what stands behind the input follows from the lengths."""
    high = (
        (o - 1) * s + dilate(k, d) - n - p for n, k, o, s, d, p in zip(x, w, y, strides, dilation, low, strict=True)
    )
    return Problem(x, w, y, strides, dilation, tuple(zip(low, high, strict=True)), groups)


class Standard(NamedTuple):
    """How one map over one geometry becomes a map over a problem.

    name, problem: the map and the problem. arrange: brings the two operands there, in their order. restore: brings the
    result back.
    """

    name: str
    problem: Problem
    arrange: Callable[[Array, Array], tuple[Array, Array]]
    restore: Callable[[Array], Array]


def standard(name: str, geometry: Geometry) -> Standard | None:
    """Bring a map to standard form; None where both input and output are strided, which no problem expresses.

    A convolution of a stretched input is the transposed map of a strided one: it scatters x where that one gathers y.
    """
    g = geometry
    orders = {
        "x": (g.x_dims[0], *g.x_dims[2:], g.x_dims[1]),
        "w": (*g.w_dims[2:], g.w_dims[1], g.w_dims[0]),
        "y": (g.y_dims[0], *g.y_dims[2:], g.y_dims[1]),
    }
    forth: dict[str, Callable[[Array], Array]] = {
        v: functools.partial(jnp.transpose, axes=axes) for v, axes in orders.items()
    }
    back: dict[str, Callable[[Array], Array]] = {
        v: functools.partial(jnp.transpose, axes=_inverse(axes)) for v, axes in orders.items()
    }
    low = tuple(pair[0] for pair in g.padding)
    if max(g.lhs_dilation) == 1:
        problem = exact(g.x_lengths, g.w_lengths, g.y_lengths, g.strides, g.rhs_dilation, low, g.groups)
        turned = dict(zip("xwy", "xwy", strict=True))
    elif max(g.strides) == 1:
        low = tuple(dilate(k, d) - 1 - p for k, d, p in zip(g.w_lengths, g.rhs_dilation, low, strict=True))
        problem = exact(g.y_lengths, g.w_lengths, g.x_lengths, g.lhs_dilation, g.rhs_dilation, low, g.groups)
        turned = dict(zip("xwy", "ywx", strict=True))
        forth["w"] = lambda w: mirror(jnp.transpose(w, orders["w"]), g.groups)
        back["w"] = lambda w: jnp.transpose(mirror(w, g.groups), _inverse(orders["w"]))
    else:
        return None
    first, second, third = {"convolve": [*"xwy"], "transpose": [*"ywx"], "correlate": [*"xyw"]}[name]
    swap = {"convolve": "transpose", "transpose": "convolve", "correlate": "correlate"}
    name = name if turned["x"] == "x" else swap[name]

    def arrange(a: Array, b: Array) -> tuple[Array, Array]:
        a, b = forth[first](a), forth[second](b)
        return (b, a) if name == "correlate" and turned["x"] == "y" else (a, b)

    return Standard(name, problem, arrange, back[third])


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def mirror(w: Array, groups: int) -> Array:
    """Turn a kernel round in every spatial axis and exchange the channels and filters of each group."""
    *spatial, channels, filters = w.shape
    rank = len(spatial)
    w = lax.rev(w, range(rank)).reshape(*spatial, channels, groups, filters // groups)
    w = jnp.moveaxis(w, rank, -1)  # (*spatial, groups, filters, channels)
    return jnp.moveaxis(w, rank, -2).reshape(*spatial, filters // groups, groups * channels)


# -- what the lowerings share


def pad(x: Array, pads: Sequence[tuple[int, int]], first: int = 1) -> Array:
    """Pad the axes from ``first`` on with zeros, or crop them."""
    zero = jnp.zeros((), x.dtype)
    for axis, (low, high) in enumerate(pads, start=first):
        if low or high:
            # as few axes as there can be, since XLA takes five times as long to compile a pad of more, and runs it
            # slower; at least two of the result, since it cuts only the first ones into pieces for the cores
            before, inner = x.shape[:axis], math.prod(x.shape[axis + 1 :])
            rows = math.prod(before[1:])
            if rows == 1:
                flat = lax.pad(x.reshape(before[0], -1, inner), zero, [(0, 0, 0), (low, high, 0), (0, 0, 0)])
            else:
                ends = (low * inner, high * inner, 0)
                flat = lax.pad(x.reshape(before[0], rows, -1), zero, [(0, 0, 0), (0, 0, 0), ends])
            x = flat.reshape(*before, x.shape[axis] + low + high, *x.shape[axis + 1 :])
    return x


def window(x: Array, tap: Sequence[int], problem: Problem) -> Array:
    """Give what the padded input shows to one tap: an array with the spatial lengths of y."""
    p, rank = problem, problem.rank
    starts = [j * d for j, d in zip(tap, p.dilation, strict=True)]
    stops = [start + (o - 1) * s + 1 for start, o, s in zip(starts, p.y, p.strides, strict=True)]
    if isinstance(x.shape[0], int):
        rest = x.shape[rank + 1 :]
        return lax.slice(
            x, (0, *starts, *(0 for _ in rest)), (x.shape[0], *stops, *rest), (1, *p.strides, *(1 for _ in rest))
        )
    # a symbolic batch must not be cut: an axis at a time, and only where it is needed
    for axis in range(rank):
        if (starts[axis], stops[axis], p.strides[axis]) != (0, x.shape[axis + 1], 1):
            x = lax.slice_in_dim(x, starts[axis], stops[axis], p.strides[axis], axis + 1)
    return x


def side_by_side(x: Array, problem: Problem) -> Array:
    """Give what the padded input shows to every tap, one after another along the last axis."""
    return jnp.concatenate([window(x, tap, problem) for tap in np.ndindex(*problem.w)], axis=-1)


def window_at(x: Array, start: Array, problem: Problem) -> Array:
    """Give the window that starts at a traced place of the padded input, for loops over taps."""
    rank, rest = problem.rank, x.shape[problem.rank + 1 :]
    inner, spans = math.prod(rest), [dilate(o, s) for o, s in zip(problem.y, problem.strides, strict=True)]
    # the last axis together with what stands behind it: XLA compiles that in a third of the time
    for axis in range(1, rank):
        x = lax.dynamic_slice_in_dim(x, start[axis - 1], spans[axis - 1], axis)
    x = x.reshape(*x.shape[:rank], -1)
    x = lax.dynamic_slice_in_dim(x, start[-1] * inner, spans[-1] * inner, rank)
    x = x.reshape(*x.shape[:rank], spans[-1], *rest)
    for axis, s in enumerate(problem.strides, start=1):
        x = x if s == 1 else lax.slice_in_dim(x, 0, None, s, axis)
    return x


def starts(problem: Problem) -> Array:
    """Give where the window of each tap starts, (taps, rank), in the order of the kernel's places."""
    taps = np.array(list(np.ndindex(*problem.w)), np.int32)
    return jnp.asarray(taps * np.array(problem.dilation, np.int32))


def turned(y: Array) -> Array:
    """Give a matrix, or several, with rows and columns exchanged in memory as well.

    The row-major product y^T x runs at twice the speed of x^T y, which contracts leading axes of both.
    """
    return lax.optimization_barrier(y.mT)


def scatter(y: Array, tap: Sequence[int], problem: Problem) -> Array:
    """Put y where one tap reads it: the transpose of ``window`` and of the padding before it."""
    config = [(0, 0, 0)]
    for j, d, o, s, (low, _), n in zip(
        tap, problem.dilation, problem.y, problem.strides, problem.pads, problem.x, strict=True
    ):
        first = j * d - low
        config.append((first, n - first - dilate(o, s), s - 1))
    return lax.pad(y, jnp.zeros((), y.dtype), [*config, (0, 0, 0)])


def total(terms: Iterable[Array]) -> Array:
    """Sum arrays of one shape."""
    return functools.reduce(operator.add, terms)
