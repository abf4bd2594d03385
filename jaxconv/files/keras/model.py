"""Models in Keras's own files, of any version: from an open file to ``(layer, params)``. Nothing in a file is ever run.

Brings together the config's tree, one layer's options and the weights; each stands in its own file.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.contract import Layer, Params, layers
from jaxconv.files.errors import FileError, damaged, refused
from jaxconv.files.hdf5 import Store
from jaxconv.files.input_shapes import input_shape_of, misfit
from jaxconv.files.keras import weights
from jaxconv.files.keras.config import Entry, cut, graph_config, input_shape, outline
from jaxconv.files.keras.functions import LAMBDAS, put_layers
from jaxconv.files.keras.options import Code, translate
from jaxconv.files.keras.weights import Place, tail
from jaxconv.files.legacy import dialects
from jaxconv.files.legacy.deconvolution import output_lengths, refuse_other_lengths
from jaxconv.files.legacy.kernels import Origin
from jaxconv.models import Model, Sequential, functional
from jaxconv.models.container import Container
from jaxconv.registry import snake_case

Factory = Callable[[dict[str, Any]], Layer]


class Read(NamedTuple):
    """What a file gave.

    layer, params: the model. format: what kind of file it is. version: Keras's, where the file says it.
    notes: what was unusual in it: options left out, things renamed, weights in another type.
    """

    layer: Layer
    params: Params
    format: str
    version: str | None
    notes: tuple[str, ...]


class Source(NamedTuple):
    """A Keras model on disk: its config, its weights, and what the file says of itself."""

    path: Any
    config: Any
    store: Store
    format: str
    version: str | None = None
    backend: str | None = None
    alone: bool = False  # jaxconv wrote it for a layer that is no model

    @property
    def origin(self) -> Origin:
        """Give who wrote the file; from the forms of its config where it does not say the version."""
        first = (self.version or "").partition(".")[0]
        if first.isdigit():
            return Origin(max(1, int(first)), self.backend)
        text = str(self.config)[:200_000]
        major = 1 if "'border_mode'" in text or "'output_dim'" in text else 3 if "'registered_name'" in text else 2
        return Origin(major, self.backend)


def read_keras(source: Source, custom_layers: Mapping[str, Factory] | None, until: str | None) -> Read:
    """Build the model and read its weights.

    Raises:
        FileError: for everything in the file that cannot be used, naming the layer.
        ValueError: ``until`` is no layer of the model. TypeError: a custom layer that gives no layer.
    """
    with refused(source.path, "its config"):
        root = outline(source.config)
        put_layers(root)
    if until is not None:
        cut(root, until)
    builder = _Builder(source, root, dict(custom_layers or {}))
    layer = builder.build(root, ())
    shape = input_shape_of(layer) if builder.told else None
    if shape is not None:
        with refused(source.path, "its model"):
            refuse_other_lengths(layer, shape, builder.told)
    with refused(source.path, "its config"):
        root_place = _place(root, layer, ())
    store, origin = source.store, source.origin
    with damaged(source.path, "what it says of its weights"):
        if weights.is_counted(store) and not store.names("", "layer_names"):
            found = weights.counted(store, root_place, by_name=False, strict=True)
        else:
            top = "model_weights" if "model_weights" in store.groups else ""
            found = weights.named(store, root_place, top, by_name=True, strict=until is None)
        builder.notes += weights.hand_on(root_place, found)
        expected = expected_params(source.path, layer, found)
        params = weights.read(store, found, expected, None, origin, builder.notes)
    if source.alone and len(layer.children) == 1:
        ((name, layer),) = layer.children.items()
        params = params.get(name, {})
    return Read(layer, params, source.format, source.version, tuple(dict.fromkeys(builder.notes)))


def expected_params(path: Any, layer: Layer, found: Mapping[Any, Any]) -> Params:
    """Give the shapes and types of the params that a layer has for its own input.

    Where the input's shape is not in the file, the shapes in the file are taken, if each layer could have them for some
    input. That one layer fits the next is seen when they are called.
    """
    with refused(path, "its model"):
        shape = input_shape_of(layer)
        if shape is not None:
            return jax.eval_shape(lambda key: layer.init(key, shape)[0], jax.random.key(0))
    shapes = {
        "/".join(leaf): jax.ShapeDtypeStruct(match.table.shape, match.layer.policy.variable)
        for leaf, match in found.items()
    }
    missing = [leaf for leaf, _ in weights.leaves_of(weights.places(layer)) if leaf not in found]
    if missing:
        raise FileError(f"{path}: weight {'/'.join(missing[0])} is missing")
    _check_each(path, found)
    return weights.nested(shapes)


def _check_each(path: Any, found: Mapping[Any, Any]) -> None:
    """Raise FileError for weights that their layer has for no input."""
    held: dict[tuple, dict[str, tuple[int, ...]]] = {}
    for leaf, match in found.items():
        held.setdefault(leaf[:-1], {})[leaf[-1]] = tuple(match.table.shape)
    owners = {leaf[:-1]: match.layer for leaf, match in found.items()}
    for place, shapes in held.items():
        if (wanted := misfit(owners[place], shapes)) is not None:
            leaf, needed = wanted
            name = "/".join((*place, leaf))
            raise FileError(f"{path}: weight {name} has shape {shapes[leaf]} in the file; its layer needs {needed}")


class _Builder:
    """Makes layers of entries, and collects what was unusual about them."""

    def __init__(self, source: Source, root: Entry, custom: dict[str, Factory]):
        self._source, self._root, self._custom = source, root, custom
        self._origin = source.origin
        self.notes: list[str] = []
        self.told: dict[tuple[str, ...], Any] = {}  # the paths of layers whose output's lengths are in the file

    def build(self, entry: Entry, path: tuple[str, ...]) -> Layer:
        """Make the layer of an entry, or of a model's entries. ``path`` is where its params will be.

        Raises:
            FileError: the layer cannot be made; it is named.
        """
        if (factory := self._factory(entry)) is not None:
            return self._made(entry, factory)
        if entry.inside is None:
            with refused(self._source.path, f"layer {entry.stored!r}"):
                return self._leaf(entry, path)
        where = f"model {entry.stored!r}"
        with refused(self._source.path, where):
            graph = None if entry.ends is None else graph_config(entry)
            left_out = set() if graph is None else functional.mask_ops(graph["layers"])
        needed = [one for one in entry.inside if one.needed and not one.is_input and one.name not in left_out]
        made = {one.name: self.build(one, (*path, one.name)) for one in needed}
        with refused(self._source.path, where):
            options: dict[str, Any] = {"name": entry.name}
            if entry.config.get("trainable") is False:
                options["trainable"] = False
            if graph is not None:
                inputs, outputs = functional.read(graph, lambda config: made[config["name"]])
                return Model(inputs, outputs, **options)
            shape = next((found for one in entry.inside[:1] if (found := input_shape(one)) is not None), None)
            shape = entry.config.get("build_input_shape") if shape is None else shape
            if isinstance(shape, list):
                options["input_shape"] = tuple(shape[1:])
            return Sequential(list(made.values()), **options)

    def _factory(self, entry: Entry) -> Factory | None:
        names = (entry.stored, entry.registered, entry.class_name, entry.class_name.rpartition(">")[2])
        return next((self._custom[name] for name in names if name in self._custom), None)

    def _made(self, entry: Entry, factory: Factory) -> Layer:
        layer = factory(dict(entry.config))
        if not isinstance(layer, Layer):
            raise TypeError(
                f"custom_layers: the factory for layer {entry.stored!r} ({entry.class_name}) gave {layer!r}; "
                "it takes the config and gives a layer"
            )
        return dataclasses.replace(layer, name=entry.name)

    def _leaf(self, entry: Entry, path: tuple[str, ...]) -> Layer:
        kind = entry.class_name
        computes = kind in LAMBDAS or (entry.is_function and kind not in functional.MASK_OPS)
        key = entry.stored if computes else entry.registered or kind
        hint = f'give custom_layers={{"{key}": factory}}, or until= to stop at a layer before it'
        if kind == "Lambda":
            raise ValueError(f"it is a Lambda, whose code is in the file and is never run; {hint}")
        home = entry.module.partition(".")[0]
        if ">" in kind or (home and home not in (*dialects.HOMES, "builtins")):
            raise ValueError(
                f"its class {entry.registered or kind} of {home or 'its own'} is code outside Keras; {hint}"
            )
        if computes:
            function = entry.config.get("function", kind)
            raise ValueError(f"it is the function {function!a}, for which there is no layer here; {hint}")
        notes: list[str] = []
        try:
            today, options = translate(kind, entry.config, self._origin, notes)
        except Code as error:
            raise ValueError(f"{error}; {hint}") from None
        except ValueError as error:
            raise ValueError(f"{error}; {hint}" if "there is no layer" in str(error) else str(error)) from None
        self.notes += [f"{entry.stored}: {note}" for note in notes]
        if entry.name != entry.stored:
            self.notes.append(f"{entry.stored}: named {entry.name} here")
        options["name"] = entry.name
        if kind.startswith("Deconvolution") and (said := entry.config.get("output_shape")) is not None:
            self.told[path] = output_lengths(said, options["data_format"], int(kind[-2]))
        if today == "Normalization" and options.get("mean") is None:
            options |= self._moments(entry, path)
        if (inside := entry.wrapped) is not None:
            put_layers(inside)
            options["layer"] = self.build(inside, (*path, "layer"))
        if issubclass(layers[today], Container):  # Residual, Parallel: jaxconv's own, with layers inside
            return layers[today].from_config(options)
        return layers[today](**options)

    def _moments(self, entry: Entry, path: tuple[str, ...]) -> dict[str, Any]:
        """Read the mean and variance of an adapted Normalization, which are weights in Keras and options here."""
        store = self._source.store
        if weights.is_counted(store):
            root = _place(self._root, None, ())
            groups = {place.path: prefix for place, prefix in weights.addresses(store, root, "", False)}
            names = [f"{groups.get(path)}vars/{index}" for index in (0, 1)]
        else:
            top = next(one.stored for one in self._root.inside or () if one.name == path[0])
            above = f"model_weights/{top}/" if "model_weights" in store.groups else f"{top}/"
            parts = 1 if len(path) == 1 else 2
            ends = {tail(name, parts): name for name in store.tables if name.startswith(above)}
            names = [ends.get((entry.stored, what)[-parts:], "") for what in ("mean", "variance")]
        found = [store.tables.get(name) for name in names]
        if None in found:
            raise ValueError("its mean and variance are missing: they are neither in the config nor in the weights")
        mean, variance = (np.ravel(table.read()) for table in found if table is not None)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise ValueError("its mean or variance holds NaN or an infinity")
        scalar = entry.config.get("axis") in (None, [])
        return {"mean": mean[0] if scalar else mean, "variance": variance[0] if scalar else variance}


def _place(entry: Entry, layer: Layer | None, path: tuple[str, ...]) -> Place:
    """Give the place of an entry's layer, with all entries inside in the file's order."""
    base, children = snake_case(entry.class_name), {} if layer is None else layer.children
    wrapped = entry.wrapped if layer is None or "layer" in children else None
    if wrapped is not None and wrapped.inside is not None:
        model = _place(wrapped, children.get("layer"), (*path, "layer"))
        return model._replace(stored=entry.stored, base=base, below="layer/", shared=entry.shared)
    if entry.inside is None:
        return Place(entry.stored, base, layer, path, shared=entry.shared)
    inside = tuple(_place(one, children.get(one.name), (*path, one.name)) for one in entry.inside if not one.is_input)
    return Place(entry.stored, base, layer, path, inside, shared=entry.shared)
