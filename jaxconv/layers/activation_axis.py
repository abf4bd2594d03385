"""What an activation does to the channels of a layer: along which axis it works, and how many it leaves.

Knows activations, no layer.
"""

import functools
import inspect
from typing import Any

import jax

from jaxconv import activations

Array = jax.Array


@functools.cache
def uses_axis(activation: Any) -> bool:
    """Return whether an activation works along an axis, as softmax and glu do."""
    try:
        return "axis" in inspect.signature(activation).parameters
    except (TypeError, ValueError):
        return False


def activate(activation: Any, y: Array, axis: int) -> Array:
    """Apply an activation, along the channel axis where it works along one (softmax, glu): in both data formats.

    Keras takes the last axis always, which under "channels_first" is a spatial one; the documentation says channels.
    """
    return activation(y, axis=axis) if uses_axis(activation) else activation(y)


def activated_width(activation: Any, width: int, where: str) -> int:
    """Return the channel count after an activation: ``glu`` halves it, all others keep it. Raises ValueError if odd."""
    if activation is not activations.glu:
        return width
    if width % 2:
        raise ValueError(f"{where}: activation 'glu' halves the channels, and {width} is odd; give an even number")
    return width // 2


def is_linear(activation: Any) -> bool:
    """Tell whether an activation leaves everything as it is."""
    return activation is None or activation is activations.linear
