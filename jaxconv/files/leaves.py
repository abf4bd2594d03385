"""Params as one flat table, leaf by path (``conv1d/kernel``), and back. Knows neither layers nor files."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Layer, Params
from jaxconv.files.errors import FileError


def flat(params: Any) -> dict[str, Any]:
    """Give the leaves by their paths, keys joined with "/", which no layer's name holds.

    >>> flat({"conv1d": {"bias": 1, "kernel": 2}})
    {'conv1d/bias': 1, 'conv1d/kernel': 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> Params:
    """Give the dicts in dicts that :func:`flat` made flat.

    Raises:
        ValueError: one path goes on where another one ends.

    >>> nested({"conv1d/bias": 1, "conv1d/kernel": 2})
    {'conv1d': {'bias': 1, 'kernel': 2}}
    """
    params: Params = {}
    for name, leaf in leaves.items():
        *above, last = name.split("/")
        here: Any = params
        for key in above:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                break
        if not isinstance(here, dict) or last in here:
            raise ValueError(f"{name} goes on below, or ends at, another leaf")
        here[last] = leaf
    return params


def on_device(path: str | os.PathLike[str], leaves: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Give the leaves as JAX's arrays, each in its own type.

    Raises:
        FileError: one is 64 bits wide while JAX computes in 32.
    """
    for name, array in leaves.items():
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise FileError(
                f"{path}: {name} is {array.dtype}, which needs jax.config.update('jax_enable_x64', True) first"
            )
    return {name: jnp.asarray(array, dtype=array.dtype) for name, array in leaves.items()}


def check(path: str | os.PathLike[str], layer: Layer, input_shape: Any, params: Any) -> None:
    """Check that params are those of a layer on an input of this shape.

    Raises:
        FileError: the layer does not take such an input; a weight is missing, has another shape, or is not the layer's.
    """
    try:
        expected = flat(jax.eval_shape(lambda key: layer.init(key, input_shape)[0], jax.random.key(0)))
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: the layer does not take input of shape {input_shape}: {error}") from error
    held = flat(params)
    for name, leaf in expected.items():
        if name not in held:
            raise FileError(f"{path}: weight {name} of shape {leaf.shape} is missing")
        if np.shape(held[name]) != leaf.shape:
            raise FileError(f"{path}: weight {name} has shape {np.shape(held[name])}; its layer needs {leaf.shape}")
    if more := sorted(set(held) - set(expected)):
        raise FileError(f"{path}: the layer has no weight {', '.join(more)}")
