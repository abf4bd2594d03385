"""Layers of several inputs and one output: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot.

An input is a list or tuple of arrays here, and its shape a list of shapes. Knows nothing of graphs.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.dtypes import promote
from jaxconv.errors import explain
from jaxconv.layers.layer import Layer, Params, Shape, as_shapes, layers
from jaxconv.layers.shapes import shape_of

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class _Merge(Layer):
    """A layer over a list of inputs. Subclasses give ``joined`` (the output's shape) and ``merge``."""

    takes: ClassVar[int | None] = None  # how many inputs, where the number is fixed

    def joined(self, shapes: list[Shape]) -> Shape:
        """Give the output's shape; raises ValueError where two shapes do not fit."""
        raise NotImplementedError

    def merge(self, inputs: list[Array]) -> Array:
        """Compute the output from inputs in the compute type."""
        raise NotImplementedError

    def read_shape(self, input_shape: Any) -> list[Shape]:
        return as_shapes(input_shape, type(self).__name__)

    def output_shape(self, input_shape: Any) -> Shape:
        where, shapes = type(self).__name__, self.read_shape(input_shape)
        if self.takes is not None and len(shapes) != self.takes:
            raise ValueError(f"{where}: takes exactly {self.takes} inputs; got {len(shapes)}, of shapes {shapes}")
        for index, shape in enumerate(shapes):
            if not shape:
                raise ValueError(f"{where}: input {index} of shape () has no batch axis; give (batch, ...)")
        return self.joined(shapes)

    def _input(self, x: Any) -> Any:
        if not isinstance(x, list | tuple):
            raise TypeError(f"{self.label}: takes a list of inputs; got one of shape {shape_of(x)}; give [x1, x2, ...]")
        inputs = []
        for index, one in enumerate(x):
            with explain(f"input {index}"):
                inputs.append(super()._input(one))
        return inputs

    def call(self, params: Params, x: Any, *, train: bool, key: Any) -> tuple[Array, Params]:
        return self.merge(x), {}

    def _refuse(self, shapes: list[Shape], one: int, other: int, why: str) -> ValueError:
        return ValueError(
            f"{type(self).__name__}: input {one} of shape {shapes[one]} and input {other} of shape {shapes[other]} "
            f"do not fit: {why}"
        )


class _Elementwise(_Merge):
    """A merge entry by entry. Axes of length 1 are repeated; an input of lower rank gets axes after the batch."""

    together: ClassVar[Any]  # (array, array) -> array

    def joined(self, shapes: list[Shape]) -> Shape:
        wide = [self._widened(shape, max(map(len, shapes))) for shape in shapes]
        out = list(wide[0])
        for index, shape in enumerate(wide):
            for axis, size in enumerate(shape):
                known, last = out[axis], axis - len(shape)
                if axis == 0 and None not in (known, size) and known != size:
                    raise self._refuse(shapes, 0, index, f"batch sizes {known} and {size} differ")
                if axis and None not in (known, size) and known != size and 1 not in (known, size):
                    clash = next(i for i, s in enumerate(wide) if s[axis] == known)
                    raise self._refuse(
                        shapes, clash, index, f"axis {last} has {known} and {size}; equal, or 1, is legal"
                    )
                out[axis] = _broadcast(known, size, batch=axis == 0)
        return tuple(out)

    def _widened(self, shape: Shape, rank: int) -> Shape:
        return (shape[0], *(1,) * (rank - len(shape)), *shape[1:])

    def merge(self, inputs: list[Array]) -> Array:
        rank = max(x.ndim for x in inputs)
        wide = [x.reshape(self._widened(x.shape, rank)) for x in inputs]
        return functools.reduce(type(self).together, wide)


def _broadcast(known: int | None, size: int | None, *, batch: bool) -> int | None:
    """Give the size of an axis that two inputs share: an unknown one may still be 1, except for the batch."""
    if batch:
        return size if known is None else known
    if known is None or size is None:
        other = size if known is None else known
        return None if other in (None, 1) else other
    return size if known == 1 else known


@layers.register()
@dataclasses.dataclass(frozen=True)
class Add(_Elementwise):
    """Add inputs entry by entry.

    As in Keras, and for all merges entry by entry: an axis of length 1 is repeated, and an input of lower rank gets
    axes of length 1 after its batch axis.

    Args:
        name, trainable, dtype: as for every layer.

    Shapes:
        list of (batch, ...) -> (batch, ...).

    Raises:
        ValueError: two shapes that do not fit, both named.
        TypeError: an input that is no list.

    >>> params, apply_fn = Add().init(jax.random.key(0), [(None, 3), (None, 3)])
    >>> apply_fn(params, [jnp.ones((1, 3)), jnp.ones((1, 3))])
    Array([[2., 2., 2.]], dtype=float32)
    """

    together = staticmethod(operator.add)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Subtract(_Elementwise):
    """Subtract the second of two inputs from the first.

    >>> Subtract().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.ones((1, 2))])
    Array([[2., 2.]], dtype=float32)
    """

    takes = 2
    together = staticmethod(operator.sub)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Multiply(_Elementwise):
    """Multiply inputs entry by entry: a gate, where one of them has one channel.

    >>> Multiply().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.full((1, 1), 2.0)])
    Array([[6., 6.]], dtype=float32)
    """

    together = staticmethod(operator.mul)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Average(_Elementwise):
    """Average inputs entry by entry: their sum, divided by how many they are.

    >>> Average().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.ones((1, 2))])
    Array([[2., 2.]], dtype=float32)
    """

    together = staticmethod(operator.add)

    def merge(self, inputs: list[Array]) -> Array:
        return super().merge(inputs) / len(inputs)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Maximum(_Elementwise):
    """Keep the largest of the inputs, entry by entry. Where two are equal, each gets half of the gradient.

    >>> Maximum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[4., 5.]], dtype=float32)
    """

    together = staticmethod(jnp.maximum)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Minimum(_Elementwise):
    """Keep the smallest of the inputs, entry by entry. Where two are equal, each gets half of the gradient.

    >>> Minimum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[1., 2.]], dtype=float32)
    """

    together = staticmethod(jnp.minimum)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Concatenate(_Merge):
    """Put inputs one after the other along an axis.

    Args:
        axis: the axis, counted with the batch; the last for channels under "channels_last", 1 under "channels_first".

    Shapes:
        list of shapes that are equal but for ``axis`` -> that shape, the sizes along ``axis`` added.

    Raises:
        ValueError: shapes that differ elsewhere, both named; an axis that they do not have.

    >>> Concatenate().output_shape([(None, 8, 3), (None, 8, 5)])
    (None, 8, 8)
    """

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(axis=_as_axis(self.axis, "Concatenate", "axis"))

    def joined(self, shapes: list[Shape]) -> Shape:
        rank = len(shapes[0])
        if not -rank <= self.axis < rank:
            raise ValueError(
                f"Concatenate: axis={self.axis} is none of the {rank} axes of input 0 of shape {shapes[0]}"
            )
        out, along = list(shapes[0]), self.axis % rank
        for index, shape in enumerate(shapes):
            if len(shape) != rank:
                raise self._refuse(shapes, 0, index, f"ranks {rank} and {len(shape)} differ")
            for axis, size in enumerate(shape):
                if axis != along and None not in (out[axis], size) and out[axis] != size:
                    clash = next(i for i, s in enumerate(shapes) if s[axis] == out[axis])
                    raise self._refuse(
                        shapes, clash, index, f"axis {axis} has {out[axis]} and {size}; only axis {along} may differ"
                    )
                out[axis] = size if out[axis] is None else out[axis]
        sizes = [shape[along] for shape in shapes]
        out[along] = None if None in sizes else sum(sizes)  # type: ignore[arg-type]
        return tuple(out)

    def merge(self, inputs: list[Array]) -> Array:
        return lax.concatenate(inputs, self.axis % inputs[0].ndim)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Dot(_Merge):
    """Multiply two inputs and sum over one axis of each, sample by sample.

    The other axes of the first come before those of the second. Two vectors give (batch, 1), as in Keras.

    Args:
        axes: the axis of both, or a pair; counted with the batch, which cannot be one of them.
        normalize: scale to length 1 along the axes first, so that vectors give their cosine. A vector of zeros gives
            zeros, with a zero gradient; Keras's gradient is NaN there.

    Shapes:
        [(batch, ..., n, ...), (batch, ..., n, ...)] -> (batch, rest of the first, rest of the second).

    Raises:
        ValueError: sizes along the axes that differ, both shapes named; the batch axis.

    >>> Dot((1, 2)).output_shape([(None, 3, 5), (None, 10, 3)])
    (None, 5, 10)
    """

    axes: Any
    normalize: bool = False

    takes = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        axes = self.axes
        if isinstance(axes, list | tuple):
            if len(axes) != 2:
                raise ValueError(f"Dot: axes={axes!r} has {len(axes)} entries; give one axis, or one for each input")
            axes = tuple(_as_axis(axis, "Dot", "axes") for axis in axes)
        else:
            axes = _as_axis(axes, "Dot", "axes")
        self._set(axes=axes, normalize=bool(self.normalize))

    def _axes(self, shapes: list[Shape]) -> tuple[int, int]:
        pair = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        found = []
        for index, (axis, shape) in enumerate(zip(pair, shapes, strict=True)):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise ValueError(
                    f"Dot: axes={self.axes} names axis {axis} of input {index} of shape {shape}; "
                    f"legal: 1 to {len(shape) - 1} (the batch axis is summed over by no layer)"
                )
            found.append(axis % len(shape))
        return found[0], found[1]

    def joined(self, shapes: list[Shape]) -> Shape:
        first, second = self._axes(shapes)
        sizes = shapes[0][first], shapes[1][second]
        if None not in sizes and sizes[0] != sizes[1]:
            raise self._refuse(shapes, 0, 1, f"axis {first} has {sizes[0]} and axis {second} has {sizes[1]}")
        batch = shapes[0][0], shapes[1][0]
        if None not in batch and batch[0] != batch[1]:
            raise self._refuse(shapes, 0, 1, f"batch sizes {batch[0]} and {batch[1]} differ")
        rest = [n for i, n in enumerate(shapes[0]) if i not in (0, first)]
        rest += [n for i, n in enumerate(shapes[1]) if i not in (0, second)]
        return (batch[1] if batch[0] is None else batch[0], *(rest or [1]))

    def merge(self, inputs: list[Array]) -> Array:
        first, second = self._axes([x.shape for x in inputs])
        if self.normalize:
            inputs = [_unit(x, axis) for x, axis in zip(inputs, (first, second), strict=True)]
        y = lax.dot_general(inputs[0], inputs[1], (((first,), (second,)), ((0,), (0,))))
        return y[:, None] if y.ndim == 1 else y


def _unit(x: Array, axis: int) -> Array:
    """Scale to length 1 along an axis; vectors shorter than 1e-7 are scaled by 1e7, as Keras does."""
    wide = x.astype(promote(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(wide), axis, keepdims=True)
    tiny = square <= 1e-14
    scale = jnp.where(tiny, 1e7, lax.rsqrt(jnp.where(tiny, 1.0, square)))
    return (wide * scale.astype(wide.dtype)).astype(x.dtype)


def _as_axis(axis: Any, where: str, name: str) -> int:
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{where}: {name}={axis!r} is no whole number; give one like -1")
    return operator.index(axis)
