"""Layers of several inputs, merged entry by entry: Add, Subtract, Multiply, Average, Maximum, Minimum; their base.

An input is a list or tuple of arrays here, and its shape a list of shapes. Knows nothing of graphs.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Window, as_shapes, layers, whole
from jaxconv.contract.masks import as_mask, broadcast_mask, fill_masked, fitting_axes
from jaxconv.contract.shapes import shape_of
from jaxconv.errors import explain

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Merge(Layer):
    """A layer over a list of inputs. Subclasses implement ``merged_shape`` and ``merge``."""

    input_count: ClassVar[int | None] = None  # how many inputs, where the number is fixed

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        """Return the output shape. Raises ValueError where two shapes do not fit."""
        raise NotImplementedError

    def merge(self, inputs: list[Array]) -> Array:
        """Compute the output from inputs in the compute type."""
        raise NotImplementedError

    def read_shape(self, input_shape: Any) -> list[Shape]:
        return as_shapes(input_shape, type(self).__name__)

    def output_shape(self, input_shape: Any) -> Shape:
        where, shapes = type(self).__name__, self.read_shape(input_shape)
        if self.input_count is not None and len(shapes) != self.input_count:
            raise ValueError(f"{where}: takes exactly {self.input_count} inputs; got {len(shapes)}, of shapes {shapes}")
        for index, shape in enumerate(shapes):
            if not shape:
                raise ValueError(f"{where}: input {index} of shape () has no batch axis; give (batch, ...)")
        return self.merged_shape(shapes)

    def _input(self, x: Any) -> Any:
        if not isinstance(x, list | tuple):
            raise TypeError(f"{self.label}: takes a list of inputs; got one of shape {shape_of(x)}; give [x1, x2, ...]")
        inputs = []
        for index, one in enumerate(x):
            with explain(f"input {index}"):
                inputs.append(super()._input(one))
        return inputs

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return self.merge(x), Effects()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        """Return how the output reads each input: pointwise along the axes on which all have the same length."""
        out = self.output_shape(input_shape)
        alike = len({len(shape) for shape in input_shape}) == 1
        sizes = zip(*input_shape, strict=True) if alike else [()] * len(out)
        return tuple(POINTWISE if len(set(n)) == 1 else whole(m) for n, m in list(zip(sizes, out, strict=True))[1:])

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

    def merged_shape(self, shapes: list[Shape]) -> Shape:
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

    def _wide_masks(self, inputs: list[Array], masks: Any) -> list:
        """Return each mask with the rank of the output; None where an input has none."""
        rank = max(x.ndim for x in inputs)
        wide = [
            None if m is None else broadcast_mask(m, x.shape, self.mask_layouts(x.ndim))
            for x, m in zip(inputs, masks or [None] * len(inputs), strict=True)
        ]
        return [None if m is None else m.reshape(self._widened(m.shape, rank)) for m in wide]

    def output_mask(self, x: Any, mask: Any) -> Any:
        """Return True where any input is real; None where one has no mask, unless it is the same at all steps."""
        if mask is None:
            return None
        wide, inputs = self._wide_masks(x, mask), self._wide(x)
        most = max((one.ndim, index) for index, one in enumerate(mask) if one is not None)[1]
        axes = fitting_axes(mask[most].shape, x[most].shape, self.mask_layouts(x[most].ndim))
        assert axes is not None  # read_mask has checked it
        axes = tuple(axis + (inputs[most].ndim - x[most].ndim) * (axis > 0) for axis in axes)
        for one, value in zip(wide, inputs, strict=True):
            alike = [value.shape[axis] == 1 != inputs[most].shape[axis] for axis in axes[1:]]
            if one is None and not (alike and all(alike)):
                return None
        real = functools.reduce(jnp.logical_or, [one for one in wide if one is not None])
        return real.any(tuple(axis for axis in range(real.ndim) if axis not in axes))


class _Gathering(_Elementwise):
    """A merge in which a masked step leaves the result to the other inputs."""

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        pairs = zip(self._wide(x), self._wide_masks(x, mask), strict=True)
        y, real = next(pairs)
        for value, own in pairs:
            value = value if own is None else jnp.where(own, value, y)
            y = y if real is None else jnp.where(real, y, value)
            real = None if own is None or real is None else own | real
            y = type(self).together(y, value)
        return y, Effects()


def _broadcast(known: int | None, size: int | None, *, batch: bool) -> int | None:
    """Return the size of an axis that two inputs share: an unknown one may still be 1, except for the batch."""
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

    input_count = 2
    together = staticmethod(operator.sub)


@layers.register()
@dataclasses.dataclass(frozen=True)
class Multiply(_Elementwise):
    """Multiply inputs entry by entry: a gate, where one of them has one channel.

    >>> Multiply().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.full((1, 1), 2.0)])
    Array([[6., 6.]], dtype=float32)
    """

    together = staticmethod(operator.mul)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        wide, inputs = self._wide_masks(x, mask), self._wide(x)
        factors = [v if m is None else fill_masked(v, m, 1) for v, m in zip(inputs, wide, strict=True)]
        y = functools.reduce(operator.mul, factors)
        if None not in wide:
            y = fill_masked(y, functools.reduce(jnp.logical_or, wide))
        return y, Effects()


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
