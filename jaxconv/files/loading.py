"""Loading of trained models and their weights. The content of a file determines its kind, never its name."""

import codecs
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.files.archive import read_format
from jaxconv.files.bounds import TEXT, ZipReader, open_file, parse_json
from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5 import NoStore, is_hdf5, opened
from jaxconv.files.keras.model import Custom, Factory, Read, Source, read_keras
from jaxconv.files.keras.stored_layer import without_file
from jaxconv.files.keras.weights import match_weights, read_weights
from jaxconv.files.legacy.hdf5_weights import top_group

_MOST_ENTRIES = 10_000  # of a .keras archive
_STATE = ("optimizer_weights", "optimizer", "metrics")  # groups next to the model, which are not read


def load_model(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> tuple[Params, Apply]:
    """Read a trained model as ``(params, apply_fn)``, like ``layer.init``; the layer is ``apply_fn.layer``.

    Reads Keras's ``.keras`` (2.12 and later), its HDF5 files with a config (Keras 1, 2, tf.keras, 3), and jaxconv's
    own files. Keras is not needed. Names from older versions of Keras are mapped to current ones, kernels of Theano are
    flipped, and ``hard_sigmoid`` of Keras 1 and 2 keeps its old slope. A key without effect is left out; any other
    unknown key is an error. A function of arrays in a graph (``x / 127.5``) becomes the layer that computes it, if
    there is one. A layer that occurs in several models gets a copy of its weights in each.

    No code in a file is ever run. A Lambda, or a class that is not one of Keras's, raises FileError with the layer's
    name. Either give a layer in its place (``custom_layers``), or read the model up to an earlier layer (``until``).

    Args:
        path: the file.
        custom_layers: a dict from the name of a class, or of a layer, to a layer class, or to a factory that takes the
            layer's config, unchanged from the file, and returns a layer. It takes precedence over the layers here. A
            function of arrays is named by its name in the model; its arguments are in the config under "arguments". For
            a layer without weights, such as one in place of a quantizer, the stored weights are left out.
        until: the name of the last layer to read, whose output becomes the model's.
        custom_objects: a dict from the name of an initializer, regularizer, constraint or activation to a class, which
            gets the config in the file as arguments, or to a function. None leaves out one that only training needs.
        weights: a file with the weights, for a model in JSON (Keras's ``model.to_json()``, of any version), or in place
            of the weights in ``path``.

    Returns:
        (params, apply_fn): the weights as nested dicts of arrays, and the function ``y = apply_fn(params, x)``.

    Raises:
        FileError: the file is missing, truncated, damaged, malicious, or not a model; a layer is unknown or is code; a
            weight is missing, left over, of another shape, or not finite (NaN or infinity); ``until`` is not a layer.
            The message names the file, the layer and the reason.
        TypeError: ``custom_layers`` or ``custom_objects`` is not a dict, or a factory does not return a layer.
        ImportError: the file needs h5py, which is not installed.

    >>> import tempfile
    >>> params, apply_fn = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", apply_fn.layer, params, input_shape=(None, 3))
    ...     params, apply_fn = jaxconv.load_model(f"{folder}/m.keras")
    >>> apply_fn(params, jnp.ones((1, 3))).shape
    (1, 2)
    """
    read = read_model(path, custom_layers, until, custom_objects=custom_objects, weights=weights)
    return read.params, read.layer.apply_fn


def load_layer(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> tuple[Layer, Params]:
    """Read a trained model like :func:`load_model`, and return ``(layer, params)``.

    Args:
        path, custom_layers, until, custom_objects, weights: as in :func:`load_model`. ``weights`` can be omitted for a
            model in JSON.

    Returns:
        (layer, params): the layer, usually a Sequential or Model, and its weights as nested dicts of arrays. For a
        model in JSON without ``weights``, each leaf is a ``jax.ShapeDtypeStruct``; :func:`load_weights` reads the
        values.

    Raises:
        FileError, TypeError, ImportError: as in :func:`load_model`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", jaxconv.Flatten(), {})
    ...     load_layer(f"{folder}/m.keras")[0].label
    'flatten'
    """
    read = read_model(path, custom_layers, until, custom_objects=custom_objects, weights=weights, untrained=True)
    return read.layer, read.params


def read_model(
    path: str | os.PathLike[str],
    custom_layers: Mapping[str, Factory] | None = None,
    until: str | None = None,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | None = None,
    untrained: bool = False,
) -> Read:
    """Read a trained model and the facts in its file: format, version, notes, input shape. Raises FileError.

    untrained: whether to read a model in JSON without ``weights``; its params are shapes and types.
    """
    for name, table in (("custom_layers", custom_layers), ("custom_objects", custom_objects)):
        if table is not None and not isinstance(table, Mapping):
            raise TypeError(f"load_model: {name}={table!r} is not a dict; give one from names to classes")
    for name, factory in (custom_layers or {}).items():
        if not callable(factory):
            raise TypeError(f"load_model: custom_layers has {factory!r} for {name!r}; give a class, or a factory")
    with contextlib.ExitStack() as files:
        source = files.enter_context(open_source(path))
        if source.config is None:
            raise FileError(f"{path}: it has weights and no model; load them into a layer with load_weights")
        if weights is not None:
            other = files.enter_context(open_source(weights))
            version, backend = (getattr(source, what) or getattr(other, what) for what in ("version", "backend"))
            source = source._replace(store=other.store, version=version, backend=backend)
        elif isinstance(source.store, NoStore) and not untrained:
            raise FileError(f"{path}: it has a model and no weights; give the file of its weights, too: weights=...")
        return read_keras(source, Custom(custom_layers or {}, custom_objects or {}), until)


def load_weights(
    path: str | os.PathLike[str],
    layer: Layer | Apply,
    params: Params,
    *,
    by_name: bool = False,
    strict: bool = True,
) -> Params:
    """Read weights into a layer's params: from Keras's ``.weights.h5``, its ``.h5`` of weights, or any model file.

    Without ``by_name`` the layers of the file and of the model are matched in order, regardless of their names. A
    subclassed Keras model may store its layers without an order, under the names of its attributes: ``"conv"`` for
    ``self.conv``, ``"blocks.dense_1"`` for the second Dense in ``self.blocks``. The error lists the names; give them to
    the layers, and ``by_name=True``.

    Args:
        path: the file.
        layer: the layer, or its ``apply_fn``.
        params: its params, as ``init`` returns them. Their shapes and types are used, their values are replaced.
        by_name: match layers by their names instead.
        strict: False keeps the params of layers that are not in the file, and leaves out layers that are only in the
            file. A weight of another shape remains an error, and so does a file without any of the layers.

    Returns:
        params with the weights of the file, in the structure and types of ``params``.

    Raises:
        FileError: the file cannot be read, as in :func:`load_model`; a weight is missing, left over, of another shape,
            or not finite.
        TypeError: ``layer`` is not a layer.
        ImportError: the file needs h5py, which is not installed.

    >>> import tempfile
    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", jaxconv.Dense(2), params | {"bias": jnp.ones(2)})
    ...     params = load_weights(f"{folder}/m.keras", jaxconv.Sequential([jaxconv.Dense(2)]), {"dense": params})
    >>> params["dense"]["bias"]
    Array([1., 1.], dtype=float32)
    >>> layer = jaxconv.Sequential([jaxconv.Dense(2, name="head")])
    >>> params, _ = layer.init(jax.random.key(0), (None, 3))
    >>> load_weights("no_such.weights.h5", layer, params)
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: no_such.weights.h5: No such file or directory
    """
    layer = as_layer(layer, "load_weights(path, layer, params)", params)
    with open_source(path) as source, damaged(path, "the record of its weights"):
        found = match_weights(source.store, without_file(layer), by_name, strict)
        return read_weights(source.store, found, params, None if strict else params, source.origin, [])


@contextlib.contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[Source]:
    """Open a Keras file (an archive, HDF5 or JSON), and close it at the end."""
    path = Path(path)
    with open_file(path) as handle:
        start = handle.read(4)
        if not start:
            raise FileError(f"{path}: it is empty")
        if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b'"'):
            yield _json_source(path, start + handle.read(TEXT))
            return
        if start.startswith(b"PK"):
            config, metadata, weights = _read_archive(path, handle)
            own, version = (metadata.get(key) for key in ("jaxconv", "keras_version"))
            version = version if isinstance(version, str) else None
            own = own if isinstance(own, Mapping) else {}
            with opened(path, weights, _STATE) as store:
                yield Source(path, config, store, ".keras", version, own=own)
        elif is_hdf5(handle):
            with opened(path, handle, _STATE) as store:
                config, top = store.text("", "model_config"), top_group(store).rstrip("/")
                version, backend = (store.text("", n) or store.text(top, n) for n in ("keras_version", "backend"))
                tree = None if config is None else parse_json(path, config, "model_config")
                yield Source(path, tree, store, "HDF5", version, backend)
        else:
            raise FileError(f"{path}: it is neither a .keras archive nor HDF5 nor JSON: it begins with {start!r}")


def _json_source(path: Path, content: bytes) -> Source:
    config = parse_json(path, content, "its text")
    if isinstance(config, str):  # the result of to_json, written as JSON again
        config = parse_json(path, config, "its text")
    about = config if isinstance(config, Mapping) else {}
    version, backend = (one if isinstance(one := about.get(key), str) else None for key in ("keras_version", "backend"))
    return Source(path, config, NoStore(path), "JSON", version, backend)


def _read_archive(path: Any, handle: IO[bytes]) -> tuple[Any, dict[str, Any], bytes]:
    """Return config, metadata and weights (HDF5) of a ``.keras`` archive; nothing is unpacked to disk."""
    archive = ZipReader(path, handle)
    if len(archive.names) > _MOST_ENTRIES:
        raise FileError(f"{path}: the archive has {len(archive.names)} entries; at most {_MOST_ENTRIES} are read")
    for name in archive.names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise FileError(f"{path}: the archive has an entry {name!a}, which leads out of it")
    if "config.json" not in archive.names and (kind := read_format(path)) is not None:
        what = f"{path}: it is a {kind[:40]!a}, which has no layers"
        raise FileError(f"{what}; give the model file from which it was made")
    config = archive.read_json("config.json")
    metadata = archive.read_json("metadata.json") if "metadata.json" in archive.names else {}
    if not isinstance(metadata, dict):
        raise FileError(f"{path}: metadata.json is of type {type(metadata).__name__}; a dict is expected")
    return config, metadata, archive.read("model.weights.h5")
