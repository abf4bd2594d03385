"""A trained model in one file: the layer as JSON, the weights by path. No pickle, no code.

Knows layers through their contract and their table alone.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv.layers
import jaxconv.models  # noqa: F401  with the line above: enters every layer in the table
from jaxconv.files.archive import FileError, read_archive, read_header, write_archive
from jaxconv.layers.layer import Apply, Layer, Params, layers
from jaxconv.registry import plain

__all__ = ["FileError", "load_model", "model_info", "save_model"]

_FORMAT, _VERSION = "jaxconv model", 1


def save_model(
    path: str | os.PathLike[str],
    layer: Layer,
    params: Params,
    *,
    input_shape: Any = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to one ``.npz`` file, atomically: the old file stays until the new one is whole.

    The weights stand under their paths (``conv1d/kernel``), the layer and the rest in the entry ``header.json``.

    Args:
        path: the file, under exactly this name.
        layer: the layer, a Sequential for most.
        params: its weights.
        input_shape: what the layer was initialised with, batch first; the layer's own ``input_shape`` if None. With it
            the weights are checked against the layer, here and when they are loaded.
        about: plain values to keep with the model: names of classes, where the data came from, ...

    Raises:
        FileError: the file cannot be written, or the weights are not this layer's.
        ValueError: the layer holds something that has no name in a config.

    >>> import tempfile; from jaxconv.layers.dense import Dense
    >>> params, _ = Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.npz", Dense(2), params, input_shape=(None, 3))
    ...     same, apply_fn = load_model(f"{folder}/model.npz")
    >>> apply_fn.layer == Dense(2) and bool((same["kernel"] == params["kernel"]).all())
    True
    """
    if input_shape is None and layer.input_shape is not None:
        input_shape = (None, *layer.input_shape)
    arrays = _flat(params)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "layer": layers.serialize(layer),
        "input_shape": None if input_shape is None else [*getattr(input_shape, "shape", input_shape)],
        "about": plain(dict(about or {})),
    }
    _check(path, layer, header["input_shape"], arrays)
    write_archive(path, header, arrays)


def load_model(path: str | os.PathLike[str]) -> tuple[Params, Apply]:
    """Read a model: ``(params, apply_fn)``, as ``layer.init`` gave them; the layer is ``apply_fn.layer``.

    Raises:
        FileError: the file is missing, empty, truncated, damaged, no model, or of a newer version; its weights are not
            those of its layer, or are 64 bits wide while JAX computes in 32.
    """
    header, arrays = read_archive(path, _FORMAT, _VERSION)
    layer = _layer(path, header)
    _check(path, layer, header.get("input_shape"), arrays)
    return _nested({name: jnp.asarray(array, dtype=array.dtype) for name, array in arrays.items()}), layer.apply_fn


def model_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a model file says about itself; no weights are read.

    Returns:
        ``"layer"`` (the layer), ``"input_shape"`` (a tuple with batch first, or None), ``"about"`` (as given to
        :func:`save_model`) and ``"arrays"`` (path -> shape and dtype).

    Raises:
        FileError: as :func:`load_model`.
    """
    header = read_header(path, _FORMAT, _VERSION)
    shape = header.get("input_shape")
    return {
        "layer": _layer(path, header),
        "input_shape": None if shape is None else tuple(shape),
        "about": header.get("about", {}),
        "arrays": header["arrays"],
    }


def _layer(path: Any, header: Mapping[str, Any]) -> Layer:
    try:
        layer = layers.get(header["layer"])
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path}: its layer cannot be built: {error}") from error
    if not isinstance(layer, Layer):
        raise FileError(f"{path} holds no layer, but {header['layer']!r}")
    return layer


def _flat(params: Params) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _nested(flat: Mapping[str, Any]) -> Params:
    params: Params = {}
    for name, leaf in flat.items():
        *above, last = name.split("/")
        here = params
        for key in above:
            here = here.setdefault(key, {})
        here[last] = leaf
    return params


def _check(path: Any, layer: Layer, input_shape: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Check the weights against the layer, as far as its input's shape is known, and against this JAX's widths."""
    for name, array in arrays.items():
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise FileError(
                f"{path}: {name} is {array.dtype}, which needs jax.config.update('jax_enable_x64', True) first"
            )
    if input_shape is None:
        return
    try:
        shapes = jax.eval_shape(lambda key: layer.init(key, tuple(input_shape))[0], jax.random.key(0))
    except (ValueError, TypeError) as error:
        raise FileError(f"{path}: its layer does not take input of shape {input_shape}: {error}") from error
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    expected = {jax.tree_util.keystr(place, simple=True, separator="/"): leaf.shape for place, leaf in leaves}
    for name, shape in expected.items():
        if name not in arrays:
            raise FileError(f"{path}: weight {name} of shape {shape} is missing")
        if arrays[name].shape != shape:
            raise FileError(f"{path}: weight {name} has shape {arrays[name].shape}; its layer needs {shape}")
    if more := sorted(set(arrays) - set(expected)):
        raise FileError(f"{path}: the layer has no weight {', '.join(more)}")
