"""Layers of several inputs, merged entry by entry: Add, Subtract, Multiply, Average, Maximum, Minimum; their base.

An input is a list or tuple of arrays here, and its shape a list of shapes. Knows nothing of graphs.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv.contract.layer import Layer, Params, Shape, as_shapes, layers
from jaxconv.contract.masks import as_mask, fitting, lay
from jaxconv.contract.measures import Window
from jaxconv.contract.shapes import shape_of
from jaxconv.errors import explain

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Merge(Layer):
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

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        """Give what the output sees of each input: the same place, along axes on which all have the same length."""
        if len({len(shape) for shape in input_shape}) > 1:
            return None
        return tuple(Window() if len(set(sizes)) == 1 else None for sizes in zip(*input_shape, strict=True))[1:]

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [*super().mask_layouts(rank), tuple(range(rank))]  # Keras takes one over all entries too

    def read_mask(self, mask: Any, shape: Any) -> Any:
        """Read a list of masks, one for each input, or None for one without; None where all are."""
        if mask is None:
            return None
        if not isinstance(mask, list | tuple):
            raise TypeError(
                f"{self.label}: takes a list of masks, one for each input, or None; got {type(mask).__name__}"
            )
        if len(mask) != len(shape):
            raise ValueError(f"{self.label}: got {len(mask)} masks for {len(shape)} inputs; give one for each, or None")
        masks = []
        for index, (one, own) in enumerate(zip(mask, shape, strict=True)):
            where = f"{self.label}: input {index}"
            masks.append(None if one is None else as_mask(one, own, self.mask_layouts(len(own)), where))
        return None if all(one is None for one in masks) else masks

    def refuse(self, shapes: list[Shape], one: int, other: int, why: str) -> ValueError:
        return ValueError(
            f"{type(self).__name__}: input {one} of shape {shapes[one]} and input {other} of shape {shapes[other]} "
            f"do not fit: {why}"
        )


class _Elementwise(Merge):
    """A merge entry by entry. Axes of length 1 are repeated; an input of lower rank gets axes after the batch."""

    together: ClassVar[Any]  # (array, array) -> array

    def joined(self, shapes: list[Shape]) -> Shape:
        wide = [self._widened(shape, max(map(len, shapes))) for shape in shapes]
        out = list(wide[0])
        for index, shape in enumerate(wide):
            for axis, size in enumerate(shape):
                known, last = out[axis], axis - len(shape)
                if axis == 0 and None not in (known, size) and known != size:
                    raise self.refuse(shapes, 0, index, f"batch sizes {known} and {size} differ")
                if axis and None not in (known, size) and known != size and 1 not in (known, size):
                    clash = next(i for i, s in enumerate(wide) if s[axis] == known)
                    raise self.refuse(
                        shapes, clash, index, f"axis {last} has {known} and {size}; equal, or 1, is legal"
                    )
                out[axis] = _broadcast(known, size, batch=axis == 0)
        return tuple(out)

    def _widened(self, shape: Shape, rank: int) -> Shape:
        return (shape[0], *(1,) * (rank - len(shape)), *shape[1:])

    def merge(self, inputs: list[Array]) -> Array:
        return functools.reduce(type(self).together, self._wide(inputs))

    def _wide(self, inputs: list[Array]) -> list[Array]:
        rank = max(x.ndim for x in inputs)
        return [x.reshape(self._widened(x.shape, rank)) for x in inputs]

    def _laid(self, inputs: list[Array], masks: list) -> list:
        """Give each mask laid along its input, widened as that is; None where there is none."""
        rank = max(x.ndim for x in inputs)
        laid = [
            None if m is None else lay(m, x.shape, self.mask_layouts(x.ndim))
            for x, m in zip(inputs, masks, strict=True)
        ]
        return [None if m is None else m.reshape(self._widened(m.shape, rank)) for m in laid]

    def output_mask(self, x: Any, mask: Any) -> Any:
        """Give True where any input is real. None where one has no mask, unless it is the same at all steps."""
        if mask is None:
            return None
        laid, inputs = self._laid(x, mask), self._wide(x)
        most = max((one.ndim, index) for index, one in enumerate(mask) if one is not None)[1]
        axes = fitting(mask[most].shape, x[most].shape, self.mask_layouts(x[most].ndim))
        assert axes is not None  # read_mask has checked it
        axes = tuple(axis + (inputs[most].ndim - x[most].ndim) * (axis > 0) for axis in axes)
        for one, value in zip(laid, inputs, strict=True):
            alike = [value.shape[axis] == 1 != inputs[most].shape[axis] for axis in axes[1:]]
            if one is None and not (alike and all(alike)):
                return None
        real = functools.reduce(jnp.logical_or, [one for one in laid if one is not None])
        return real.any(tuple(axis for axis in range(real.ndim) if axis not in axes))


class _Gathering(_Elementwise):
    """A merge in which a masked step leaves the result to the other inputs."""

    def call_masked(self, params: Params, x: Any, mask: Any, *, train: bool, key: Any) -> tuple[Array, Params]:
        pairs = zip(self._wide(x), self._laid(x, mask), strict=True)
        y, there = next(pairs)
        for value, own in pairs:
            value = value if own is None else jnp.where(own, value, y)
            y = y if there is None else jnp.where(there, y, value)
            there = None if own is None or there is None else own | there
            y = type(self).together(y, value)
        return y, {}


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
    axes of length 1 after its batch axis. A step of the output is real where one of any input is; there is no mask
    where an input has none, as in Keras, unless that input is the same at all steps.

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

    def call_masked(self, params: Params, x: Any, mask: Any, *, train: bool, key: Any) -> tuple[Array, Params]:
        laid, inputs = self._laid(x, mask), self._wide(x)
        one, nothing = (jnp.asarray(n, inputs[0].dtype) for n in (1, 0))
        seen = [v if m is None else jnp.where(m, v, one) for v, m in zip(inputs, laid, strict=True)]
        y = functools.reduce(operator.mul, seen)
        if None not in mask:
            y = jnp.where(functools.reduce(jnp.logical_or, laid), y, nothing)
        return y, {}


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
class Maximum(_Gathering):
    """Keep the largest of the inputs, entry by entry. Where two are equal, each gets half of the gradient.

    >>> Maximum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[4., 5.]], dtype=float32)
    """

    together = staticmethod(jnp.maximum)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Minimum(_Gathering):
    """Keep the smallest of the inputs, entry by entry. Where two are equal, each gets half of the gradient.

    >>> Minimum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[1., 2.]], dtype=float32)
    """

    together = staticmethod(jnp.minimum)
