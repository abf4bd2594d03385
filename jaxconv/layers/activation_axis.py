"""Activations along the channel axis, in both data formats, and the number of channels they return."""

import functools
import inspect
from typing import Any

from jax import Array

from jaxconv import activations


@functools.cache
def uses_axis(activation: Any) -> bool:
    """Return whether an activation works along an axis, as softmax and glu do."""
    try:
        return "axis" in inspect.signature(activation).parameters
    except (TypeError, ValueError):
        return False


def activate(activation: Any, y: Array, axis: int) -> Array:
    """Apply an activation; one that works along an axis, such as softmax or glu, along the channel axis ``axis``.

    Keras always uses the last axis, which is a spatial one under "channels_first"; its documentation says channels.
    """
    return activation(y, axis=axis) if uses_axis(activation) else activation(y)


def activated_width(activation: Any, width: int, where: str) -> int:
    """Return the channel count after an activation. ``glu`` halves it; an odd count raises ValueError."""
    if activation is not activations.glu:
        return width
    if width % 2:
        raise ValueError(f"{where}: activation 'glu' halves the channels, and {width} is odd; give an even number")
    return width // 2


def is_linear(activation: Any) -> bool:
    """Return whether an activation is the identity."""
    return activation is None or activation is activations.linear
