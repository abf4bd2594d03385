"""Keras's initializers: frozen records, called as ``initializer(key, shape, dtype)`` for the first value of a weight.

That is also the arrow of :mod:`jax.nn.initializers`, so those functions are legal wherever these records are. They know
nothing of layers. One difference from Keras: an initializer without a seed draws from the key it is given, so two
layers that share it do not begin equal.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxconv.initializers.constant import STFT, Constant, Identity, Ones, Values, Zeros
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


def get(identifier: Any) -> Callable[..., jax.Array] | None:
    """Find an initializer by name, config dict, class, instance, callable or value; ``None`` stays ``None``.

    An array stands for :class:`Values`: exactly this array, and only for its own shape.

    Raises:
        ValueError: for an unknown name, naming the nearest legal one.
        TypeError: for anything that cannot be called.

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
