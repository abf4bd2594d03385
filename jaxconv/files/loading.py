"""Trained models from files, whoever wrote them: which kind of file it is, and ``(params, apply_fn)`` out of it.

The kind is told from the content, never from the ending. What each kind holds stands in its own file.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxconv.contract import Apply, Layer, Params
from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5 import Store, is_hdf5, opened
from jaxconv.files.keras import weights
from jaxconv.files.keras.archive import parse, read_archive
from jaxconv.files.keras.model import Factory, Read, Source, read_keras

_STATE = ("optimizer_weights", "optimizer", "metrics")  # groups beside the model: not looked at


def load_model(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
) -> tuple[Params, Apply]:
    """Read a trained model: ``(params, apply_fn)``, as ``layer.init`` gives them; the layer is ``apply_fn.layer``.

    Reads Keras's ``.keras`` (2.12 and later), its HDF5 files with a config (Keras 1, 2, tf.keras, 3), and jaxconv's
    own files. Keras is not needed. What a model was called in an older Keras is mapped to what it is called now: a
    kernel of Theano's is turned around, ``hard_sigmoid`` of Keras 1 and 2 keeps its old slope. A key that says nothing
    is left out; one that says something unknown is an error. A function of arrays in a graph (``x / 127.5``) becomes
    the layer that computes it, where there is one. A layer that stands in several models has its weights in each.

    Nothing in a file is ever run. A Lambda, and a class that is no layer of Keras's, are refused with the layer's name.
    Three ways past: ``custom_layers`` with a layer in its place, ``until`` to stop at a layer before it, and not
    loading it.

    Args:
        path: the file.
        custom_layers: from a class's name, or a layer's name, to a factory: it takes the layer's config as it is in the
            file, and gives a layer of jaxconv. Wins over the layers here. For a function of arrays, by its name in the
            model; what it is called with stands in the config under "arguments".
        until: the last layer to read, by its name: the model ends with what that layer gives.

    Raises:
        FileError: the file is missing, truncated, damaged, hostile, or no model; a layer is unknown or is code; a
            weight is missing, left over, of another shape, or not finite (NaN or infinity). The file, the layer and the
            reason are named.
        ValueError: ``until`` is no layer of the model.
        ImportError: the file needs h5py, which is not installed.

    >>> import tempfile
    >>> params, apply_fn = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", apply_fn.layer, params, input_shape=(None, 3))
    ...     params, apply_fn = jaxconv.load_model(f"{folder}/m.keras")
    >>> apply_fn(params, jnp.ones((1, 3))).shape
    (1, 2)
    """
    read = read_model(path, custom_layers, until)
    return read.params, read.layer.apply_fn


def load_layer(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
) -> tuple[Layer, Params]:
    """Read a trained model as :func:`load_model` does, and give ``(layer, params)``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", jaxconv.Flatten(), {})
    ...     load_layer(f"{folder}/m.keras")[0].label
    'flatten'
    """
    read = read_model(path, custom_layers, until)
    return read.layer, read.params


def read_model(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
) -> Read:
    """Read a trained model with what its file says of itself: format, version of Keras, and what was unusual."""
    with _source(path) as source:
        if source.config is None:
            raise FileError(f"{path}: it has weights and no model: load it with load_weights into a layer")
        return read_keras(source, custom_layers, until)


def load_weights(
    path: str | os.PathLike[str],
    layer: Layer | Apply,
    params: Params,
    *,
    by_name: bool = False,
    strict: bool = True,
) -> Params:
    """Read weights alone into a layer's params: Keras's ``.weights.h5``, its ``.h5`` of weights, or any model file.

    Without ``by_name`` the layers of the file and of the model are matched one after the other, whatever they are
    called.

    Args:
        path: the file.
        layer: the layer, or its ``apply_fn``.
        params: its params, as ``init`` gives them; what they hold is replaced, and their shapes and types count.
        by_name: match layers by their names instead.
        strict: False keeps the params of layers that the file does not have, and leaves out what it has more. A weight
            of another shape is an error all the same.

    Raises:
        FileError: as :func:`load_model`; a weight that is missing or left over.

    >>> layer = jaxconv.Sequential([jaxconv.Dense(2, name="head")])
    >>> params, _ = layer.init(jax.random.key(0), (None, 3))
    >>> load_weights("no_such.weights.h5", layer, params)
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: no_such.weights.h5: No such file or directory
    """
    layer = layer.layer if isinstance(layer, Apply) else layer
    with _source(path) as source, damaged(path, "what it says of its weights"):
        store, root, origin = source.store, weights.places(layer), source.origin
        if weights.is_counted(store) and not store.names("", "layer_names"):
            found = weights.counted(store, root, by_name, strict)
        else:
            top = "model_weights" if "model_weights" in store.groups else ""
            if store.names(top, "layer_names") is None:
                raise FileError(f"{path}: it holds no weights of Keras's: neither layer_names nor layers are in it")
            found = weights.named(store, root, top, by_name, strict)
        return weights.read(store, found, params, None if strict else params, origin, [])


@contextlib.contextmanager
def _source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a Keras file of either kind, and close it at the end."""
    path = Path(path)
    with damaged(path), open(path, "rb") as handle:
        start = handle.read(4)
        if not start:
            raise FileError(f"{path}: it is empty")
        archive = read_archive(path, handle) if start.startswith(b"PK") else None
        if archive is None and not is_hdf5(handle):
            raise FileError(f"{path}: it is neither a .keras archive nor HDF5: it begins with {start!r}")
    if archive is not None:
        own = archive.metadata.get("jaxconv")
        version = archive.metadata.get("keras_version")
        with opened(path, archive.weights, _STATE) as store:
            yield Source(
                path,
                archive.config,
                store,
                ".keras",
                version if isinstance(version, str) else None,
                alone=isinstance(own, Mapping) and own.get("alone") is True,
            )
        return
    with opened(path, None, _STATE) as store:
        yield _hdf5_source(path, store)


def _hdf5_source(path: Path, store: Store) -> Source:
    config = store.text("", "model_config")
    top = "model_weights" if "model_weights" in store.groups else ""
    version, backend = (store.text("", name) or store.text(top, name) for name in ("keras_version", "backend"))
    tree: Any = None if config is None else parse(path, config, "model_config")
    return Source(path, tree, store, "HDF5", version, backend)
