"""Keras files written by hand, with only h5py and zipfile: files as of Keras 1 and 2, and invalid ones."""

import io
import json
import zipfile

import h5py
import numpy as np


def write_hdf5(path, config, weights, version=None, backend=None, change=None):
    """Write a model with a group for each layer.

    Args:
        config: the model's config; None for weights alone.
        weights: name of a layer -> list of (name of the weight, array).
        change: called with the open file at the end.
    """
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        top = file if config is None else file.create_group("model_weights")
        for where in (file, top):
            if version is not None:
                where.attrs["keras_version"] = version.encode()
            if backend is not None:
                where.attrs["backend"] = backend.encode()
        names = [name.encode() for name in weights]
        for number in range(0, len(names) if len(names) > 2000 else 0, 2000):  # as Keras splits long lists
            top.attrs[f"layer_names{number // 2000}"] = names[number : number + 2000]
        if len(names) <= 2000:
            top.attrs["layer_names"] = names
        for name, arrays in weights.items():
            group = top.create_group(name)
            group.attrs["weight_names"] = [one.encode() for one, _ in arrays]
            for one, array in arrays:
                group.create_dataset(one, data=array)
        if change is not None:
            change(file)
    return path


def write_keras(path, config, tables, version="3.15.1", names=(), method=zipfile.ZIP_STORED, more=None):
    """Write a ``.keras`` archive: ``tables`` by path; ``more`` entries by name, in place of those of the same name."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in tables.items():
            file.create_dataset(name, data=array)
    entries = {
        "metadata.json": json.dumps({"keras_version": version}),
        "config.json": json.dumps(config),
        "model.weights.h5": buffer.getvalue(),
    }
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in (entries | (more or {})).items():
            if content is not None:
                archive.writestr(name, content)
    return path


def layer(class_name, name, calls=None, **config):
    """Return a layer's entry in a config; with ``calls``, its inbound nodes."""
    entry = {"class_name": class_name, "config": {"name": name, **config}}
    return entry if calls is None else {**entry, "name": name, "inbound_nodes": calls}


def sequential(*layers, form=dict):
    """Return a Sequential's config, in the form of a list (until Keras 2.2) or a dict."""
    inside = list(layers)
    return {"class_name": "Sequential", "config": inside if form is list else {"name": "net", "layers": inside}}


def functional(layers, inputs, outputs, name="net"):
    config = {"name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs}
    return {"class_name": "Model", "config": config}


DENSE = sequential(layer("Dense", "dense_1", units=2, activation="linear", batch_input_shape=[None, 3]))
DENSE_WEIGHTS = {
    "dense_1": [("dense_1/kernel:0", np.arange(6, dtype=np.float32).reshape(3, 2)), ("dense_1/bias:0", np.ones(2))]
}


def write_dense(path, change=None):
    """Write the smallest model that has weights: one Dense from 3 to 2."""
    return write_hdf5(path, DENSE, DENSE_WEIGHTS, "2.2.4", "tensorflow", change)
