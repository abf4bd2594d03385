"""Layers that merge several inputs element by element, Add to Minimum, and the base class of all merges.

The input is a list or tuple of arrays, and its shape a list of shapes.
"""

import dataclasses
import functools
import operator
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Window, as_shapes, layers, register, whole
from jaxconv.contract.masks import as_mask, broadcast_mask, fill_masked, fitting_axes
from jaxconv.contract.shapes import shape_of
from jaxconv.dtypes import broadcast
from jaxconv.errors import explain


@dataclasses.dataclass(frozen=True)
class Merge(Layer):
    """A layer over a list of inputs. Subclasses implement ``merged_shape`` and ``merge``."""

    input_count: ClassVar[int | None] = None  # the number of inputs, if it is fixed

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        """Return the output shape. Raises ValueError if two shapes do not fit."""
        raise NotImplementedError

    def merge(self, inputs: list[Array]) -> Array:
        """Compute the output from inputs in the compute type."""
        raise NotImplementedError

    def read_shape(self, input_shape: Any) -> list[Shape]:
        return as_shapes(input_shape, type(self).__name__)

    def output_shape(self, input_shape: Any) -> Shape:
        # a window reads one input; here the shapes of all of them are compared
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
        # each input is read pointwise along axes on which all have the same length
        out = self.output_shape(input_shape)
        alike = len({len(shape) for shape in input_shape}) == 1
        sizes = zip(*input_shape, strict=True) if alike else [()] * len(out)
        return tuple(POINTWISE if len(set(n)) == 1 else whole(m) for n, m in list(zip(sizes, out, strict=True))[1:])

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [*super().mask_layouts(rank), tuple(range(rank))]  # as in Keras, also a mask over all entries

    def read_mask(self, mask: Any, shape: Any) -> Any:
        # a list of masks, one for each input, with None for an input without one
        if mask is None:
            return None
        if not isinstance(mask, list | tuple):
            raise TypeError(f"{self.label}: takes a list of masks, one per input, or None; got {type(mask).__name__}")
        if len(mask) != len(shape):
            raise ValueError(f"{self.label}: got {len(mask)} masks for {len(shape)} inputs; give one for each, or None")
        masks = [
            None if one is None else as_mask(one, own, self.mask_layouts(len(own)), f"{self.label}: input {index}")
            for index, (one, own) in enumerate(zip(mask, shape, strict=True))
        ]
        return None if all(one is None for one in masks) else masks

    def mismatch(self, shapes: list[Shape], i: int, j: int, reason: str) -> ValueError:
        """Return the error for two inputs whose shapes do not fit."""
        pair = f"input {i} of shape {shapes[i]} and input {j} of shape {shapes[j]}"
        return ValueError(f"{type(self).__name__}: {pair} do not fit: {reason}")


class BaseElementwise(Merge):
    """An elementwise merge. Axes of length 1 are repeated; an input of lower rank gets axes after the batch."""

    combine: ClassVar[Any]  # (array, array) -> array

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        rank = max(map(len, shapes))
        full = [self._full_rank(shape, rank) for shape in shapes]
        out = list(full[0])
        for index, shape in enumerate(full):
            for axis, (first, size) in enumerate(zip(out, shape, strict=True)):
                if None not in (first, size) and first != size:
                    if axis == 0:
                        raise self.mismatch(shapes, 0, index, f"batch sizes {first} and {size} differ")
                    if 1 not in (first, size):
                        other = next(i for i, s in enumerate(full) if s[axis] == first)
                        sizes = f"axis {axis - len(shape)} has {first} and {size}"
                        raise self.mismatch(shapes, other, index, f"{sizes}; they must be equal, or one of them 1")
                out[axis] = _broadcast(first, size, batch=axis == 0)
        return tuple(out)

    def _full_rank(self, shape: Shape, rank: int) -> Shape:
        return (shape[0], *(1,) * (rank - len(shape)), *shape[1:])

    def merge(self, inputs: list[Array]) -> Array:
        inputs = self._full(inputs)
        shape = jnp.broadcast_shapes(*(x.shape for x in inputs))
        return functools.reduce(type(self).combine, [broadcast(x, shape, x.dtype) for x in inputs])

    def _full(self, inputs: list[Array]) -> list[Array]:
        """Return the inputs, all with the rank of the output."""
        rank = max(x.ndim for x in inputs)
        return [x.reshape(self._full_rank(x.shape, rank)) for x in inputs]

    def _full_masks(self, inputs: list[Array], masks: Any) -> list:
        """Return each mask with the rank of the output; None for an input without a mask."""
        rank = max(x.ndim for x in inputs)
        own = [
            None if m is None else broadcast_mask(m, x.shape, self.mask_layouts(x.ndim))
            for x, m in zip(inputs, masks or [None] * len(inputs), strict=True)
        ]
        return [None if m is None else m.reshape(self._full_rank(m.shape, rank)) for m in own]

    def output_mask(self, x: Any, mask: Any) -> Any:
        # True where any input is unmasked; None if an input has no mask, unless that input is the same at all steps
        if mask is None:
            return None
        masks, inputs = self._full_masks(x, mask), self._full(x)
        most = max((one.ndim, index) for index, one in enumerate(mask) if one is not None)[1]
        axes = fitting_axes(mask[most].shape, x[most].shape, self.mask_layouts(x[most].ndim))
        assert axes is not None  # read_mask has checked it
        axes = tuple(axis + (inputs[most].ndim - x[most].ndim) * (axis > 0) for axis in axes)
        for one, value in zip(masks, inputs, strict=True):
            constant = [value.shape[axis] == 1 != inputs[most].shape[axis] for axis in axes[1:]]
            if one is None and not (constant and all(constant)):
                return None
        real = functools.reduce(jnp.logical_or, [one for one in masks if one is not None])
        return real.any(tuple(axis for axis in range(real.ndim) if axis not in axes))


class _Extremum(BaseElementwise):
    """A merge in which the result at a step depends only on the inputs that are not masked at it."""

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        pairs = zip(self._full(x), self._full_masks(x, mask), strict=True)
        y, real = next(pairs)
        for value, own in pairs:
            value = value if own is None else jnp.where(own, value, y)
            y = y if real is None else jnp.where(real, y, value)
            real = None if own is None or real is None else own | real
            y = type(self).combine(y, value)
        return y, Effects()


def _broadcast(first: int | None, second: int | None, *, batch: bool) -> int | None:
    """Return the size of an axis that two inputs share: an unknown one may be 1, except for the batch."""
    if first is None or second is None:
        size = second if first is None else first
        return None if size == 1 and not batch else size
    return first if batch or first != 1 else second


@register(layers)
class Add(BaseElementwise):
    """Add inputs element by element.

    As in Keras, here and in the other elementwise merges: an axis of length 1 is repeated, and an input of lower rank
    gets axes of length 1 after its batch axis. A step of the output is unmasked if it is unmasked in any input. If an
    input has no mask, the output has none, as in Keras, unless that input is the same at all steps.

    Shapes: list of (batch, ...) -> (batch, ...).

    Raises:
        ValueError: two shapes that do not match; the message names both.
        TypeError: an input that is not a list.

    >>> params, apply_fn = Add().init(jax.random.key(0), [(None, 3), (None, 3)])
    >>> apply_fn(params, [jnp.ones((1, 3)), jnp.ones((1, 3))])
    Array([[2., 2., 2.]], dtype=float32)
    """

    combine = staticmethod(operator.add)


@register(layers)
class Subtract(BaseElementwise):
    """Subtract the second of two inputs from the first.

    >>> Subtract().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.ones((1, 2))])
    Array([[2., 2.]], dtype=float32)
    """

    input_count = 2
    combine = staticmethod(operator.sub)


@register(layers)
class Multiply(BaseElementwise):
    """Multiply inputs element by element; an input with one channel gates the others.

    >>> Multiply().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.full((1, 1), 2.0)])
    Array([[6., 6.]], dtype=float32)
    """

    combine = staticmethod(operator.mul)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        masks, inputs = self._full_masks(x, mask), self._full(x)
        factors = [v if m is None else fill_masked(v, m, 1) for v, m in zip(inputs, masks, strict=True)]
        y = functools.reduce(operator.mul, factors)
        if None not in masks:
            y = fill_masked(y, functools.reduce(jnp.logical_or, masks))
        return y, Effects()


@register(layers)
class Average(BaseElementwise):
    """Average inputs element by element.

    >>> Average().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.ones((1, 2))])
    Array([[2., 2.]], dtype=float32)
    """

    combine = staticmethod(operator.add)

    def merge(self, inputs: list[Array]) -> Array:
        return super().merge(inputs) / len(inputs)


@register(layers)
class Maximum(_Extremum):
    """Compute the maximum of the inputs, element by element. Each of two equal values gets half of the gradient.

    >>> Maximum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[4., 5.]], dtype=float32)
    """

    combine = staticmethod(jnp.maximum)


@register(layers)
class Minimum(_Extremum):
    """Compute the minimum of the inputs, element by element. Each of two equal values gets half of the gradient.

    >>> Minimum().apply_fn({}, [jnp.array([[1.0, 5.0]]), jnp.array([[4.0, 2.0]])])
    Array([[1., 2.]], dtype=float32)
    """

    combine = staticmethod(jnp.minimum)
