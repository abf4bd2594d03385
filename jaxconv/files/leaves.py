"""Conversion of params to and from a flat dict of leaves by path, such as ``conv1d/kernel``."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Layer, Params, param_shapes
from jaxconv.files.errors import FileError

LEAVES = 20_000  # the largest number of arrays in a file
DEPTH = 64  # the deepest nesting of dicts: JAX recurses into them


def flat(params: Any) -> dict[str, Any]:
    """Return the leaves by path: keys joined with "/", which no layer's name contains.

    >>> flat({"conv1d": {"bias": 1, "kernel": 2}})
    {'conv1d/bias': 1, 'conv1d/kernel': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> Params:
    """Return nested dicts of leaves: the inverse of :func:`flat`. Raises ValueError if one path continues another one.

    >>> nested({"conv1d/bias": 1, "conv1d/kernel": 2})
    {'conv1d': {'bias': 1, 'kernel': 2}}
    """
    params: Params = {}
    for name, leaf in leaves.items():
        *above, last = name.split("/")
        if len(above) > DEPTH:
            raise ValueError(f"the name {name[:40]!r}... has {len(above)} slashes; at most {DEPTH} are valid")
        here: Any = params
        for key in above:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                break
        if not isinstance(here, dict) or last in here:
            raise ValueError(f"{name} and another leaf share a path: one of them continues where the other ends")
        here[last] = leaf
    return params


def on_device(path: str | os.PathLike[str], leaves: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Return the leaves as JAX arrays of the same types. Raises FileError for 64 bits unless jax_enable_x64 is set."""
    for name, array in leaves.items():
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise FileError(f"{path}: {name} is {array.dtype}; call jax.config.update('jax_enable_x64', True) first")
    return {name: jnp.asarray(array, dtype=array.dtype) for name, array in leaves.items()}


def check(path: str | os.PathLike[str], layer: Layer, input_shape: Any, params: Any) -> None:
    """Check that params have the leaves and shapes of a layer for an input of this shape. Raises FileError."""
    try:
        expected = flat(param_shapes(layer, input_shape))
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: the layer does not accept input of shape {input_shape}: {error}") from error
    given = flat(params)
    for name, leaf in expected.items():
        if name not in given:
            raise FileError(f"{path}: weight {name} of shape {leaf.shape} is missing")
        if np.shape(given[name]) != leaf.shape:
            raise FileError(f"{path}: weight {name} has shape {np.shape(given[name])}; its layer needs {leaf.shape}")
    if extra := sorted(set(given) - set(expected)):
        raise FileError(f"{path}: the layer has no weight {', '.join(extra)}")
