"""Concatenate and Dot: layers that merge several inputs along an axis."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax

from jaxconv.contract import POINTWISE, Shape, Window, layers, register, whole
from jaxconv.contract.masks import broadcast_mask, fitting_axes
from jaxconv.dtypes import promote
from jaxconv.layers.merge import Merge
from jaxconv.layers.options import as_one_axis, known


@register(layers)
class Concatenate(Merge):
    """Concatenate inputs along an axis.

    Args:
        axis: the axis, counted with the batch: -1 for channels_last, 1 for channels_first.

    Shapes: list of shapes that are equal except along ``axis`` -> that shape, with the sizes along ``axis`` added.

    Raises:
        ValueError: shapes that differ on another axis (the message names both); an axis that they do not have.

    >>> Concatenate().output_shape([(None, 8, 3), (None, 8, 5)])
    (None, 8, 8)
    """

    axis: int = -1

    checks: ClassVar[dict[str, Any]] = {"axis": as_one_axis}

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        rank = len(shapes[0])
        if not -rank <= self.axis < rank:
            what = f"axis={self.axis} of input 0 of shape {shapes[0]}, which has {rank} axes"
            raise ValueError(f"Concatenate: {what}; expected {-rank} to {rank - 1}")
        out, along = list(shapes[0]), self.axis % rank
        for index, shape in enumerate(shapes):
            if len(shape) != rank:
                raise self.mismatch(shapes, 0, index, f"ranks {rank} and {len(shape)} differ")
            for axis, size in enumerate(shape):
                if axis != along and None not in (out[axis], size) and out[axis] != size:
                    other = next(i for i, s in enumerate(shapes) if s[axis] == out[axis])
                    reason = f"axis {axis} has {out[axis]} and {size}; only axis {along} may differ"
                    raise self.mismatch(shapes, other, index, reason)
                out[axis] = size if out[axis] is None else out[axis]
        sizes = [shape[along] for shape in shapes]
        out[along] = sum(sizes) if known(sizes) else None
        return tuple(out)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        out = self.output_shape(input_shape)
        return tuple(whole(n) if a == self.axis % len(out) else POINTWISE for a, n in enumerate(out))[1:]

    def merge(self, inputs: list[Array]) -> Array:
        return lax.concatenate(inputs, self.axis % inputs[0].ndim)

    def output_mask(self, x: Any, mask: Any) -> Any:
        # True where any channel is unmasked; an input without a mask is unmasked everywhere
        if mask is None:
            return None
        ways, ranks = self.mask_layouts(x[0].ndim), [0 if one is None else one.ndim for one in mask]
        most = ranks.index(max(ranks))
        axes = fitting_axes(mask[most].shape, x[most].shape, ways)
        channels = next((axis for axis in range(1, x[0].ndim) if axes and axis not in axes), x[0].ndim - 1)
        pairs = zip(x, mask, strict=True)
        real = [jnp.ones((), bool) if m is None else broadcast_mask(m, v.shape, ways) for v, m in pairs]
        full = [jnp.broadcast_to(m, v.shape) for v, m in zip(x, real, strict=True)]
        return lax.concatenate(full, self.axis % x[0].ndim).any(channels)


@register(layers)
class Dot(Merge):
    """Multiply two inputs and sum over one axis of each, sample by sample.

    The other axes of the first come before those of the second. The output for two vectors is (batch, 1), as in Keras.

    Args:
        axes: the axis of both inputs, or a pair; counted with the batch axis, which is not valid.
        normalize: whether to scale to norm 1 along the axes first, which yields cosine similarities. The result for a
            vector of zeros is 0, with a gradient of 0; Keras's gradient is NaN.

    Shapes: [(batch, ..., n, ...), (batch, ..., n, ...)] -> (batch, rest of the first, rest of the second).

    Raises:
        ValueError: sizes along the axes that differ (the message names both shapes); the batch axis.

    >>> Dot((1, 2)).output_shape([(None, 3, 5), (None, 10, 3)])
    (None, 5, 10)
    """

    axes: Any
    normalize: bool = False

    input_count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        axes, several = self.axes, isinstance(self.axes, list | tuple)
        if several and len(axes) != 2:
            raise ValueError(f"Dot: axes={axes!r} has {len(axes)} entries; give one axis, or one for each input")
        one = [as_one_axis(axis, "axes", "Dot") for axis in (axes if several else [axes])]
        self._set(axes=tuple(one) if several else one[0])

    def output_mask(self, x: Any, mask: Any) -> Any:
        return None  # as in Keras: the output has no steps

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return tuple(map(whole, self.output_shape(input_shape)[1:]))

    def _axes(self, shapes: list[Shape]) -> tuple[int, int]:
        pair = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        found = []
        for index, (axis, shape) in enumerate(zip(pair, shapes, strict=True)):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                what = f"axes={self.axes} names axis {axis} of input {index} of shape {shape}"
                raise ValueError(f"Dot: {what}; expected 1 to {len(shape) - 1}")
            found.append(axis % len(shape))
        return found[0], found[1]

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        first, second = self._axes(shapes)
        sizes = shapes[0][first], shapes[1][second]
        if None not in sizes and sizes[0] != sizes[1]:
            raise self.mismatch(shapes, 0, 1, f"axis {first} has {sizes[0]} and axis {second} has {sizes[1]}")
        batch = shapes[0][0], shapes[1][0]
        if None not in batch and batch[0] != batch[1]:
            raise self.mismatch(shapes, 0, 1, f"batch sizes {batch[0]} and {batch[1]} differ")
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
    """Scale to norm 1 along an axis; vectors with a norm below 1e-7 are scaled by 1e7, as in Keras."""
    vectors = x.astype(promote(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(vectors), axis, keepdims=True)
    tiny = square <= 1e-14
    scale = jnp.where(tiny, 1e7, lax.rsqrt(jnp.where(tiny, 1.0, square)))
    return (vectors * scale.astype(vectors.dtype)).astype(x.dtype)
