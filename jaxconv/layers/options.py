"""Checks for options of layers: numbers, seeds, axes."""

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

Shape = tuple[int | None, ...]


def as_number(
    value: Any, what: str, where: str, least: float = -math.inf, most: float = math.inf, note: str = ""
) -> float:
    """Return a finite number from ``least`` to ``most`` as a float. Raises ValueError otherwise.

    >>> as_number(1, "rate", "Dropout", 0, 1)
    1.0
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and least <= number <= most):
        span = f" from {least} to {most}" if math.isfinite(most) else f" of at least {least}"
        allowed = f"a number{span if math.isfinite(least) else ''}{note}"
        raise ValueError(f"{where}: {what}={value!r} is not valid; give {allowed}")
    return number


def at_least_0(value: Any, what: str, where: str) -> float:
    """Return a finite number of at least 0 as a float. Raises ValueError otherwise."""
    return as_number(value, what, where, 0)


def as_fraction(value: Any, what: str, where: str) -> float:
    """Return the fraction that a layer drops, from 0 to 1. Raises ValueError otherwise."""
    return as_number(value, what, where, 0, 1, ", the fraction dropped")


def as_seed(seed: Any, what: str, where: str) -> int | None:
    """Return a seed as an integer; None stays None. Raises ValueError otherwise."""
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed < 2**32):
        raise ValueError(f"{where}: {what}={seed!r} is not an integer from 0 to {2**32 - 1}; give one, or None")
    return None if seed is None else operator.index(seed)


def as_axis(axis: Any, what: str, where: str) -> int | tuple[int, ...]:
    """Return an axis, or a tuple of axes. Raises TypeError unless all are integers, ValueError for an empty list.

    >>> as_axis([1, 2], "axis", "Softmax"), as_axis(-1, "axis", "Softmax")
    ((1, 2), -1)
    """
    if not isinstance(axis, list | tuple):
        return as_one_axis(axis, what, where)
    if not axis:
        raise ValueError(f"{where}: {what}={axis!r} names no axis; give an integer, or a list of integers")
    return tuple(as_one_axis(item, what, where) for item in axis)


def as_one_axis(axis: Any, what: str, where: str) -> int:
    """Return an axis. Raises TypeError unless it is an integer."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise TypeError(f"{where}: {what}={axis!r} is not one axis; give an integer like -1")
    return operator.index(axis)


def input_axes(
    axis: int | tuple[int, ...], shape: Shape, where: str, batch: bool = False, what: str = "axis"
) -> tuple[int, ...]:
    """Return the axes of an input that ``axis``, a result of :func:`as_axis`, names: counted from the front, sorted.

    Raises ValueError for an axis that the input does not have, that is named twice, or that is the batch axis, unless
    ``batch`` makes it valid.

    >>> input_axes((-1, 1), (None, 5, 3), "LayerNormalization")
    (1, 2)
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank, first = len(shape), 0 if batch else 1
    found = sorted({a + rank * (a < 0) for a in axes})
    if len(found) != len(axes) or found[0] < first or found[-1] >= rank:
        allowed = f"{first} to {rank - 1}, or {first - rank} to -1" if rank > first else "none: there is no other axis"
        raise ValueError(
            f"{where}: {what}={axis} does not name distinct axes of input shape {shape}; expected {allowed}"
        )
    return tuple(found)


def known(sizes: Sequence[int | None]) -> TypeGuard[Sequence[int]]:
    """Return whether no size is None."""
    return None not in sizes


def known_channels(channels: int | None, shape: Any, where: str) -> int:
    """Return the channels of an input shape, which the shape of a kernel depends on. Raises ValueError for None."""
    if channels is None:
        reason = f"the channel count in input shape {shape} is None"
        raise ValueError(f"{where}: {reason}; the kernel's shape depends on it, so give a number")
    return channels


def known_sizes(axes: tuple[int, ...], shape: Shape, where: str) -> tuple[int, ...]:
    """Return the sizes of axes on which the shapes of params depend. Raises ValueError if one is unknown."""
    sizes = tuple(shape[axis] for axis in axes)
    if not known(sizes):
        reason = f"axis {axes[sizes.index(None)]} of input shape {shape} is None"
        raise ValueError(f"{where}: {reason}; the params' shapes depend on it, so give a number")
    return tuple(sizes)
