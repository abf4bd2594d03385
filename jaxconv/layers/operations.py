"""Quotients and slices as layers, for the operators of symbolic tensors.

Keras files contain them as Keras's operations on arrays.
"""

import dataclasses
import operator
from typing import Any, ClassVar

from jax import Array

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register, whole
from jaxconv.contract.masks import fill_masked, mask_axes
from jaxconv.layers.activation import Pointwise
from jaxconv.layers.merge import BaseElementwise
from jaxconv.layers.options import as_number
from jaxconv.layers.sharding import gather_axes

FULL = (None, None, None)


@register(layers)
class Divide(BaseElementwise):
    """Divide the first of two inputs by the second: ``x / y`` of symbolic tensors. In Keras it is an operation.

    >>> Divide().apply_fn({}, [jnp.full((1, 2), 3.0), jnp.full((1, 1), 2.0)])
    Array([[1.5, 1.5]], dtype=float32)
    """

    input_count = 2
    combine = staticmethod(operator.truediv)

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        own = self._full_masks(x, mask)[1]
        above, below = self._full(x)
        return self.merge([above, below if own is None else fill_masked(below, own, 1)]), Effects()


@register(layers)
class Reciprocal(Pointwise):
    """Compute ``numerator / x``, element by element. In Keras it is an operation.

    Args:
        numerator: a number.

    Shapes: Any shape, kept.

    >>> Reciprocal(3.0).apply_fn({}, jnp.array([[2.0]]))
    Array([[1.5]], dtype=float32)
    """

    numerator: float = 1.0

    masked_value: ClassVar[float] = 1
    checks: ClassVar[dict[str, Any]] = {"numerator": as_number}

    def function(self, x: Array) -> Array:
        return self.numerator / x


def _as_key(key: Any, name: str, where: str) -> tuple:
    """Return a key with (start, stop, step) for each slice and "..." for an ellipsis."""
    parts: list[Any] = []
    part: Any
    for part in key if isinstance(key, tuple | list) else (key,):
        if isinstance(part, slice):
            part = (part.start, part.stop, part.step)
        part = "..." if part is Ellipsis else tuple(part) if isinstance(part, list | tuple) else part
        numbers: Any = part if isinstance(part, tuple) and len(part) == 3 else (part,)
        if part != "..." and not all(one is None or (hasattr(one, "__index__") and one is not True) for one in numbers):
            raise TypeError(f"{where}: {name} has {part!r}; give integers, slices, None or ...")
        if isinstance(part, tuple) and (len(part) != 3 or part[2] == 0):
            raise ValueError(f"{where}: {name} has the slice {part}; give (start, stop, step) with a step other than 0")
        numbers = tuple(one if one is None or one == "..." else one.__index__() for one in numbers)
        parts.append(numbers if isinstance(part, tuple) else numbers[0])
    if parts.count("...") > 1 or (parts and parts[0] not in (FULL, "...")):
        raise ValueError(f"{where}: {name}={key!r} selects from the batch, or has two ...; begin with : or ...")
    return tuple(parts)


@register(layers)
class GetItem(Layer):
    """Select from the axes of an input, as ``x[:, 1:-1, ..., 0]`` does. In Keras it is an operation.

    A slice in steps of 1 whose start and end are counted from the two ends, such as ``2:-1``, crops each masked
    sequence as :class:`Cropping1D` does, and streams. Any other slice and an index count the steps of the padded batch:
    a step of the output is unmasked if the step that it is taken from is.

    Args:
        key: integers, slices (or lists start, stop, step), None for a new axis, and one ``...`` (or "..."). The first
            must be ``:`` or ``...``, which keeps the batch.

    Raises:
        TypeError: a key of another kind. ValueError: the batch is not kept; an index that the input does not have.

    >>> GetItem((slice(None), slice(1, None), 0)).output_shape((None, 5, 3))
    (None, 4)
    """

    key: Any

    checks: ClassVar[dict[str, Any]] = {"key": _as_key}
    output_values: ClassVar[str | None] = "input"

    def _parts(self, rank: int) -> list[tuple[int | None, Any]]:
        """Return the parts of the key, each with the input axis that it is for; None for a new axis."""
        used = sum(part not in (None, "...") for part in self.key)
        if used > rank:
            raise ValueError(f"GetItem: {used} indices for an input of rank {rank}; give at most {rank}")
        key = self.key if "..." in self.key else (*self.key, "...")
        parts: list[tuple[int | None, Any]] = []
        axis = 0
        for part in key:
            for one in [FULL] * (rank - used) if part == "..." else [part]:
                parts.append((None if one is None else axis, one))
                axis += one is not None
        return parts

    def keeping(self, axis: Any, rank: int) -> "GetItem":
        """Return the layer that keeps all of one axis of an input of this rank."""
        return dataclasses.replace(self, key=tuple(FULL if own == axis else part for own, part in self._parts(rank)))

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        found: list[Window] = []
        for axis, part in self._parts(len(input_shape))[1:]:
            if axis is None:
                found.append(whole(1))
                continue
            size = input_shape[axis]
            if isinstance(part, int):
                if isinstance(size, int) and not -size <= part < size:
                    what = f"index {part} of axis {axis}, which has {size} in shape {input_shape}"
                    raise ValueError(f"GetItem: {what}; expected {-size} to {size - 1}")
                continue
            window = _slice_window(part, size)
            found.append(window if axis - 1 == len(found) else dataclasses.replace(window, axis=axis - 1))
        return tuple(found)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        cut = [axis for axis, part in self._parts(x.ndim) if axis is not None and part != FULL]
        return gather_axes(x, cut)[self._index()], Effects()

    def _index(self) -> tuple:
        return tuple(slice(*part) if isinstance(part, tuple) else ... if part == "..." else part for part in self.key)

    def output_mask(self, x: Array, mask: Any) -> Any:
        if mask is None:
            return None
        axes = mask_axes(mask.shape, x.shape, self.mask_layouts(x.ndim))
        if len(axes) == 1:
            return mask
        parts = self._parts(x.ndim)
        kept = [axis == place and isinstance(part, tuple) for place, (axis, part) in enumerate(parts)]
        if len(parts) <= max(axes) or not all(kept[: max(axes) + 1]):
            return None
        start, stop, step = parts[axes[1]][1]
        if len(axes) == 2 and step in (None, 1) and (start or 0) >= 0 and (stop is None or stop < 0):
            return super().output_mask(x, mask)  # counted from the ends of each sequence, as in Cropping1D
        return mask[tuple(slice(*parts[axis][1]) for axis in axes)]


def _slice_window(part: Any, size: Any) -> Window:
    """Return the window of a slice along an axis of this size, which may be unknown."""
    start, stop, step = part[0] or 0, part[1], part[2] or 1
    length = None
    if isinstance(size, int):
        chosen = range(size)[slice(*part)]
        length = len(chosen)
        if not length:
            raise ValueError(
                f"GetItem: the slice {part} of an axis of {size} is empty; it must select at least one step"
            )
        start, stop = (chosen[0], chosen[-1] + 1 - size) if step == 1 else (start, stop)
    if step == 1 and start >= 0 and (stop is None or stop < 0 or (length and stop == 0)):
        return Window(padding=(-start, stop or 0)) if start or stop else POINTWISE
    return whole(length)
