"""Keras's initializers: frozen dataclasses, called as ``initializer(key, shape, dtype)``.

The functions of :mod:`jax.nn.initializers` have the same signature and are accepted in their place. One
difference from Keras: an initializer without a seed draws from its key, so that two layers that share it start with
different weights.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxconv.initializers.fixed import STFT, Constant, Identity, Ones, Values, Zeros
from jaxconv.initializers.initializer import Initializer, registry
from jaxconv.initializers.random import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    fans,
    from_keras_seed,
)

serialize = registry.serialize
if not TYPE_CHECKING:  # a type checker would accept every name
    __getattr__ = registry.attribute


def get(identifier: Any) -> Callable[..., jax.Array] | None:
    """Find an initializer by name, config dict, class, instance, callable or value; ``None`` stays ``None``.

    An array means :class:`Values`: this array, for a weight of the same shape.

    Raises:
        ValueError: for an unknown name; the message suggests the closest valid one.
        TypeError: for a value that is not callable.

    >>> get("he_normal")
    HeNormal(seed=None, input_axes=None, output_axes=None)
    """
    if isinstance(identifier, np.ndarray | np.generic | jax.Array):
        return Values(identifier)
    return registry.get(identifier)


__all__ = [
    "STFT",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "Values",
    "VarianceScaling",
    "Zeros",
    "fans",
    "from_keras_seed",
    "get",
    "registry",
    "serialize",
]
