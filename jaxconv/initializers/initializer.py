"""What every initializer is: a frozen record in one table, and the checks that their arguments share."""

import dataclasses
from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.registry import Registry, nearest

Shape = Sequence[int]

registry = Registry("initializer", "keras.initializers")


class Initializer:
    """The base of the initializers; abstract, and so without a name."""

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        """Make an array of this shape and dtype."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Give the arguments that make an equal initializer."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


def number(value: Any, where: str) -> float:
    """Give a number, or an array scalar, as a Python float. Raises TypeError for anything else."""
    if not isinstance(value, Real) and getattr(value, "shape", None) != ():
        raise TypeError(f"{where} must be a number; got {value!r}")
    return float(value)


def choice(value: Any, legal: tuple[str, ...], where: str) -> None:
    """Raise ValueError, with the nearest legal word, unless ``value`` is one of ``legal``."""
    if value not in legal:
        raise ValueError(f"{where} {value!r} is unknown; {nearest(str(value), legal)}")
