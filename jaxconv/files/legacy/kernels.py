"""Kernels as Keras 1, and Theano under any Keras, kept them: the steps that bring them to today's axes and direction.

Knows arrays and a layer's class and data format. Nothing of files.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxconv.contract import Layer

Turn = Callable[[np.ndarray], np.ndarray]

_FLIPPED = {f"Conv{rank}D{kind}" for rank in (1, 2, 3) for kind in ("", "Transpose")}  # Keras's own list


class Origin(NamedTuple):
    """Who wrote a file: the major version of Keras, and the backend where the file says it."""

    major: int = 3
    backend: str | None = None


def todays_kernel(
    layer: Layer, leaf: str, shape: tuple[int, ...], wanted: tuple[int, ...], origin: Origin
) -> Turn | None:
    """Give the function that brings a stored weight to the shape that a layer wants; None where there is none.

    Keras 1 had kernels of one dimension as (steps, 1, channels, filters), and with Theano's order of dimensions those
    of two and three as (filters, channels, *window). A convolution of Theano's turns its kernel around.
    """
    steps: list[Turn] = []
    if origin.major == 1 and leaf.endswith("kernel"):
        order = _order(type(layer).__name__, shape, wanted, getattr(layer, "data_format", None))
        if order is not None:
            shape = tuple(shape[axis] for axis in order)
            steps.append(lambda value: value.transpose(order))
        if len(shape) == len(wanted) + 1 and shape[1] == 1:
            shape = (shape[0], *shape[2:])
            steps.append(lambda value: value[:, 0])
    if shape != wanted:
        return None
    if origin.backend == "theano" and leaf == "kernel" and type(layer).__name__ in _FLIPPED:
        spatial = tuple(range(len(wanted) - 2))
        steps.append(lambda value: np.flip(value, spatial))

    def turn(value: np.ndarray) -> np.ndarray:
        for step in steps:
            value = step(value)
        return value

    return turn


def _order(name: str, shape: tuple[int, ...], wanted: tuple[int, ...], data_format: Any) -> tuple[int, ...] | None:
    """Give the order in which to take the axes of a Keras 1 kernel; None for as they are."""
    theano = data_format == "channels_first"
    if name == "Conv1D" and len(shape) == 4:
        filters_first = shape[:2] != (wanted[0], 1) or shape[3] != wanted[2]  # Keras 1.1
        return (2, 3, 1, 0) if filters_first else None
    if name in ("Conv2D", "SeparableConv2D") and len(shape) == 4 and theano:
        return (2, 3, 1, 0)
    if name == "Conv3D" and len(shape) == 5 and theano:
        return (2, 3, 4, 1, 0)
    if name == "Conv2DTranspose" and len(shape) == 4:
        return (2, 3, 0, 1) if theano else (0, 1, 3, 2)
    if name == "Conv3DTranspose" and len(shape) == 5:
        return (2, 3, 4, 0, 1) if theano else (0, 1, 2, 4, 3)
    return None
