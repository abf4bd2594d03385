"""Replacement of functions of arrays in a graph (Keras 3's operations, tf.keras's lambdas) by layers.

Functions are looked up by name in a fixed table; no code in a file is run.
"""

import inspect
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from jaxconv.files.keras.calls import Tensor, is_tensor
from jaxconv.files.keras.config import Config, Entry
from jaxconv.files.keras.options import plain_values
from jaxconv.models.functional import MASK_OPS, mask_ops
from jaxconv.registry import snake_case

_NAMES = {  # TensorFlow's name -> Keras's
    **{"truediv": "divide", "true_divide": "divide", "real_div": "divide", "sub": "subtract", "mul": "multiply"},
    **{"add_v2": "add", "concat": "concatenate", "swish": "silu", "clip_by_value": "clip"},
    **{"reduce_mean": "mean", "reduce_max": "max", "exp": "exponential"},
}
_MERGES = {name: name.capitalize() for name in ("add", "subtract", "multiply", "maximum", "minimum")}
_ACTIVATIONS = {"sigmoid", "tanh", "silu", "softplus", "softsign", "elu", "selu", "exponential", "hard_sigmoid", "mish"}
ClassAndConfig = tuple[str, Config] | None  # of a layer; None if no layer here computes the function


def is_function(entry: Entry) -> bool:
    """Return whether an entry is a function of arrays, other than those that Keras computes masks with."""
    only_masks = entry.class_name in MASK_OPS and "arguments" not in entry.config  # see _replace
    return entry.class_name in LAMBDAS or (entry.is_operation and not only_masks)


def described(entry: Entry) -> str:
    """Return the name of a function that :func:`replace_functions` has left, its arguments and the input's shape."""
    given = {key: value for key, value in entry.config.get("arguments", {}).items() if key != "constants" or value}
    text = f"{entry.config.get('function', entry.class_name)!a} with arguments {ascii(given)[:80]}"
    args = [arg for call in entry.calls if isinstance(call, Mapping) for arg in call.get("args", ())]
    shape = _argument(args[0]).shape if len(args) == 1 and is_tensor(args[0]) else None
    return f"{text} of an input with {len(shape)} axes, {ascii(shape)[:80]}" if isinstance(shape, list) else text


def replace_functions(model: Entry) -> None:
    """Replace the functions in a graph and in all nested graphs by layers, in place.

    A function that is not in the table remains. For a custom layer, its config gets its name under "function" and its
    arguments under "arguments".
    """
    names = {one.stored_name for one in model.layers or ()}
    masks_only = _mask_ops(model)
    for one in model.layers or ():
        replace_functions(one)
        if (is_function(one) or one.is_operation) and one.stored_name not in masks_only and len(one.calls) == 1:
            _replace(one, names)


def _mask_ops(model: Entry) -> set[str]:
    """Return the names of the operations of a graph that compute only masks."""
    entries = [
        {
            "name": one.stored_name,
            "class_name": one.class_name,
            "module": "keras.src.ops" if one.is_operation else "",
            "inbound_nodes": one.calls,
        }
        for one in model.layers or ()
    ]
    return set() if model.ends is None else mask_ops(entries, model.ends[1])


def _replace(entry: Entry, names: set[str]) -> None:
    name: str | None
    if entry.has_keras3_calls:
        name, args, options = _read_operation(entry)
    else:
        name, args, options = read_lambda(entry.class_name, entry.config, entry.calls[0], names)
    name = _NAMES.get(name, name) if name is not None else None
    tensors = [one for arg in args for one in (arg if isinstance(arg, list) else [arg]) if isinstance(one, Tensor)]
    found = None if name is None else _layer(name, args, {k: v for k, v in options.items() if v is not None})
    if found is None:
        constants = [arg for arg in args if not isinstance(arg, Tensor | list)]
        entry.config |= {"function": name or entry.class_name, "arguments": options | {"constants": constants}}
    else:
        entry.class_name, config = found
        entry.module, entry.registered_name = "keras.layers", None
        entry.config = {"name": entry.stored_name, **config}
        tensors = tensors * 2 if name == "square" else tensors
    if entry.has_keras3_calls:
        given = [_keras_tensor(one) for one in tensors]
        entry.calls = [{"args": given if len(given) == 1 else [given], "kwargs": {}}]
    else:
        entry.calls = [[[*one.reference, {}] for one in tensors]]


def _keras_tensor(tensor: Tensor) -> Config:
    shape = {} if tensor.shape is None else {"shape": tensor.shape}
    return {"class_name": "__keras_tensor__", "config": {"keras_history": tensor.reference, **shape}}


def _read_operation(entry: Entry) -> tuple[str, list, Config]:
    """Return the name of a Keras 3 operation, its arguments in order, and its other options."""
    (call,) = entry.calls
    config = {key: value for key, value in entry.config.items() if key not in ("name", "trainable", "dtype")}
    if entry.class_name == "Cast" and "dtype" in entry.config:
        config["dtype"] = entry.config["dtype"]
    return snake_case(entry.class_name), [_argument(arg) for arg in call["args"]], config | call.get("kwargs", {})


def as_operation(entry: Config) -> Config:
    """Return the entry of a layer in a graph, as an operation on arrays if Keras has no such layer."""
    kind, own = entry["class_name"], entry["config"]
    if kind not in ("Divide", "Reciprocal", "GetItem"):
        return entry
    name = "GetItem" if kind == "GetItem" else "TrueDivide"
    nodes: list[Any] = []
    for node in entry["inbound_nodes"]:
        given = node["args"][0] if kind == "Divide" else [own.get("numerator"), node["args"][0]]
        given = [given[1], [_write_part(part) for part in own["key"]]] if kind == "GetItem" else given
        nodes.append({"args": given, "kwargs": {}})
    named = {"module": "keras.src.ops.numpy", "class_name": name, "registered_name": name, "inbound_nodes": nodes}
    return entry | named | {"config": {"name": own["name"]}}


def _write_part(part: Any) -> Any:
    if isinstance(part, list):
        return {"class_name": "__slice__", "config": dict(zip(("start", "stop", "step"), part, strict=True))}
    return {"class_name": "__ellipsis__", "config": {}} if part == "..." else part


def _read_part(part: Any) -> Any:
    """Convert a part of a slice's key from the form of Keras 3 or tf.keras to that of GetItem."""
    if not isinstance(part, Mapping):
        return part
    if part.get("class_name") == "__ellipsis__":
        return "..."
    ends = part.get("config", part)
    return [ends.get(end) for end in ("start", "stop", "step")]


def _get_item(args: list, options: Config) -> ClassAndConfig:
    key = args[1] if len(args) == 2 else options.get("slice_spec")
    if not args or not isinstance(args[0], Tensor) or set(options) - {"slice_spec"} or key is None:
        return None
    return "GetItem", {"key": [_read_part(part) for part in (key if isinstance(key, list) else [key])]}


def _argument(value: Any) -> Any:
    if is_tensor(value):
        return Tensor(value["config"]["keras_history"], plain_values(value["config"].get("shape")))
    return [_argument(one) for one in value] if isinstance(value, list) else plain_values(value)


# -- the table


def _layer(name: str, args: list, options: Config) -> ClassAndConfig:
    """Return the class and the config of the layer that computes a function, or None if there is none."""
    if name in ("get_item", "getitem"):
        return _get_item(args, options)
    if name == "negative" and len(args) == 1 and not options:
        return "Rescaling", {"scale": -1.0}
    if len(args) == 2 and name in (*_MERGES, "divide"):
        return _of_two(name, *args) if not options else None
    if len(args) != 1:
        return None
    if isinstance(args[0], list):
        joins = name == "concatenate" and set(options) == {"axis"} and all(isinstance(one, Tensor) for one in args[0])
        return ("Concatenate", options) if joins and type(options["axis"]) is int else None
    if name == "square" and not options:
        return "Multiply", {}
    if name in _ACTIVATIONS and not options:
        return "Activation", {"activation": name}
    make = _MAKE.get(name)
    found = make(**options) if make and set(options) <= set(inspect.signature(make).parameters) else None
    return None if found and name in ("mean", "max") and _has_other_rank(args[0], found[0]) else found


def _has_other_rank(tensor: Any, pooling: str) -> bool:
    """Return whether a tensor has more or fewer axes than the input of a layer such as GlobalMaxPooling1D."""
    shape = tensor.shape if isinstance(tensor, Tensor) else None
    return isinstance(shape, list) and len(shape) != int(pooling[-2]) + 2


def _of_two(name: str, x: Any, y: Any) -> ClassAndConfig:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return (_MERGES.get(name, "Divide"), {})
    constant = np.asarray(x if isinstance(y, Tensor) else y)
    if constant.dtype.kind not in "iuf" or not np.isfinite(constant).all():
        return None
    if name == "maximum":
        return ("ReLU", {}) if constant.shape == () and constant == 0 else None
    if name == "divide":
        if isinstance(y, Tensor):
            return ("Reciprocal", {"numerator": constant.item()}) if constant.shape == () else None
        if not constant.all():
            return None
        name, constant = "multiply", 1 / constant.astype(np.float64)
    if name == "minimum":
        return None
    scale = constant if name == "multiply" else -1.0 if name == "subtract" and isinstance(y, Tensor) else 1.0
    offset = 0.0 if name == "multiply" else -constant if name == "subtract" and isinstance(x, Tensor) else constant
    return "Rescaling", {"scale": np.asarray(scale).tolist(), "offset": np.asarray(offset).tolist()}


def _relu(max_value: Any = None, negative_slope: Any = 0.0, threshold: Any = 0.0) -> ClassAndConfig:
    return "ReLU", {"max_value": max_value, "negative_slope": negative_slope, "threshold": threshold}


def _clip(x_min: Any = None, x_max: Any = None) -> ClassAndConfig:
    return ("ReLU", {"max_value": x_max}) if x_min == 0 and isinstance(x_max, int | float) else None


def _pooled(kind: str) -> Any:
    def make(axis: Any = None, keepdims: Any = False) -> ClassAndConfig:
        axes = sorted(axis) if isinstance(axis, list) else [axis]
        for first, data_format in ((1, "channels_last"), (2, "channels_first")):
            if axes == [*range(first, first + len(axes))] and len(axes) <= 3:
                return f"Global{kind}Pooling{len(axes)}D", {"data_format": data_format, "keepdims": bool(keepdims)}
        return None

    return make


def _pad(pad_width: Any = None, mode: Any = "constant", constant_values: Any = 0) -> ClassAndConfig:
    batch, *pads, last = pad_width if isinstance(pad_width, list) and 2 < len(pad_width) < 6 else [None] * 3
    if batch != [0, 0] or last != [0, 0] or str(mode).lower() != "constant" or constant_values != 0:
        return None
    return f"ZeroPadding{len(pads)}D", {"padding": pads[0] if len(pads) == 1 else pads}


def _expand_dims(axis: Any = None) -> ClassAndConfig:
    if type(axis) is not int or axis == 0:
        return None
    whole: list = [None, None, None]
    return "GetItem", {"key": [whole] * axis + [None] if axis > 0 else ["...", None] + [whole] * (-1 - axis)}


def _transpose(axes: Any = None) -> ClassAndConfig:
    return ("Permute", {"dims": axes[1:]}) if isinstance(axes, list) and axes[:1] == [0] else None


def _reshape(newshape: Any = None) -> ClassAndConfig:
    keeps = isinstance(newshape, list) and newshape[:1] in ([-1], [None]) and all(type(n) is int for n in newshape[1:])
    return ("Reshape", {"target_shape": newshape[1:]}) if keeps else None


def _cast(dtype: Any = None) -> ClassAndConfig:
    kept = dtype in ("float16", "bfloat16", "float32", "float64")
    return ("Activation", {"activation": "linear", "dtype": dtype}) if kept else None


_MAKE: dict[str, Any] = {
    **{"relu": _relu, "clip": _clip, "mean": _pooled("Average"), "max": _pooled("Max"), "pad": _pad, "cast": _cast},
    **{"transpose": _transpose, "reshape": _reshape, "expand_dims": _expand_dims},
    "relu6": lambda: ("ReLU", {"max_value": 6.0}),
    "identity": lambda: ("Activation", {"activation": "linear"}),
    "gelu": lambda approximate=False: None if approximate else ("Activation", {"activation": "gelu"}),
    "l2_normalize": lambda axis=None, epsilon=1e-12: (
        ("UnitNormalization", {"axis": axis}) if epsilon == 1e-12 else None
    ),
    "softmax": lambda axis=-1: ("Softmax", {"axis": axis}),
    "leaky_relu": lambda negative_slope=0.2: ("LeakyReLU", {"negative_slope": negative_slope}),
}


# -- functions of arrays in a tf.keras graph

LAMBDAS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
_LAMBDA_OPTIONS = {  # TensorFlow's option -> Keras's
    **{"perm": "axes", "paddings": "pad_width", "shape": "newshape", "alpha": "negative_slope"},
    **{"clip_value_min": "x_min", "clip_value_max": "x_max"},
}


def read_lambda(
    class_name: str, config: dict[str, Any], call: Any, names: Collection[str]
) -> tuple[str | None, list, dict[str, Any]]:
    """Return TensorFlow's name of the function, its arguments in order, and its other options.

    call: the only one of its ``inbound_nodes``. names: of all layers in the graph, by which references are recognized.
    """
    if class_name == "TensorFlowOpLayer":
        op = re.search(r'op: "(\w+)"', str(config.get("node_def")))
        args: list = [_lambda_argument(one, names) for one in call]
        for place, value in sorted((config.get("constants") or {}).items(), key=lambda pair: int(pair[0])):
            args.insert(int(place), value)
        return op and snake_case(op[1]), args, {}
    single = isinstance(call[0], str)
    first = [_lambda_argument(one, names) for one in ([call] if single else call)]
    last = call if single else call[0]
    options = {key: _lambda_argument(value, names) for key, value in (last[3] if len(last) > 3 else {}).items()}
    args = [first[0] if single else first, *([options.pop("y")] if "y" in options else [])]
    options = {_LAMBDA_OPTIONS.get(key, key): value for key, value in options.items() if key != "name"}
    return str(config.get("function", "")).rpartition(".")[2], args, options


def _lambda_argument(value: Any, names: Collection[str]) -> Any:
    """Return a tensor or a constant; tf.keras may write a constant in the form of a tensor."""
    if not isinstance(value, list) or len(value) < 3:
        return value
    if value[0] == "_CONSTANT_VALUE":
        return value[2]
    return Tensor(value[:3]) if isinstance(value[0], str) and value[0] in names else value
