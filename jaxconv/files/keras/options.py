"""One layer's config in any of Keras's dialects, as options that the layer here takes.

Knows the table of layers and the tables of ``dialects``; nothing of graphs, weights or files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jaxconv.layers
import jaxconv.models  # noqa: F401  with the line above: enters every layer in the table
from jaxconv.contract import layers
from jaxconv.contract.options import TABLES
from jaxconv.files.legacy import dialects
from jaxconv.files.legacy.deconvolution import output_lengths, padding_for
from jaxconv.files.legacy.kernels import Origin
from jaxconv.registry import nearest

Config = dict[str, Any]


class Code(ValueError):
    """The config holds code, or names a function that is not in it."""


def plain_values(value: Any) -> Any:
    """Give a config value without Keras's envelopes: ``__tuple__``, ``__numpy__`` and TF's ``ndarray``."""
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
        raise Code("it holds a function as marshalled code, which is never run")
    if set(value) <= {"type", "value", "dtype"} and value.get("type") == "ndarray":
        return value["value"]
    return {key: plain_values(item) for key, item in value.items()}


def translate(class_name: str, config: Mapping[str, Any], origin: Origin, notes: list[str]) -> tuple[str, Config]:
    """Give today's class and options for a layer's config.

    Args:
        class_name, config: as the file has them.
        origin: who wrote the file.
        notes: gets a line for each thing that was renamed or left out and is not there in every file of its kind.

    Raises:
        Code: the config holds code.
        ValueError: a class or a key that is not known here, or one that says something no layer here does.
    """
    given, major = plain_values(dict(config)), origin.major
    if class_name == "Merge":
        class_name, given = _merge(given)
    today = dialects.CLASSES.get(class_name, class_name)
    if today in dialects.RECURRENT:
        raise ValueError(f"{class_name} is recurrent, and there is no layer of that kind here")
    if today not in layers.names():
        hint = nearest(today, layers.names()).partition("legal:")[0].strip()
        raise ValueError(f"there is no layer {class_name!r} here{'; ' + hint if hint else ''}")
    if today != class_name and major > 1:
        notes.append(f"{class_name} is read as {today}")
    cls = layers[today]
    own = cls.__name__
    if major == 1:
        given = _from_keras_1(own, given, origin)
    given = _renamed(given, dialects.RENAMED.get(own, {}))
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    options: Config = {}
    for key, value in given.items():
        if key in fields:
            options[key] = _value(key, value, fields[key].type, major, notes)
        elif not _says_nothing(key, value, notes):
            raise ValueError(f"{class_name} has no option {key!r} (= {_short(value)}) here; {nearest(key, fields)}")
    if "data_format" in fields and options.get("data_format") is None and fields["data_format"].default is None:
        options["data_format"] = "channels_last"  # Keras's own default, whatever is set in this process
    if own == "LeakyReLU" and major == 3 and "alpha" in config:
        notes.append("alpha is read as negative_slope")
    options.pop("input_shape", None)
    return today, options


def _says_nothing(key: str, value: Any, notes: list[str]) -> bool:
    """Tell whether a key that the layer does not have may be left out; note it where it is a surprise."""
    if key in dialects.MEANINGLESS:
        return True
    if key in ("lora_rank", "lora_alpha"):
        if value is not None:
            notes.append(f"{key}={value} is left out: the kernel in the file has it merged in")
        return True
    values = dialects.NOTHING.get(key, ())
    if any((value == known and type(value) is not bool) or value is known for known in values):
        if value is not None:
            notes.append(f"{key}={value!r} is left out: it says nothing")
        return True
    if key in dialects.UNUSED_INITIALIZERS:
        notes.append(f"{key} is left out: there is no such weight")
        return True
    return False


def _value(key: str, value: Any, kind: Any, major: int, notes: list[str]) -> Any:
    ending = key.rpartition("_")[2]
    if key == "dtype":
        return _policy(value)
    if ending in TABLES and value is not None:
        return {"initializer": _initializer, "regularizer": _regularizer, "constraint": _constraint}.get(
            ending, lambda given: _activation(given, major, notes)
        )(value)
    if isinstance(value, float) and value.is_integer() and kind is int:
        return int(value)  # TF wrote filters as 6.0 where they were computed
    if kind is bool and type(value) is int and value in (0, 1):
        return bool(value)
    return value


def _policy(value: Any) -> Any:
    name = value
    if isinstance(value, Mapping):
        if value.get("class_name") not in ("DTypePolicy", "Policy", "PolicyV1", "FloatDTypePolicy"):
            raise ValueError(f"its dtype policy is {value.get('class_name')!r}; a policy here has the name of a type")
        name = (value.get("config") or {}).get("name")
    return dialects.POLICIES.get(name, name) if isinstance(name, str) else name


def _initializer(value: Any) -> Any:
    if isinstance(value, str):
        return dialects.INITIALIZERS.get(value, value)
    name, config = _parts(value, "initializer")
    config = {key: item for key, item in config.items() if key not in dialects.INITIALIZER_KEYS}
    return {"class_name": dialects.INITIALIZERS.get(name, name), "config": config}


def _regularizer(value: Any) -> Any:
    if isinstance(value, Mapping) and "class_name" not in value and value.get("name") in dialects.REGULARIZERS_1:
        factors = {key: item for key, item in value.items() if key in ("l1", "l2")}
        return {"class_name": "L1L2", "config": factors}  # Keras 1
    return value if isinstance(value, str) else _entry(value, "regularizer")


def _constraint(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "class_name" not in value and "name" in value:
        names = dialects.CONSTRAINTS_1
        config = {names.get(key, key): item for key, item in value.items() if key != "name"}
        return {"class_name": dialects.CONSTRAINTS.get(value["name"].lower(), value["name"]), "config": config}
    return _entry(value, "constraint")


def _activation(value: Any, major: int, notes: list[str]) -> Any:
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")  # Keras's form of a bare function: its name
    if not isinstance(value, str):
        raise ValueError(f"its activation is {_short(value)}; one that has a name in Keras is needed")
    new = dialects.ACTIVATIONS.get(value, value)
    if major < 3:
        new = dialects.ACTIVATIONS_BEFORE_3.get(new, new)
    if new != value:
        notes.append(f"activation {value} is read as {new}")
    return new


def _parts(value: Any, what: str) -> tuple[str, Config]:
    if not isinstance(value, Mapping) or not isinstance(value.get("class_name"), str):
        raise ValueError(f"its {what} {_short(value)} has no class_name")
    config = value.get("config") or {}
    if not isinstance(config, Mapping):
        raise ValueError(f"its {what} {_short(value)} has no config")
    return value["class_name"], dict(config)


def _entry(value: Any, what: str) -> Config:
    name, config = _parts(value, what)
    return {"class_name": name, "config": config}


# -- Keras 1


def _from_keras_1(today: str, given: Config, origin: Origin) -> Config:
    """Give Keras 2's keys for Keras 1's."""
    given = {key: value for key, value in given.items() if value is not None or key in ("name", "activation")}
    for new, choices in dialects.KERAS_1_JOINED.items():
        for old in choices:
            if all(key in given for key in old):
                given[new] = [given.pop(key) for key in old]
    if today == "SeparableConv2D" and "init" in given:
        given["pointwise_initializer"] = given["init"]
    given = _renamed(given, dialects.KERAS_1.get(today, {}))
    ordering, output_shape = given.get("data_format"), given.get("output_shape")
    given = {
        key: value
        for key, value in given.items()
        if not (key in dialects.KERAS_1_MEANINGLESS and not (today == "Embedding" and key == "input_dim"))
        and not (key in dialects.KERAS_1_NOTHING and value in dialects.KERAS_1_NOTHING[key])
    }
    if "mode" in given:
        raise ValueError(f"it has mode={given['mode']!r}, which later versions of Keras do not have")
    if ordering is not None:
        if ordering not in dialects.ORDERINGS:
            raise ValueError(f"its dim_ordering is {ordering!r}; one of {', '.join(dialects.ORDERINGS)} is legal")
        given["data_format"] = dialects.ORDERINGS[ordering]
    for key, value in given.items():
        if key.endswith("constraint") and ordering == "th" and isinstance(value, Mapping):
            given[key] = _todays_axis(value, today)
    if today.startswith("ZeroPadding2D") and isinstance(given.get("padding"), list) and len(given["padding"]) == 4:
        top, bottom, left, right = given["padding"]
        given["padding"] = [[top, bottom], [left, right]]
    if today in ("Conv2DTranspose", "Conv3DTranspose") and output_shape is not None:
        sizes = (tuple(given["kernel_size"]), tuple(given["strides"]))
        lengths = output_lengths(output_shape, given.get("data_format"), len(sizes[0]))
        chosen = padding_for(lengths, *sizes, given.get("padding", "valid"), origin.backend == "theano")
        given["padding"], given["output_padding"] = chosen
    return given


def _todays_axis(constraint: Mapping[str, Any], today: str) -> Config:
    """Move the axis of a constraint as the axes of the kernel move from (filters, channels, ...) to today's order."""
    moved = dialects.THEANO_AXES.get({"2D": 4, "3D": 5}.get(today[-2:], 4), {})
    axis = constraint.get("axis")
    return {**constraint, "axis": moved[axis]} if axis in moved and today != "Dense" else dict(constraint)


def _merge(given: Config) -> tuple[str, Config]:
    mode = given.get("mode")
    if given.get("mode_type") not in (None, "raw"):
        raise Code("its mode is a function, as marshalled code or by name; it is never run")
    if mode not in dialects.MERGES:
        raise ValueError(f"it merges by {_short(mode)}; one of {', '.join(dialects.MERGES)} is known")
    if given.get("layers"):
        raise ValueError("it merges whole models inside a Sequential, which no layer here does")
    options: Config = {key: given[key] for key in ("name", "trainable") if key in given}
    if mode == "concat":
        options["axis"] = given.get("concat_axis", -1)
    if mode == "dot":
        options["axes"] = given.get("dot_axes", -1)
    return dialects.MERGES[mode], options


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> Config:
    return {names.get(key, key): value for key, value in given.items()}


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
