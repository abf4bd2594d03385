"""Which axes of a weight one vector runs along: an int, a tuple of ints, ``None`` for all, or the word ``"filter"``.

``"filter"`` means the axes that make up one filter of a convolution. Only a layer knows them (:func:`resolve` puts them
in); where nobody does, they are all axes but the last. Knows neither layers nor what is done along the axes.
"""

import dataclasses
import operator
from typing import Any

FILTER = "filter"
Axis = int | tuple[int, ...] | str | None


def canonical(axis: Any, where: str) -> Axis:
    """Give ``axis`` as an int, a tuple of ints, ``"filter"`` or ``None``. Raises TypeError for anything else.

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
    """Give the axes of an array of ``shape`` that ``axis`` means, counted from the front.

    Raises:
        ValueError: for an axis that the shape does not have, or that is named twice.

    >>> indices("filter", (3, 3, 8, 16), "MaxNorm"), indices(-1, (3, 3, 8, 16), "MaxNorm")
    ((0, 1, 2), (3,))
    """
    rank = len(shape)
    if axis is None:
        return tuple(range(rank))
    if isinstance(axis, str):
        return tuple(range(rank - 1))
    axes = axis if isinstance(axis, tuple) else (axis,)
    found = tuple(a % rank for a in axes if -rank <= a < rank)
    if len(set(found)) != len(axes):
        raise ValueError(f"{where}: axis={axis} does not name distinct axes of the shape {shape}, which has {rank}")
    return found


def resolve(entry: Any, filter_axes: tuple[int, ...] | None) -> Any:
    """Give ``entry`` with ``axis=filter_axes`` where it says ``axis="filter"``, so that Keras can read its config."""
    if filter_axes is None or getattr(entry, "axis", None) != FILTER:
        return entry
    return dataclasses.replace(entry, axis=tuple(filter_axes))
