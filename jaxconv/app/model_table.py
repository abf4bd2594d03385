"""The ``[model]`` section of a config: tables to layers, layers to tables, and shapes through the stack.

Knows layers by the registry and the contract alone: their names, their arguments, ``output_shape``.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import jaxconv.layers  # noqa: F401  enters every layer in the table
from jaxconv.app.schema import ConfigError, Mismatch, Place, fit_value, one_line, parameters
from jaxconv.contract import layers
from jaxconv.models import Sequential
from jaxconv.registry import nearest, plain

INSIDE = "inside"  # the key of a wrapper's own argument ``layer``, whose name says the kind of every table


def build_model(table: Any, place: Place) -> Sequential:
    """Build the stack from ``{"layers": [{"layer": "Conv1D", "filters": 8, ...}, ...]}``.

    A table inside a layer is a regularizer, constraint or initializer, ``{name = "max_norm", max_value = 2}``, or in
    Keras's form, ``{class_name = "MaxNorm", config = {max_value = 2}}``; with a key ``layer`` it is a layer again.

    Raises:
        ConfigError: names the first layer and argument that is wrong.
    """
    if not isinstance(table, Mapping):
        raise place.error(None, table, "expected a table with the key 'layers'")
    for key, value in table.items():
        if key != "layers":
            raise place.error(key, value, f"unknown key; {nearest(key, ['layers'])}")
    tables = table.get("layers")
    if not isinstance(tables, list) or not tables:
        raise place.missing(
            "layers", "expected at least one [[model.layers]] table, such as: layer = 'Dense', units = 2"
        )
    stack = [build_layer(entry, place / "layers" / i) for i, entry in enumerate(tables)]
    try:
        return Sequential(stack)
    except (ValueError, TypeError) as error:
        raise ConfigError(one_line(f"{place.file}: {place.path}.layers: {error}")) from None


def build_layer(table: Any, place: Place) -> Any:
    """Build one layer from its table: the key ``layer`` names the class, the others are its arguments."""
    if not isinstance(table, Mapping):
        raise place.error(None, table, "expected a table, such as: layer = 'Dense', units = 2")
    if "layer" not in table:
        raise place.missing("layer", f"it names the kind; {nearest('', _kinds())}")
    kind = table["layer"]
    if not isinstance(kind, str) or kind not in layers.names():
        raise place.error("layer", kind, f"there is no such layer; {nearest(str(kind), _kinds())}")
    given = {key: value for key, value in table.items() if key != "layer"}
    fields = {field.name: field for field in dataclasses.fields(layers[kind]) if field.init}
    if "layer" in fields and INSIDE in given:
        given["layer"] = given.pop(INSIDE)
    hints = parameters(layers[kind])
    for key, value in given.items():
        if key not in fields:
            raise place.error(key, value, f"{kind} has no such argument; {nearest(key, fields)}")
        try:
            fit_value(value, hints[key].annotation)
        except Mismatch as mismatch:
            raise place.error(key, value, str(mismatch)) from None
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    for name in required:
        if name not in given:
            raise place.missing(INSIDE if name == "layer" else name, f"{kind} needs it")
    arguments = {key: _identifier(value, place / key) for key, value in given.items()}
    try:
        return _make(kind, arguments)
    except (ValueError, TypeError) as error:
        raise _blame(kind, given, arguments, required, error, place) from None


def _kinds() -> list[str]:
    """List the layers by the names of their classes; snake_case is understood, but not advertised."""
    return [name for name in layers.names() if name[0].isupper()]


def _make(kind: str, arguments: Mapping[str, Any]) -> Any:
    return layers.get({"class_name": kind, "config": dict(arguments)})


def _blame(
    kind: str,
    given: Mapping[str, Any],
    arguments: Mapping[str, Any],
    required: Sequence[str],
    error: Exception,
    place: Place,
) -> ConfigError:
    """Word the error of a layer that cannot be built: find the argument without which it could be."""
    culprits = []
    for key in given:
        if key not in required:
            try:
                _make(kind, {name: value for name, value in arguments.items() if name != key})
            except (ValueError, TypeError):
                continue
            culprits.append(key)
    if not culprits:
        culprits = [key for key in given if re.search(rf"\b{key}\b", str(error))]
    if len(culprits) == 1:
        return place.blame(culprits[0], given[culprits[0]], str(error))
    return place.error(None, {"layer": kind, **{key: given[key] for key in culprits or given}}, str(error))


def _identifier(value: Any, place: Place) -> Any:
    """Give the form a layer's argument takes: Keras's config dict for a table, a layer for a table with ``layer``."""
    if isinstance(value, list):
        return [_identifier(item, place / i) for i, item in enumerate(value)]
    if not isinstance(value, Mapping) or "class_name" in value:
        return value
    if "layer" in value:
        return build_layer(value, place)
    if not isinstance(value.get("name"), str):
        raise place.error(None, value, 'expected a table with a name, such as {name = "max_norm", max_value = 2}')
    return {"class_name": value["name"], "config": {key: item for key, item in value.items() if key != "name"}}


def layer_table(layer: Any) -> dict[str, Any]:
    """Give the table of a layer with every argument written out; ``build_layer`` reads it back.

    TOML has no null: an argument that is None is left out, which means the same, since None is its default.
    """
    return _table(type(layer).__name__, _written(plain(layer.get_config())))


def _table(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if "layer" in arguments:
        arguments[INSIDE] = arguments.pop("layer")
    return {"layer": kind, **arguments}


def _written(value: Any) -> Any:
    """Give a config value in the short form of a table, without nulls."""
    if isinstance(value, list):
        return [_written(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    config = value.get("config")
    if "class_name" in value and isinstance(config, Mapping):
        written = _written(config)
        if value.get("module") == layers.module:
            return _table(value["class_name"], written)
        if "name" not in written:
            return {"name": value["class_name"], **written} if written else value["class_name"]
    return {key: _written(item) for key, item in value.items() if item is not None}


def trace_shapes(model: Any, shape: tuple[int | None, ...], place: Place) -> list[tuple[int | None, ...]]:
    """Give the output shape of each layer for inputs of ``shape`` (batch axis included); nothing is computed.

    Raises:
        ConfigError: names the layer that refuses the shape it is given, or whose weights cannot be made for it.
    """
    shapes = []
    for i, (name, layer) in enumerate(zip(model.names, model.layers, strict=True)):
        try:
            after = layer.output_shape(shape)
            jax.eval_shape(functools.partial(layer.init_params, input_shape=shape), jax.random.key(0))
        except (ValueError, TypeError, OverflowError) as error:
            here = place / "layers" / i
            raise ConfigError(
                one_line(f"{here.file}: {here.path} ({name}), given the shape {shape}: {error}")
            ) from None
        shapes.append(after)
        shape = after
    return shapes
