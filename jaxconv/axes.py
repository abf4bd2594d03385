"""The axes that a norm of a weight is taken over: an int, a tuple of ints, ``None`` for all, or ``"filter"``.

``"filter"`` means the axes of one filter of a convolution. A layer inserts its own with :func:`resolve`; without a
layer they are all axes except the last.
"""

import dataclasses
import operator
from typing import Any

FILTER = "filter"
Axis = int | tuple[int, ...] | str | None


def canonical(axis: Any, where: str) -> Axis:
    """Return ``axis`` as an int, a tuple of ints, ``"filter"`` or ``None``. Raises TypeError for any other value.

    >>> canonical([0, 1], "MaxNorm")
    (0, 1)
    """
    if axis is None or (isinstance(axis, str) and axis == FILTER):
        return axis
    try:
        return tuple(map(operator.index, axis)) if isinstance(axis, list | tuple) else operator.index(axis)
    except TypeError:
        raise TypeError(f"{where}: axis must be an int, a tuple of ints or {FILTER!r}; got {axis!r}") from None


def indices(axis: Axis, shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """Return the nonnegative indices of the axes that ``axis`` selects in an array of ``shape``.

    Raises ValueError for an axis that the shape does not have, or a repeated one.

    >>> indices("filter", (3, 3, 8, 16), "MaxNorm"), indices(-1, (3, 3, 8, 16), "MaxNorm")
    ((0, 1, 2), (3,))
    """
    rank = len(shape)
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, str):
        return tuple(range(rank - 1))
    axes = axis if isinstance(axis, tuple) else (axis,)
    valid = tuple(a % rank for a in axes if -rank <= a < rank)
    if len(set(valid)) != len(axes):
        raise ValueError(f"{where}: axis={axis} must name distinct axes of the shape {shape} of rank {rank}")
    return valid


def resolve(entry: Any, filter_axes: tuple[int, ...] | None) -> Any:
    """Return ``entry`` with ``axis="filter"`` replaced by ``filter_axes``, so that Keras can read its config."""
    if filter_axes is None or getattr(entry, "axis", None) != FILTER:
        return entry
    return dataclasses.replace(entry, axis=tuple(filter_axes))
