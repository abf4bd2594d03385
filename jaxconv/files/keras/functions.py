"""Functions of arrays that stand in a graph like layers (tf.keras's TFOpLambda, Keras 3's ops), as the layers here.

A closed table: a function is known by its name, and nothing stored is run. Knows configs, and not layers' insides.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxconv.files.keras.config import Config, Entry
from jaxconv.files.keras.options import plain_values
from jaxconv.models.functional import MASK_OPS
from jaxconv.registry import snake_case

LAMBDAS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")

_NAMES = {  # TensorFlow's name -> Keras's
    **{"truediv": "divide", "true_divide": "divide", "real_div": "divide", "sub": "subtract", "mul": "multiply"},
    **{"add_v2": "add", "concat": "concatenate", "swish": "silu", "clip_by_value": "clip"},
    **{"reduce_mean": "mean", "reduce_max": "max", "exp": "exponential"},
}
_OPTIONS = {  # TensorFlow's option -> Keras's
    **{"perm": "axes", "paddings": "pad_width", "shape": "newshape", "alpha": "negative_slope"},
    **{"clip_value_min": "x_min", "clip_value_max": "x_max"},
}
Made = tuple[str, Config] | None  # the class and the config of a layer

_MERGES = {name: name.capitalize() for name in ("add", "subtract", "multiply", "maximum", "minimum")}
_ACTIVATIONS = {"sigmoid", "tanh", "silu", "softplus", "softsign", "elu", "selu", "exponential", "hard_sigmoid", "mish"}


class _Tensor(NamedTuple):
    origin: list  # [layer, call, output]


def put_layers(model: Entry) -> None:
    """Put layers in the place of the functions in a graph, and in those inside, in place.

    A function that is not in the table stays, with what it is called with under "function" and "arguments" of its
    config, for a custom layer in its place; so do the functions that Keras computes masks with.
    """
    names = {one.stored for one in model.inside or ()}
    for one in model.inside or ():
        put_layers(one)
        computes = one.class_name in LAMBDAS or (one.is_function and one.class_name not in MASK_OPS)
        if computes and len(one.calls) == 1:
            _put(one, names)


def _put(entry: Entry, names: set[str]) -> None:
    name, args, options = _read(entry, names)
    tensors = [one for arg in args for one in (arg if isinstance(arg, list) else [arg]) if isinstance(one, _Tensor)]
    found = None if name is None else _layer(name, args, {k: v for k, v in options.items() if v is not None})
    if found is None:
        constants = [arg for arg in args if not isinstance(arg, _Tensor | list)]
        entry.config |= {"function": name or entry.class_name, "arguments": options | {"constants": constants}}
    else:
        entry.class_name, own = found
        entry.module, entry.registered, entry.config = "keras.layers", None, {"name": entry.stored, **own}
        tensors = tensors * 2 if name == "square" else tensors
    if entry.is_modern:
        given = [{"class_name": "__keras_tensor__", "config": {"keras_history": one.origin}} for one in tensors]
        entry.calls = [{"args": given if len(given) == 1 else [given], "kwargs": {}}]
    else:
        entry.calls = [[[*one.origin, {}] for one in tensors]]


def _read(entry: Entry, names: set[str]) -> tuple[str | None, list, Config]:
    """Give a function's name as Keras has it, what it is called on in order, and its other options."""
    (call,) = entry.calls
    if entry.is_modern:
        config = {key: value for key, value in entry.config.items() if key not in ("name", "trainable", "dtype")}
        config |= {"dtype": entry.config["dtype"]} if entry.class_name == "Cast" and "dtype" in entry.config else {}
        return _known(snake_case(entry.class_name)), [_modern(a) for a in call["args"]], config | call.get("kwargs", {})
    if entry.class_name == "TensorFlowOpLayer":
        op = re.search(r'op: "(\w+)"', str(entry.config.get("node_def")))
        args: list = [_tensor(one, names) for one in call]
        for place, value in sorted((entry.config.get("constants") or {}).items(), key=lambda pair: int(pair[0])):
            args.insert(int(place), value)
        return op and _known(snake_case(op[1])), args, {}
    single = isinstance(call[0], str)
    first = [_tensor(one, names) for one in ([call] if single else call)]
    last = call if single else call[0]
    options = {key: _tensor(value, names) for key, value in (last[3] if len(last) > 3 else {}).items()}
    function = str(entry.config.get("function", "")).rpartition(".")[2]
    args = [first[0] if single else first, *([options.pop("y")] if "y" in options else [])]
    return _known(function), args, {_OPTIONS.get(key, key): value for key, value in options.items() if key != "name"}


def _known(name: str) -> str:
    return _NAMES.get(name, name)


def _modern(value: Any) -> Any:
    """Give what a call of Keras 3's takes, tensors marked."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        return _Tensor(value["config"]["keras_history"])
    return [_modern(one) for one in value] if isinstance(value, list) else plain_values(value)


def _tensor(value: Any, names: set[str]) -> Any:
    """Give what a call of tf.keras's takes: a tensor, or a constant, which may stand in the form of a tensor."""
    if isinstance(value, list) and len(value) >= 3 and value[0] == "_CONSTANT_VALUE":
        return value[2]
    is_tensor = isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and value[0] in names
    return _Tensor(value[:3]) if is_tensor else value


# -- the table


def _layer(name: str, args: list, options: Config) -> Made:
    """Give the class and the config of the layer that computes a function; None where there is none."""
    if len(args) == 2 and name in (*_MERGES, "divide"):
        return _of_two(name, *args) if not options else None
    if len(args) != 1:
        return None
    if isinstance(args[0], list):
        joins = name == "concatenate" and set(options) == {"axis"} and all(isinstance(one, _Tensor) for one in args[0])
        return ("Concatenate", options) if joins and type(options["axis"]) is int else None
    if name == "square" and not options:
        return "Multiply", {}
    if name in _ACTIVATIONS and not options:
        return "Activation", {"activation": name}
    make = _MAKE.get(name)
    return make(**options) if make and set(options) <= set(inspect.signature(make).parameters) else None


def _of_two(name: str, x: Any, y: Any) -> Made:
    if isinstance(x, _Tensor) and isinstance(y, _Tensor):
        return (_MERGES[name], {}) if name in _MERGES else None
    constant = np.asarray(x if isinstance(y, _Tensor) else y)
    if constant.dtype.kind not in "iuf" or not np.isfinite(constant).all():
        return None
    if name == "maximum":
        return ("ReLU", {}) if constant.shape == () and constant == 0 else None
    if name == "divide":
        if isinstance(y, _Tensor) or not constant.all():
            return None
        name, constant = "multiply", 1 / constant.astype(np.float64)
    if name == "minimum":
        return None
    scale = constant if name == "multiply" else -1.0 if name == "subtract" and isinstance(y, _Tensor) else 1.0
    offset = 0.0 if name == "multiply" else -constant if name == "subtract" and isinstance(x, _Tensor) else constant
    return "Rescaling", {"scale": np.asarray(scale).tolist(), "offset": np.asarray(offset).tolist()}


def _relu(max_value: Any = None, negative_slope: Any = 0.0, threshold: Any = 0.0) -> Made:
    return "ReLU", {"max_value": max_value, "negative_slope": negative_slope, "threshold": threshold}


def _clip(x_min: Any = None, x_max: Any = None) -> Made:
    return ("ReLU", {"max_value": x_max}) if x_min == 0 and isinstance(x_max, int | float) else None


def _pooled(kind: str) -> Any:
    def make(axis: Any = None, keepdims: Any = False) -> Made:
        axes = sorted(axis) if isinstance(axis, list) else [axis]
        for first, data_format in ((1, "channels_last"), (2, "channels_first")):
            if axes == [*range(first, first + len(axes))] and len(axes) <= 3:
                return f"Global{kind}Pooling{len(axes)}D", {"data_format": data_format, "keepdims": bool(keepdims)}
        return None

    return make


def _pad(pad_width: Any = None, mode: Any = "constant", constant_values: Any = 0) -> Made:
    batch, *pads, last = pad_width if isinstance(pad_width, list) and 2 < len(pad_width) < 6 else [None] * 3
    if batch != [0, 0] or last != [0, 0] or str(mode).lower() != "constant" or constant_values != 0:
        return None
    return f"ZeroPadding{len(pads)}D", {"padding": pads[0] if len(pads) == 1 else pads}


def _transpose(axes: Any = None) -> Made:
    return ("Permute", {"dims": axes[1:]}) if isinstance(axes, list) and axes[:1] == [0] else None


def _reshape(newshape: Any = None) -> Made:
    keeps = isinstance(newshape, list) and newshape[:1] in ([-1], [None]) and all(type(n) is int for n in newshape[1:])
    return ("Reshape", {"target_shape": newshape[1:]}) if keeps else None


def _cast(dtype: Any = None) -> Made:
    kept = dtype in ("float16", "bfloat16", "float32", "float64")
    return ("Activation", {"activation": "linear", "dtype": dtype}) if kept else None


def _unit(axis: Any = None, epsilon: Any = 1e-12) -> Made:
    return ("UnitNormalization", {"axis": axis}) if epsilon == 1e-12 else None


def _gelu(approximate: Any = False) -> Made:
    return None if approximate else ("Activation", {"activation": "gelu"})


_MAKE: dict[str, Any] = {
    **{"relu": _relu, "clip": _clip, "mean": _pooled("Average"), "max": _pooled("Max"), "pad": _pad, "cast": _cast},
    **{"transpose": _transpose, "reshape": _reshape, "gelu": _gelu},
    "relu6": lambda: ("ReLU", {"max_value": 6.0}),
    "identity": lambda: ("Activation", {"activation": "linear"}),
    "l2_normalize": _unit,
    "softmax": lambda axis=-1: ("Softmax", {"axis": axis}),
    "leaky_relu": lambda negative_slope=0.2: ("LeakyReLU", {"negative_slope": negative_slope}),
}
