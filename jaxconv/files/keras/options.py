"""Translation of one layer's config, from any version of Keras, to the options of a layer here."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jaxconv.layers
import jaxconv.models  # noqa: F401  with the line above: registers every layer
from jaxconv import activations
from jaxconv.contract import layers
from jaxconv.contract.options import TABLES
from jaxconv.files.errors import NoLayerError
from jaxconv.files.legacy import dialects, keras1
from jaxconv.files.legacy.dialects import Origin
from jaxconv.registry import nearest

Config = dict[str, Any]
_FUNCTIONS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "Softmax": "softmax"}  # that layers apply
_KERAS_1_FORMS = {"regularizer": keras1.regularizer, "constraint": keras1.constraint}
_ACTIVATIONS = {  # by the major version of Keras
    **dict.fromkeys((1, 2), dialects.ACTIVATIONS | dialects.ACTIVATIONS_BEFORE_3),
    3: dialects.ACTIVATIONS,
}


def plain_values(value: Any) -> Any:
    """Return a config value without the dicts that wrap values. Raises NoLayerError for a function stored as code."""
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get("class_name")
    if kind == "__tuple__":
        return [plain_values(item) for item in value.get("items", ())]
    if kind in ("__numpy__", "__tensor__"):
        return value["config"]["value"]
    if kind == "__lambda__" or value.get("function_type") == "lambda" or "__marshal__" in value:
        raise NoLayerError("it contains a function as marshalled code, which is never run")
    if set(value) <= {"type", "value", "dtype"} and value.get("type") == "ndarray":
        return value["value"]
    return {key: plain_values(item) for key, item in value.items()}


def translate(
    class_name: str, config: Mapping[str, Any], origin: Origin, custom: Mapping[str, Any], notes: list[str]
) -> tuple[str, Config]:
    """Return the current class and options for a layer's config.

    custom: from the name of an initializer, regularizer, constraint or activation to its replacement. notes: gets a
    line for each renaming or omission that is unusual in files of that version. Raises NoLayerError for an unknown
    class, or code; ValueError for an unknown key, or an option that no layer here has.
    """
    given, major = plain_values(dict(config)), origin.major
    if class_name == "Merge":
        class_name, given = keras1.merge_layer(given)
    if class_name == "RNN":
        class_name, given = _layer_of_cell(given)
    current = dialects.CLASSES.get(class_name, class_name)
    if current not in layers.names():
        hint = nearest(current, layers.names()).partition("valid:")[0].strip()
        raise NoLayerError(f"there is no layer {class_name!r} here{'; ' + hint if hint else ''}")
    if current != class_name and major > 1:
        notes.append(f"{class_name} is read as {current}")
    cls = layers[current]
    current = cls.__name__
    if major == 1:
        given = keras1.modernize(current, given, origin)
    renamed = dialects.RENAMED_KEYS.get(current, {})
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    options: Config = {}
    for key, value in given.items():
        name = renamed.get(key, key)
        if name in fields:
            options[name] = _value(name, value, fields[name].type, major, custom, notes)
        elif not _is_ignored(name, value, notes):
            raise ValueError(f"{class_name} has no option {name!r} (= {_short(value)}) here; {nearest(name, fields)}")
    if "data_format" in fields and options.get("data_format") is None and fields["data_format"].default is None:
        options["data_format"] = "channels_last"  # Keras's own default, not the one set in this process
    if current == "LeakyReLU" and major == 3 and "alpha" in config:
        notes.append("alpha is read as negative_slope")
    if current == "GRU" and major < 3:  # Keras 2.0 had only the first form, and cuDNN has the second
        options.setdefault("reset_after", class_name == "CuDNNGRU")
    options.pop("input_shape", None)
    return current, options


def _layer_of_cell(options: Config) -> tuple[str, Config]:
    """Return the class and the options of the layer that repeats the cell of an RNN."""
    cell = options.get("cell") or {}
    kind, own = cell.get("class_name"), cell.get("config") or {}
    if kind not in dialects.CELLS:
        raise NoLayerError(f"its cell is {_short(kind)}; expected {', '.join(dialects.CELLS)}")
    return dialects.CELLS[kind], {**own, **{key: value for key, value in options.items() if key != "cell"}}


def _is_ignored(key: str, value: Any, notes: list[str]) -> bool:
    """Return whether a key that the layer does not have may be left out, with a note if that is unusual."""
    if key in dialects.IGNORED_KEYS:
        return True
    if key in ("lora_rank", "lora_alpha"):
        if value is not None:
            notes.append(f"{key}={value} is left out: it is merged into the stored kernel")
        return True
    values = dialects.IGNORED_VALUES.get(key, ())
    if any((value == known and type(value) is not bool) or value is known for known in values):
        if value is not None:
            notes.append(f"{key}={value!r} is left out: it has no effect")
        return True
    if key in dialects.UNUSED_INITIALIZERS:
        notes.append(f"{key} is left out: the layer has no such weight")
        return True
    return False


def _value(key: str, value: Any, kind: Any, major: int, custom: Mapping[str, Any], notes: list[str]) -> Any:
    if key == "dtype":
        if isinstance(value, Mapping):
            if value.get("class_name") not in ("DTypePolicy", "Policy", "PolicyV1", "FloatDTypePolicy"):
                raise ValueError(
                    f"dtype policy {_short(value.get('class_name'))} is not supported; expected DTypePolicy"
                )
            value = (value.get("config") or {}).get("name")
        return dialects.POLICIES.get(value, value) if isinstance(value, str) else value
    if key.rpartition("_")[2] in TABLES and value is not None:
        return _object(key, value, major, custom, notes)
    if isinstance(value, float) and value.is_integer() and kind is int:
        return int(value)  # TF wrote filters as 6.0 if they were computed
    return bool(value) if kind is bool and type(value) is int and value in (0, 1) else value


def _object(option: str, value: Any, major: int, custom: Mapping[str, Any], notes: list[str]) -> Any:
    """Return an initializer, regularizer, constraint or activation: its current name or config, or the custom one."""
    ending = option.rpartition("_")[2]
    value = _KERAS_1_FORMS.get(ending, lambda value: None)(value) or value
    written = value if isinstance(value, Mapping) else {}
    if written.get("class_name") == "function":
        value = written.get("config")  # Keras's form of a bare function: its name
    name, config = (value, {}) if isinstance(value, str) else (written.get("class_name"), written.get("config") or {})
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ValueError(f"{option} {_short(value)} has no {'config' if isinstance(name, str) else 'class_name'}")
    for key in (name, str(written.get("registered_name")), name.rpartition(">")[2]):
        if key in custom:
            return _custom_object(key, custom[key], config, option, notes)
    renamed = {"initializer": dialects.INITIALIZERS, "activation": _ACTIVATIONS[min(major, 3)]}.get(ending, {})
    current, allowed = renamed.get(name, name), TABLES[ending].registry.names()
    is_of_keras = dialects.is_of_keras(written.get("module"))
    if ending == "activation" and is_of_keras and name in layers.names():
        return _layer_as_activation(name, config, major, custom, notes)
    if not is_of_keras or current not in allowed:
        instead = "" if ending == "activation" else ", or None in its place to leave it out"
        hint = "" if current in allowed else f"; {nearest(name, allowed)}"
        raise ValueError(
            f"{option} {_short(name)} is code outside Keras; give custom_objects={{{_short(name)}: its class or "
            f"function}}{instead}{hint}"
        )
    if ending == "activation" and not isinstance(value, str):
        raise ValueError(f"activation {_short(value)} is not supported; the name of one of Keras's is expected")
    if ending == "activation" and current != value:
        notes.append(f"activation {value} is read as {current}")
    if isinstance(value, str):
        return current
    ignored = dialects.IGNORED_INITIALIZER_KEYS if ending == "initializer" else ()
    return {"class_name": current, "config": {key: item for key, item in config.items() if key not in ignored}}


def _layer_as_activation(
    name: str, config: Mapping[str, Any], major: int, custom: Mapping[str, Any], notes: list[str]
) -> Any:
    """Return the function that a layer applies as the activation of another one, with the layer's options."""
    kind, options = translate(name, config, Origin(major), custom, notes)
    if kind == "Activation":
        return options["activation"]
    if kind == "Identity":
        return "linear"
    if kind not in _FUNCTIONS or options.get("axis", -1) != -1:
        raise ValueError(
            f"its activation is the layer {name}; only {', '.join(_FUNCTIONS)} without an axis can be activations of a "
            f'layer here; give custom_objects={{"{name}": a function}}'
        )
    function = activations.get(_FUNCTIONS[kind])
    fields = {field.name: field.default for field in dataclasses.fields(layers[kind])}
    parameters = [key for key in inspect.signature(function).parameters if key in fields and key != "axis"]
    own = {key: options.get(key, fields[key]) for key in parameters}
    defaults = {key: inspect.signature(function).parameters[key].default for key in own}
    return _FUNCTIONS[kind] if own == defaults else functools.partial(function, **own)


def _custom_object(name: str, given: Any, config: Mapping[str, Any], option: str, notes: list[str]) -> Any:
    if given is None and not option.endswith("activation"):
        notes.append(f"{option} {name} is left out, as custom_objects says")
        return None
    if not callable(given):
        raise TypeError(f"custom_objects has {given!r} for {option} {name!a}; give a class or a function")
    return given(**config) if isinstance(given, type) else given


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
