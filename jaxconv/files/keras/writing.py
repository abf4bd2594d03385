"""Writing of models to Keras 3's ``.keras`` archive: metadata.json, config.json and model.weights.h5."""

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Apply, Layer, Params, as_layer, layers
from jaxconv.contract.symbolic import Input
from jaxconv.errors import require
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError
from jaxconv.files.input_shapes import fits, fitting_shape, output_shape_of
from jaxconv.files.keras.functions import as_operation
from jaxconv.files.keras.layout import groups
from jaxconv.files.keras.weights import check_finite
from jaxconv.files.leaves import check, flat
from jaxconv.models import Model, Sequential
from jaxconv.models.container import Container, base_name, free_name
from jaxconv.registry import plain

KERAS_VERSION = "3.15.1"  # the version whose form of config and weights is written


def save_model(
    path: str | os.PathLike[str],
    layer: Layer | Apply,
    params: Params,
    *,
    input_shape: Any = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to a ``.keras`` file, which Keras 3 opens and which computes the same there.

    The file is replaced atomically: an interrupted save leaves the old one intact. The same model gives the same bytes,
    which contain no time. Layers without a name get the one they have in params; ``input_shape`` options become Keras's
    input layers. A layer that is not a Sequential or Model is written inside a Sequential (for several inputs: a
    Model). What Keras lacks (Residual, LocallyConnected1D, options beyond Keras's) is written in the same form: jaxconv
    can read it, and Keras rejects the file with an error that names it. A Sequential in which a layer is shared is
    written as a Model, because Keras loses the second call; inside another model it is not supported.

    Args:
        path: the file, under exactly this name, which ends in ".keras".
        layer: the layer, usually a Sequential or Model, or its ``apply_fn``.
        params: its weights.
        input_shape: the shape the layer was initialized with, batch first (a list of shapes for several inputs); the
            layer's own if None. With it the weights are checked against the layer, and Keras builds the whole model
            when it opens the file. Without it, Keras gets the shapes that follow from the weights, and builds the rest
            at the first call.
        about: plain values to store with the model, such as the names of classes or the source of the data.

    Raises:
        FileError: the file cannot be written; the weights are not this layer's, or contain NaN or an infinity, which
            ``load_model`` rejects.
        TypeError: ``layer`` is not a layer.
        ValueError: the path does not end in ".keras"; an option of the layer has a value without a name in a config; a
            nested Sequential has a shared layer, or one that is not nested has one and no input shape is known.
        ImportError: h5py is not installed.

    >>> import tempfile, zipfile
    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.keras", jaxconv.Dense(2), params)
    ...     zipfile.ZipFile(f"{folder}/model.keras").namelist()
    ['metadata.json', 'config.json', 'model.weights.h5']
    """
    layer = as_layer(layer, "save_model(path, layer, params)", params)
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"{path}: a path that ends in .keras is expected: Keras opens a model by its ending")
    shape = layer.known_input_shape if input_shape is None else layer.read_shape(input_shape)
    if shape is not None:
        check(path, layer, shape, params)
    model, weights = _as_model(layer, params, shape)
    alone = not isinstance(layer, Sequential | Model)
    own = {"input_shape": shape, "alone": alone, "about": dict(about or {})}
    texts = {
        "metadata.json": {"keras_version": KERAS_VERSION, "jaxconv": plain(own)},
        "config.json": _config(model, weights),
    }
    content = _weights(path, model, weights)
    with replacing(path) as handle, zipfile.ZipFile(handle, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), json.dumps(text))  # a ZipInfo has no time unless it is given one
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), content)


# -- the model in Keras's form: named layers, and a Sequential or a Model around everything


def _as_model(layer: Layer, params: Params, shape: Any) -> tuple[Sequential | Model, Params]:
    if isinstance(layer, Model):
        return _named(layer), params
    if isinstance(layer, Sequential) and len(layer.layers) > len(layer.children):
        if shape is None:
            raise ValueError("a Sequential with a shared layer is written as a graph; give input_shape")
        start = ends = Input(batch_shape=(None, *shape[1:]))
        for one in layer.layers:
            ends = one(ends)
        return _named(Model(start, ends, name=layer.name)), params
    if isinstance(layer, Sequential):
        return dataclasses.replace(_named(layer), input_shape=shape if shape is None else tuple(shape[1:])), params
    name = layer.name or base_name(layer)
    inside = {name: params} if params else {}
    named = _named(dataclasses.replace(layer, name=name))
    if isinstance(shape, list):
        inputs = [Input(batch_shape=(None, *one[1:])) for one in shape]
        return Model(inputs, named(inputs)), inside
    return Sequential([named], input_shape=None if shape is None else tuple(shape[1:])), inside


def _named(layer: Any) -> Any:
    """Return a layer in which all nested layers are named as in params and have no input shapes of their own."""
    if isinstance(layer, Sequential):
        if len(layer.layers) > len(layer.children):
            raise ValueError(f"{layer.label}: a Sequential inside a model cannot share a layer; use a Model")
        chain = [_named(dataclasses.replace(child, name=name)) for name, child in layer.children.items()]
        return dataclasses.replace(layer, layers=chain, input_shape=None)
    if isinstance(layer, Model):
        return layer.map_layers(lambda _, child: _named(child))
    fields = [] if isinstance(layer, Container) else [field.name for field in dataclasses.fields(layer)]
    wrapped = {name: one for name in fields if isinstance(one := getattr(layer, name), Layer)}
    inside = {key: _named(dataclasses.replace(one, name=one.name or base_name(one))) for key, one in wrapped.items()}
    return dataclasses.replace(layer, input_shape=None, **inside)


def _config(model: Layer, params: Params) -> dict[str, Any]:
    config = _with_keras_classes(layers.serialize(model))
    if isinstance(model, Sequential) and model.input_shape is None:
        _add_build_configs(config, model, params, None)
    elif isinstance(model, Sequential):
        config["config"]["layers"][0]["config"]["name"] = free_name("input_layer", model.names, {})
    return config


def _with_keras_classes(value: Any) -> Any:
    """Return a config in which graphs have Keras's class name."""
    if isinstance(value, list):
        return [_with_keras_classes(one) for one in value]
    if not isinstance(value, dict):
        return value
    config = {key: _with_keras_classes(one) for key, one in value.items()}
    if config.get("class_name") == "Model":
        names = dict.fromkeys(("class_name", "registered_name"), "Functional")
        config |= {"module": "keras.src.models.functional", **names}
    return as_operation(config) if "inbound_nodes" in config else config


def _add_build_configs(config: dict[str, Any], model: Sequential, params: Params, shape: Any) -> Any:
    """Add to each layer in a Sequential of unknown input a shape that fits its weights; return the output shape."""
    for entry, (name, child) in zip(config["config"]["layers"], model.children.items(), strict=True):
        own = params.get(name, {})
        if isinstance(child, Sequential):
            shape = _add_build_configs(entry, child, own, shape)
            continue
        if own and not (shape and fits(child, own, shape)):
            shape = fitting_shape(child, own)
        if own and shape:
            entry["build_config"] = {"input_shape": plain(shape)}
        shape = output_shape_of(child, shape) if shape else None
    return shape


# -- the weights


def _weights(path: Path, model: Layer, params: Params) -> bytes:
    """Return the bytes of model.weights.h5: a group for each layer with its name and its weights, numbered from 0."""
    h5py = require("h5py", "save_model")
    buffer, values, written = io.BytesIO(), flat(params), set[str]()
    with h5py.File(buffer, "w", track_order=False) as file:
        for group_path, name, leaves in groups(model):
            group = file.create_group(group_path)
            group.attrs["name"] = name or base_name(model)
            for index, leaf in enumerate("/".join(leaf) for leaf in leaves):
                if leaf not in values:
                    raise FileError(f"{path}: weight {leaf} is missing")
                value = np.asarray(values[leaf])
                check_finite(f"{path}: weight {leaf}", value)
                half = value.dtype == jnp.bfloat16  # HDF5 has no such type: Keras stores two bytes, and its name
                stored = value.view(np.dtype("V2")) if half else value
                dataset = group.create_dataset(str(index), data=stored, track_times=False)
                if half:
                    dataset.attrs["dtype"] = "bfloat16"
                written.add(leaf)
    if extra := sorted(values.keys() - written):
        raise FileError(f"{path}: the layer has no weight {', '.join(extra)}")
    return buffer.getvalue()
