"""Conversion between the ``[model]`` section of a config and layers, and the shapes between the layers."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import jaxconv.layers  # noqa: F401  registers every layer
from jaxconv.app.data.bounds import machine_memory
from jaxconv.app.schema import ConfigError, Location, parameters, read_arguments
from jaxconv.contract import layers
from jaxconv.contract.policy import policy_name
from jaxconv.models import Sequential
from jaxconv.registry import nearest, plain

INSIDE = "inside"  # the key for a wrapper's argument ``layer``: in a table, ``layer`` is the class

_MAX_LAYERS = 10_000  # more take minutes to build and hours to compile


def build_model(table: Any, location: Location) -> Sequential:
    """Build the stack from ``{"layers": [{"layer": "Conv1D", "filters": 8, ...}, ...]}``. Raises ConfigError.

    A table inside a layer is a regularizer, constraint or initializer, ``{name = "max_norm", max_value = 2}``, or in
    Keras's form, ``{class_name = "MaxNorm", config = {max_value = 2}}``; with a key ``layer`` it is another layer.
    """
    if not isinstance(table, Mapping):
        raise location.error(None, table, "expected a table with the key 'layers'")
    for key, value in table.items():
        if key not in ("layers", "dtype"):
            raise location.error(key, value, f"unknown key; {nearest(key, ['dtype', 'file', 'import', 'layers'])}")
    try:
        dtype = policy_name(table.get("dtype"), "model")
    except ValueError as error:
        raise location.error("dtype", table["dtype"], str(error)) from None
    tables = table.get("layers")
    if not isinstance(tables, list) or not tables:
        raise location.missing("layers", "expected [[model.layers]] tables, such as: layer = 'Dense', units = 2")
    count = _count_layers(tables)
    if count > _MAX_LAYERS:
        raise location.error("layers", f"{count} layers", f"expected at most {_MAX_LAYERS}")
    stack = [build_layer(entry, location / "layers" / i) for i, entry in enumerate(tables)]
    try:
        return Sequential(stack, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{location.file}: {location.path}.layers: {error}") from None


def build_layer(table: Any, location: Location) -> Any:
    """Build one layer from its table: the key ``layer`` is the class, the other keys are its arguments."""
    if not isinstance(table, Mapping):
        raise location.error(None, table, "expected a table, such as: layer = 'Dense', units = 2")
    if "layer" not in table:
        raise location.missing("layer", f"it is the class; {nearest('', _class_names())}")
    kind = table["layer"]
    if not isinstance(kind, str) or kind not in layers.names():
        raise location.error("layer", kind, f"there is no such layer; {nearest(str(kind), _class_names())}")
    given = {key: value for key, value in table.items() if key != "layer"}
    allowed = parameters(layers[kind])
    if "layer" in allowed and INSIDE in given:
        given["layer"] = given.pop(INSIDE)
    required = [name for name, parameter in allowed.items() if parameter.default is parameter.empty]
    if "layer" in required and "layer" not in given:
        raise location.missing(INSIDE, f"{kind} needs a layer")
    read_arguments(given, layers[kind], location, user=kind)
    arguments = {key: _argument(value, location / key) for key, value in given.items()}
    try:
        return _make(kind, arguments)
    except (ValueError, TypeError) as error:
        raise _construction_error(kind, given, arguments, required, error, location) from None


def _count_layers(tables: list[Any]) -> int:
    """Return the number of layer tables, including those inside others."""
    count, remaining = 0, list(tables)
    while remaining:
        value = remaining.pop()
        count += isinstance(value, Mapping) and "layer" in value
        remaining += value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return count


def _class_names() -> list[str]:
    """Return the class names of the layers; snake_case is accepted, but not listed."""
    return [name for name in layers.names() if name[0].isupper()]


def _make(kind: str, arguments: Mapping[str, Any]) -> Any:
    return layers.get({"class_name": kind, "config": dict(arguments)})


def _construction_error(
    kind: str,
    given: Mapping[str, Any],
    arguments: Mapping[str, Any],
    required: Sequence[str],
    error: Exception,
    location: Location,
) -> ConfigError:
    """Return the error for a layer that cannot be built, at the argument without which it can be."""
    causes = []
    for key in given:
        if key not in required:
            try:
                _make(kind, {name: value for name, value in arguments.items() if name != key})
            except (ValueError, TypeError):
                continue
            causes.append(key)
    if not causes:
        causes = [key for key in given if re.search(rf"\b{key}\b", str(error))]
    if len(causes) == 1:
        return location.nested_error(causes[0], given[causes[0]], str(error))
    return location.error(None, {"layer": kind, **{key: given[key] for key in causes or given}}, str(error))


def _argument(value: Any, location: Location) -> Any:
    """Return a layer's argument: for a table, Keras's config dict, or a layer if it has the key ``layer``."""
    if isinstance(value, list):
        return [_argument(item, location / i) for i, item in enumerate(value)]
    if not isinstance(value, Mapping) or "class_name" in value:
        return value
    if "layer" in value:
        return build_layer(value, location)
    if not isinstance(value.get("name"), str):
        raise location.error(None, value, 'expected a table with a name, such as {name = "max_norm", max_value = 2}')
    return {"class_name": value["name"], "config": {key: item for key, item in value.items() if key != "name"}}


def layer_table(layer: Any) -> dict[str, Any]:
    """Return the table of a layer with every argument, as ``build_layer`` accepts it, without those that are None."""
    return _table(type(layer).__name__, _short_form(plain(layer.get_config())))


def _table(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if "layer" in arguments:
        arguments[INSIDE] = arguments.pop("layer")
    return {"layer": kind, **arguments}


def _short_form(value: Any) -> Any:
    """Return a config value in the short form of a table, without nulls."""
    if isinstance(value, list):
        return [_short_form(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    config = value.get("config")
    if "class_name" in value and isinstance(config, Mapping):
        arguments = _short_form(config)
        if value.get("module") == layers.module:
            return _table(value["class_name"], arguments)
        if "name" not in arguments:
            return {"name": value["class_name"], **arguments} if arguments else value["class_name"]
    return {key: _short_form(item) for key, item in value.items() if item is not None}


def layer_output_shapes(model: Any, shape: tuple[int | None, ...], location: Location) -> list[tuple[int | None, ...]]:
    """Return the output shape of each layer for inputs of ``shape``, with the batch axis; nothing is computed.

    Raises ConfigError if a layer does not accept its input shape, or needs more memory than this machine has.
    """
    shapes = []
    memory, used = machine_memory(), 0
    for i, (name, layer) in enumerate(zip(model.names, model.layers, strict=True)):
        try:
            layer.output_shape((None, *shape[1:]))  # so that an error does not contain the batch size
            output_shape = layer.output_shape(shape)
            params = jax.eval_shape(functools.partial(layer.init_params, input_shape=shape), jax.random.key(0))
            used += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
            output = math.prod(size or 1 for size in output_shape) if isinstance(output_shape, tuple) else 0
            needed = max(used, 4 * output)
            if needed > memory:
                sizes = f"{needed / 1e9:,.0f} GB; this machine has {memory / 1e9:,.0f} GB"
                raise ValueError(f"the weights up to here and the output of shape {output_shape} need {sizes}")
        except (ValueError, TypeError, OverflowError) as error:
            where, shown = (location / "layers" / i).path, (None, *shape[1:])
            raise ConfigError(f"{location.file}: {where} ({name}), given shape {shown}: {error}") from None
        shapes.append(output_shape)
        shape = output_shape
    return shapes
