"""One layer's config in any of Keras's dialects as the options of a layer here.

Knows the table of layers and the tables of ``legacy``; nothing of graphs, weights or files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jaxconv.layers
import jaxconv.models  # noqa: F401  with the line above: registers every layer
from jaxconv.contract import layers
from jaxconv.contract.options import TABLES
from jaxconv.files.errors import NoLayerError
from jaxconv.files.legacy import dialects, keras1
from jaxconv.files.legacy.dialects import Origin
from jaxconv.registry import nearest

Config = dict[str, Any]


def plain_values(value: Any) -> Any:
    """Return a config value without the dicts that wrap values: ``__tuple__``, ``__numpy__`` and TF's ``ndarray``.

    Raises:
        NoLayerError: it holds a function as code.
    """
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
        raise NoLayerError("it holds a function as marshalled code, which is never run")
    if set(value) <= {"type", "value", "dtype"} and value.get("type") == "ndarray":
        return value["value"]
    return {key: plain_values(item) for key, item in value.items()}


def translate(class_name: str, config: Mapping[str, Any], origin: Origin, notes: list[str]) -> tuple[str, Config]:
    """Return the current class and options for a layer's config.

    Args:
        class_name, config: as in the file.
        origin: who wrote the file.
        notes: gets a line for each thing that was renamed or left out and is not usual in files of that version.

    Raises:
        NoLayerError: an unknown class, or code.
        ValueError: an unknown key, or an option that no layer here has.
    """
    given, major = plain_values(dict(config)), origin.major
    if class_name == "Merge":
        class_name, given = keras1.merge_layer(given)
    current = dialects.CLASSES.get(class_name, class_name)
    if current in dialects.RECURRENT:
        raise NoLayerError(f"there is no layer {class_name!r} here: recurrent layers are not supported")
    if current not in layers.names():
        hint = nearest(current, layers.names()).partition("legal:")[0].strip()
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
            options[name] = _value(name, value, fields[name].type, major, notes)
        elif not _is_ignored(name, value, notes):
            raise ValueError(f"{class_name} has no option {name!r} (= {_short(value)}) here; {nearest(name, fields)}")
    if "data_format" in fields and options.get("data_format") is None and fields["data_format"].default is None:
        options["data_format"] = "channels_last"  # Keras's own default, not the one set in this process
    if current == "LeakyReLU" and major == 3 and "alpha" in config:
        notes.append("alpha is read as negative_slope")
    options.pop("input_shape", None)
    return current, options


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


def _value(key: str, value: Any, kind: Any, major: int, notes: list[str]) -> Any:
    ending = key.rpartition("_")[2]
    if key == "dtype":
        return _policy(value)
    if ending in TABLES and value is not None:
        if ending == "initializer":
            return _initializer(value)
        if ending in ("regularizer", "constraint"):
            old = (keras1.regularizer if ending == "regularizer" else keras1.constraint)(value)
            return value if isinstance(value, str) else old or _class_and_config(value, ending)
        return _activation(value, major, notes)
    if isinstance(value, float) and value.is_integer() and kind is int:
        return int(value)  # TF wrote filters as 6.0 if they were computed
    return bool(value) if kind is bool and type(value) is int and value in (0, 1) else value


def _policy(value: Any) -> Any:
    name = value
    if isinstance(value, Mapping):
        if value.get("class_name") not in ("DTypePolicy", "Policy", "PolicyV1", "FloatDTypePolicy"):
            raise ValueError(f"dtype policy {_short(value.get('class_name'))} is not supported; legal: DTypePolicy")
        name = (value.get("config") or {}).get("name")
    return dialects.POLICIES.get(name, name) if isinstance(name, str) else name


def _initializer(value: Any) -> Any:
    if isinstance(value, str):
        return dialects.INITIALIZERS.get(value, value)
    found = _class_and_config(value, "initializer")
    name, config = found["class_name"], found["config"]
    config = {key: item for key, item in config.items() if key not in dialects.IGNORED_INITIALIZER_KEYS}
    return {"class_name": dialects.INITIALIZERS.get(name, name), "config": config}


def _activation(value: Any, major: int, notes: list[str]) -> Any:
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")  # Keras's form of a bare function: its name
    if not isinstance(value, str):
        raise ValueError(f"activation {_short(value)} is not supported; the name of one of Keras's is expected")
    current = dialects.ACTIVATIONS.get(value, value)
    if major < 3:
        current = dialects.ACTIVATIONS_BEFORE_3.get(current, current)
    if current != value:
        notes.append(f"activation {value} is read as {current}")
    return current


def _class_and_config(value: Any, what: str) -> Config:
    if not isinstance(value, Mapping) or not isinstance(value.get("class_name"), str):
        raise ValueError(f"{what} {_short(value)} has no class_name")
    config = value.get("config") or {}
    if not isinstance(config, Mapping):
        raise ValueError(f"{what} {_short(value)} has no config")
    return {"class_name": value["class_name"], "config": dict(config)}


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
