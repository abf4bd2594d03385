"""Construction of ``(layer, params)`` from an open Keras file of any version. No code in a file is ever run.

Combines the tree of the config, the options of each layer and the weights, which are read by separate modules.
"""

import dataclasses
import functools
import re
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.contract import Layer, Params, layers, param_shapes
from jaxconv.files.errors import FileError, NoLayerError, damaged, refused
from jaxconv.files.hdf5 import NoStore, Store, folders_of
from jaxconv.files.input_shapes import fits, misfit
from jaxconv.files.keras import numbered
from jaxconv.files.keras.config import Entry, cut, graph_config, last_before, read_model_config
from jaxconv.files.keras.functions import described, is_function, replace_functions
from jaxconv.files.keras.layout import Leaf
from jaxconv.files.keras.options import plain_values, translate
from jaxconv.files.keras.stored_layer import Match, StoredLayer, leaves_of, without_file
from jaxconv.files.keras.weights import check_finite, copy_shared, match_weights, read_weights
from jaxconv.files.leaves import nested
from jaxconv.files.legacy import deconvolution, hdf5_weights
from jaxconv.files.legacy.dialects import IGNORED_KEYS, Origin, is_of_keras
from jaxconv.models import Model, Sequential, functional
from jaxconv.models.container import Container
from jaxconv.registry import snake_case

_KERAS_1_WEIGHT = re.compile(r"_W(:\d+)?$")  # Keras 1 wrote no version into files of weights
Factory = Callable[[dict[str, Any]], Layer]


class Custom(NamedTuple):
    """Replacements for classes outside Keras, by name: layer factories, and initializers, regularizers and so on."""

    layers: Mapping[Any, Factory]
    objects: Mapping[str, Any]


class Read(NamedTuple):
    """A model from a file.

    layer, params: the model. format: the kind of file. version: Keras's, if the file has it.
    notes: what was unusual in the file: options left out, things renamed, weights in another type.
    input_shape: batch first, a structure of shapes for several inputs; None if it is unknown.
    about: as given to :func:`jaxconv.save_model`; empty for files that Keras wrote.
    """

    layer: Layer
    params: Params
    format: str
    version: str | None
    notes: tuple[str, ...]
    input_shape: Any
    about: dict[str, Any]


class Source(NamedTuple):
    """An open Keras file: its config, its weights, and the facts about its writer.

    own: the metadata that jaxconv added to a file that it wrote.
    """

    path: Any
    config: Any
    store: Store
    format: str
    version: str | None = None
    backend: str | None = None
    own: Mapping[str, Any] = types.MappingProxyType({})

    @property
    def origin(self) -> Origin:
        """Return the writer of the file, inferred from the form of its config and weights if it has no version."""
        text, first = str(self.config), (self.version or "").partition(".")[0]
        if first.isdecimal() and len(first) < 4:
            major = max(1, int(first))
        elif re.search("'(border_mode|output_dim)'", text) or any(map(_KERAS_1_WEIGHT.search, self.store.tables)):
            major = 1
        else:
            major = 3 if "'registered_name'" in text else 2
        return Origin(major, self.backend, frozenset(re.findall("'dim_ordering': '(th|tf)'", text)))


def read_keras(source: Source, custom: Custom, until: str | None) -> Read:
    """Build the model and read its weights.

    Raises FileError with the name of the layer; TypeError for a factory in ``custom.layers`` that returns no layer.
    """
    with refused(source.path, "its config"):
        root = read_model_config(source.config)
        replace_functions(root)
        if until is not None:
            cut(root, until)
    builder = _Builder(source, root, custom)
    layer = builder.build(root, ())
    with refused(source.path, "its model"):
        shape = layer.known_input_shape if builder.output_lengths else None
        if shape is not None:
            deconvolution.check_output_lengths(layer, shape, builder.output_lengths)
    params = _params(source, root, layer, builder)
    if source.own.get("alone") is True and len(layer.children) == 1:  # written for a layer that is not a model
        ((name, layer),) = layer.children.items()
        params = params.get(name, {})
    about = source.own.get("about")
    return Read(
        layer,
        params,
        source.format,
        source.version,
        tuple(dict.fromkeys(builder.notes)),
        _input_shape(source, layer, params),
        about if isinstance(about, dict) else {},
    )


def _params(source: Source, root: Entry, layer: Layer, builder: "_Builder") -> Params:
    """Read the params of a model, or their shapes and types if the file has no weights."""
    store = source.store
    if isinstance(store, NoStore):
        return _expected_params(source.path, layer, None)
    with damaged(source.path, "the record of its weights"):
        stored = _stored_layer(root, layer, (), builder.replaced)
        found = match_weights(store, stored, by_name=None, strict=True)
        builder.notes += copy_shared(stored, found)
        expected = _expected_params(source.path, layer, found)
        return read_weights(store, found, expected, None, source.origin, builder.notes)


def _input_shape(source: Source, layer: Layer, params: Params) -> Any:
    """Return the input shape that jaxconv stored with the model, or else the layer's own."""
    own, stored = layer.known_input_shape, source.own.get("input_shape")
    if stored is None:
        return own
    with refused(source.path, "metadata.json: input_shape"):
        shape = layer.read_shape(stored)
        if shape != own and not fits(layer, params, shape):
            raise ValueError(f"input of shape {shape} does not fit the layer's weights")
    return shape


def _expected_params(path: Any, layer: Layer, found: Mapping[Leaf, Match] | None) -> Params:
    """Return the shapes and types of the params that a layer has for its own input.

    If the input's shape is not in the file, the shapes in the file are used, provided that each layer can have them for
    some input. Whether one layer fits the next is then checked when they are called. found: None for a file without
    weights.
    """
    with refused(path, "its model"):
        shape = layer.known_input_shape
        if shape is not None:
            return param_shapes(layer, shape)
        if found is None:
            raise ValueError("the file has no input shape; give the file of its weights: weights=...")
    missing = [leaf for leaf, _ in leaves_of(without_file(layer)) if leaf not in found]
    if missing:
        raise FileError(f"{path}: weight {'/'.join(missing[0])} is missing")
    by_layer: dict[Leaf, dict[str, Match]] = {}
    for leaf, match in found.items():
        by_layer.setdefault(leaf[:-1], {})[leaf[-1]] = match
    for place, matches in by_layer.items():
        shapes = {name: tuple(match.table.shape) for name, match in matches.items()}
        if (wrong := misfit(next(iter(matches.values())).layer, shapes)) is not None:
            name, needed = wrong
            full = "/".join((*place, name))
            raise FileError(f"{path}: weight {full} has shape {shapes[name]} in the file; its layer needs {needed}")
    return nested(
        {
            "/".join(leaf): jax.ShapeDtypeStruct(match.table.shape, match.layer.policy.variable)
            for leaf, match in found.items()
        }
    )


class _Builder:
    """Builds layers from entries, and collects notes on what was unusual about them.

    output_lengths: the output lengths that the file declares, by the path of the layer. replaced: the paths of custom
    layers.
    """

    def __init__(self, source: Source, root: Entry, custom: Custom):
        self._source, self._root, self._custom = source, root, custom
        self._origin = source.origin
        self.notes: list[str] = []
        self.output_lengths: dict[Leaf, tuple[int, ...]] = {}
        self.replaced: set[Leaf] = set()

    def build(self, entry: Entry, path: Leaf) -> Layer:
        """Return the layer of an entry, whose params will be at ``path``. Raises FileError, which names the layer."""
        if (factory := self._factory(entry)) is not None:
            self.replaced.add(path)
            return self._custom_layer(entry, factory)
        if entry.layers is None:
            with refused(self._source.path, f"layer {entry.stored_name!r}"):
                return self._layer(entry, path)
        where = f"model {entry.stored_name!r}"
        with refused(self._source.path, where):
            graph = None if entry.ends is None else graph_config(entry)
            mask_ops = set() if graph is None else functional.mask_ops(graph["layers"], graph["output_layers"])
        needed = [one for one in entry.layers if one.needed and not one.is_input and one.name not in mask_ops]
        built = {one.name: self.build(one, (*path, one.name)) for one in needed}
        with refused(self._source.path, where):
            options: dict[str, Any] = {"name": entry.name}
            if entry.config.get("trainable") is False:
                options["trainable"] = False
            if graph is not None:
                inputs, outputs = functional.read(graph, lambda config: built[config["name"]])
                return Model(inputs, outputs, **options)
            shape = entry.layers[0].input_shape if entry.layers else None
            shape = entry.config.get("build_input_shape") if shape is None else shape
            if isinstance(shape, list):
                options["input_shape"] = tuple(shape[1:])
            return Sequential(list(built.values()), **options)

    def _factory(self, entry: Entry) -> Factory | None:
        names = (entry.stored_name, entry.registered_name, entry.class_name, entry.class_name.rpartition(">")[2])
        return next((self._custom.layers[name] for name in names if name in self._custom.layers), None)

    def _custom_layer(self, entry: Entry, factory: Factory) -> Layer:
        if isinstance(factory, type):
            with refused(self._source.path, f"layer {entry.stored_name!r}"):
                layer = _from_class(factory, entry.config)
        else:
            layer = factory(dict(entry.config))
        if not isinstance(layer, Layer):
            raise TypeError(
                f"custom_layers: the factory for layer {entry.stored_name!r} ({entry.class_name}) returned {layer!r}; "
                "a factory takes the config and returns a layer"
            )
        return dataclasses.replace(layer, name=entry.name)

    def _layer(self, entry: Entry, path: Leaf) -> Layer:
        kind, notes = entry.class_name, list[str]()
        try:
            _check_is_known(entry)
            current, options = translate(kind, entry.config, self._origin, self._custom.objects, notes)
        except NoLayerError as error:
            key = entry.stored_name if is_function(entry) else entry.registered_name or kind
            hint = f'give custom_layers={{"{key}": its class or a factory}}{self._until_hint()}'
            raise ValueError(f"{error}; {hint}") from None
        self.notes += [f"{entry.stored_name}: {note}" for note in notes]
        if entry.name != entry.stored_name:
            self.notes.append(f"{entry.stored_name}: named {entry.name} here")
        options |= functional.call_options(layers[current], entry.calls) | {"name": entry.name}
        if kind.startswith("Deconvolution") and (shape := entry.config.get("output_shape")) is not None:
            lengths = deconvolution.output_lengths(shape, options["data_format"], int(kind[-2]))
            self.output_lengths[path] = lengths
        if current == "Normalization" and options.get("mean") is None:
            options |= self._moments(entry, path)
        for option in ("layer", "backward_layer"):
            if (inside := entry.held(option)) is not None:
                replace_functions(inside)
                options[option] = self.build(inside, (*path, option))
        if issubclass(layers[current], Container):  # Residual, Parallel: jaxconv's own, with layers inside
            return layers[current].from_config(options)
        return layers[current](**options)

    def _until_hint(self) -> str:
        """Return the end of a message: the last layer of the model that can be built with all its inputs."""

        def is_refused(entry: Entry) -> bool:
            if self._factory(entry) is not None:
                return False
            try:
                if entry.layers is None:
                    _check_is_known(entry)
                    translate(entry.class_name, entry.config, self._origin, self._custom.objects, [])
                inside = entry.layers or [one for one in (entry.wrapped,) if one is not None]
                return any(is_refused(one) for one in inside if not one.is_input)
            except (ValueError, TypeError):
                return True

        last = last_before(self._root, is_refused)
        return "" if last is None else f", or until={last!r} for the model up to that layer"

    def _moments(self, entry: Entry, path: Leaf) -> dict[str, Any]:
        """Read the mean and variance of an adapted Normalization, which are weights in Keras and options here."""
        store = self._source.store
        if numbered.is_numbered(store):
            names = [f"{self._group_prefixes.get(path)}vars/{index}" for index in (0, 1)]
        else:
            parts = 1 if len(path) == 1 else 2
            ends = self._name_ends.get((path[0], parts), {})
            names = [ends.get((entry.stored_name, what)[-parts:], "") for what in ("mean", "variance")]
        tables = [store.tables.get(name) for name in names]
        if None in tables:
            raise ValueError("its mean and variance are missing: they are neither in the config nor in the weights")
        mean, variance = (np.ravel(table.read()) for table in tables if table is not None)
        for name, value in (("mean", mean), ("variance", variance)):
            check_finite(f"{self._source.path}: layer {entry.stored_name!r}: its {name}", value)
        scalar = entry.config.get("axis") in (None, [])
        return {"mean": mean[0] if scalar else mean, "variance": variance[0] if scalar else variance}

    @functools.cached_property
    def _group_prefixes(self) -> dict[Leaf, str]:
        """Return the group of each layer in Keras 3's layout, by the path of its params."""
        root = _stored_layer(self._root, None, (), set())
        return {stored.path: prefix for stored, prefix in numbered.group_prefixes(self._source.store, root)}

    @functools.cached_property
    def _name_ends(self) -> dict[tuple[str, int], dict[Leaf, str]]:
        """Return the tables of each layer in Keras 2's layout, by the last one or two parts of their names."""
        top, found = hdf5_weights.top_group(self._source.store), dict[tuple[str, int], dict[Leaf, str]]()
        names = {f"{top}{one.stored_name}/": one.name for one in self._root.layers or ()}
        for table in self._source.store.tables:
            owner = next((names[folder] for folder in folders_of(table) if folder in names), "")
            for parts in (1, 2):
                found.setdefault((owner, parts), {})[hdf5_weights.name_end(table, parts)] = table
        return found


def _from_class(cls: Any, config: Mapping[str, Any]) -> Any:
    """Build a custom layer from its config in a file, without the keys that Keras adds to every config."""
    known = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    given = plain_values({key: value for key, value in config.items() if key in known or key not in IGNORED_KEYS})
    return cls.from_config(given) if hasattr(cls, "from_config") else cls(**given)


def _check_is_known(entry: Entry) -> None:
    """Check that a layer's class is one of Keras's or jaxconv's. Raises NoLayerError."""
    kind = entry.class_name
    if kind == "Lambda":
        raise NoLayerError("it is a Lambda, whose code is in the file and is never run")
    if ">" in kind or not is_of_keras(entry.module):
        home = entry.module.partition(".")[0] or "its own package"
        raise NoLayerError(f"its class {entry.registered_name or kind} of {home} is code outside Keras")
    if is_function(entry):
        raise NoLayerError(f"it is the function {described(entry)}, for which no layer exists here")


def _stored_layer(entry: Entry, layer: Layer | None, path: Leaf, replaced: Collection[Leaf]) -> StoredLayer:
    """Return the record of an entry's layer, with all nested entries in the file's order."""
    base, children = snake_case(entry.class_name), {} if layer is None else layer.children
    if path in replaced:
        return StoredLayer(entry.stored_name, base, layer, path, replaced=True)
    wrapped = entry.wrapped if layer is None or "layer" in children else None
    if wrapped is not None and wrapped.layers is not None:
        model = _stored_layer(wrapped, children.get("layer"), (*path, "layer"), replaced)
        return model._replace(name=entry.stored_name, base=base, below="layer/", shared_id=entry.shared_id)
    inside = None
    if entry.layers is not None:
        named = [one for one in entry.layers if not one.is_input]
        inside = tuple(_stored_layer(one, children.get(one.name), (*path, one.name), replaced) for one in named)
    return StoredLayer(entry.stored_name, base, layer, path, inside, shared_id=entry.shared_id)
