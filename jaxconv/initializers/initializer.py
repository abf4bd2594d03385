"""The base class and registry of the initializers, and the checks of their arguments."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.registry import Entry, Registry, nearest

Shape = Sequence[int]

registry = Registry("initializer", "keras.initializers")


class Initializer(Entry):
    """Base class of the initializers; abstract, without a registered name."""

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        """Return the initial value of a weight of this shape and dtype."""
        raise NotImplementedError


def number(value: Any, where: str) -> float:
    """Convert a number or an array scalar to a Python float. Raises TypeError otherwise."""
    if not isinstance(value, Real) and getattr(value, "shape", None) != ():
        raise TypeError(f"{where} must be a number; got {value!r}")
    return float(value)


def choice(value: Any, allowed: tuple[str, ...], where: str) -> None:
    """Check that ``value`` is one of ``allowed``. Raises ValueError with the closest valid word otherwise."""
    if value not in allowed:
        raise ValueError(f"{where} {value!r} is unknown; {nearest(str(value), allowed)}")
