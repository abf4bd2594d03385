"""Translation of Keras 1's options, constraints, regularizers and ``Merge`` to Keras 2's form."""

from collections.abc import Mapping
from typing import Any

from jaxconv.files.errors import NoLayerError
from jaxconv.files.legacy.deconvolution import output_lengths, padding_for
from jaxconv.files.legacy.dialects import Origin
from jaxconv.files.legacy.kernels import THEANO_AXES

Config = dict[str, Any]

_ORDERED = {"dim_ordering": "data_format"}
_KERNEL = {"init": "initializer", "W_regularizer": "regularizer", "W_constraint": "constraint"}
_WEIGHTS = {
    **{key: f"kernel_{name}" for key, name in _KERNEL.items()},
    "b_regularizer": "bias_regularizer",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_CONVOLUTION = {
    **_WEIGHTS,
    **_ORDERED,
    "nb_filter": "filters",
    "border_mode": "padding",
    "atrous_rate": "dilation_rate",
    "subsample": "strides",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
}
_RECURRENT = {
    **_WEIGHTS,
    **{key: f"recurrent_{name}" for key, name in zip(("inner_init", "U_regularizer"), _KERNEL.values(), strict=False)},
    **{"output_dim": "units", "inner_activation": "recurrent_activation", "forget_bias_init": "unit_forget_bias"},
    **{"dropout_W": "dropout", "dropout_U": "recurrent_dropout"},
}
_POOLING = {**_ORDERED, "border_mode": "padding", "pool_length": "pool_size", "stride": "strides"}

_KEYS = {  # current class -> key of Keras 1 -> current key
    **{f"Conv{rank}D": _CONVOLUTION for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _CONVOLUTION for rank in (2, 3)},
    **{f"LocallyConnected{rank}D": _CONVOLUTION for rank in (1, 2)},
    "SeparableConv2D": _CONVOLUTION | {key: f"depthwise_{name}" for key, name in _KERNEL.items()},
    "Dense": {**_WEIGHTS, "output_dim": "units"},
    **{name: _RECURRENT for name in ("SimpleRNN", "LSTM", "GRU")},
    "ConvLSTM2D": _CONVOLUTION | _RECURRENT,
    "Embedding": {key: f"embeddings_{name}" for key, name in _KERNEL.items()},
    "BatchNormalization": {"beta_init": "beta_initializer", "gamma_init": "gamma_initializer"},
    "PReLU": {"init": "alpha_initializer"},
    "UpSampling1D": {"length": "size"},
    "GaussianNoise": {"sigma": "stddev"},
    **{name: {"p": "rate"} for name in ("Dropout", "GaussianDropout", "SpatialDropout1D")},
    **{f"SpatialDropout{rank}D": {"p": "rate", **_ORDERED} for rank in (2, 3)},
    **{f"{kind}Pooling{rank}D": _POOLING for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{kind}Pooling{rank}D": _ORDERED for kind in ("Max", "Average") for rank in (2, 3)},
    **{f"{kind}{rank}D": _ORDERED for kind in ("UpSampling", "ZeroPadding", "Cropping") for rank in (2, 3)},
}
_KERNEL_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
_IGNORED_KEYS = {"input_dim", "weights", "output_shape", "create_spatial_masks", "init", "consume_less"}
_IGNORED_VALUES: dict[str, tuple] = {"mode": (0,), "dropout": (0, 0.0), "mask_zero": (False,)}
_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first"}
# Merge(mode=...) -> the layer
_MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}
_REGULARIZERS = ("WeightRegularizer", "L1L2Regularizer", "ActivityRegularizer")
_CONSTRAINTS = {"maxnorm": "MaxNorm", "nonneg": "NonNeg", "unitnorm": "UnitNorm"}
_CONSTRAINT_KEYS = {"m": "max_value", "low": "min_value", "high": "max_value"}


def modernize(current: str, options: Config, origin: Origin) -> Config:
    """Return the options of a layer under Keras 2's keys. Raises ValueError for an option that Keras 2 dropped.

    >>> modernize("Conv1D", {"nb_filter": 4, "filter_length": 3, "border_mode": "same"}, Origin(1))
    {'filters': 4, 'kernel_size': 3, 'padding': 'same'}
    """
    options = {key: value for key, value in options.items() if value is not None or key in ("name", "activation")}
    for keys in _KERNEL_SIZES:
        if all(key in options for key in keys):
            options["kernel_size"] = [options.pop(key) for key in keys]
    if current == "SeparableConv2D" and "init" in options:
        options["pointwise_initializer"] = options["init"]
    names = _KEYS.get(current, {})
    options = {names.get(key, key): value for key, value in options.items()}
    if "unit_forget_bias" in options:
        options["unit_forget_bias"] = options["unit_forget_bias"] in ("one", "ones")
    ordering, output_shape = options.get("data_format"), options.get("output_shape")
    if "dim_ordering" in names and "1D" not in current and ordering in (None, "default"):
        ordering = _ordering_of_others(origin)
    options = {
        key: value
        for key, value in options.items()
        if not (key in _IGNORED_KEYS and not (current == "Embedding" and key == "input_dim"))
        and not (key in _IGNORED_VALUES and value in _IGNORED_VALUES[key])
    }
    if "mode" in options:
        raise ValueError(f"mode={options['mode']!r} does not exist in later versions of Keras")
    if ordering is not None:
        if ordering not in _DATA_FORMATS:
            raise ValueError(f"dim_ordering={ordering!r} is not valid; expected {', '.join(_DATA_FORMATS)}")
        options["data_format"] = _DATA_FORMATS[ordering]
    for key, value in options.items():
        if key.endswith("constraint") and ordering == "th" and isinstance(value, Mapping):
            axes, axis = THEANO_AXES.get(current, ()), value.get("axis")  # the axes of the kernel have moved
            options[key] = {**value, "axis": axes.index(axis)} if axis in axes else dict(value)
    if current == "ZeroPadding2D" and isinstance(options.get("padding"), list) and len(options["padding"]) == 4:
        top, bottom, left, right = options["padding"]
        options["padding"] = [[top, bottom], [left, right]]
    if current in ("Conv2DTranspose", "Conv3DTranspose") and output_shape is not None:
        kernel, strides = tuple(options["kernel_size"]), tuple(options["strides"])
        lengths = output_lengths(output_shape, options.get("data_format"), len(kernel))
        theano = origin.backend == "theano"
        chosen = padding_for(lengths, kernel, strides, options.get("padding", "valid"), theano)
        options["padding"], options["output_padding"] = chosen
    return options


def _ordering_of_others(origin: Origin) -> str:
    """Return the dim_ordering of a layer without one, as some of Keras 1.0: that of the file's other layers."""
    if len(origin.orderings) > 1:
        raise ValueError("it has no dim_ordering, and other layers of the file have both 'th' and 'tf'")
    return next(iter(origin.orderings), "tf")


def merge_layer(options: Config) -> tuple[str, Config]:
    """Return the class and options of the layer that replaced ``Merge``. Raises ValueError if there is none."""
    mode = options.get("mode")
    if options.get("mode_type") not in (None, "raw"):
        raise NoLayerError("its mode is a function, which is code; it is never run")
    if mode not in _MERGES:
        raise ValueError(f"Merge has mode={ascii(mode)[:80]}; expected {', '.join(_MERGES)}")
    if options.get("layers"):
        raise ValueError("it merges whole models inside a Sequential, which no layer here does")
    kept: Config = {key: options[key] for key in ("name", "trainable") if key in options}
    if mode == "concat":
        kept["axis"] = options.get("concat_axis", -1)
    if mode == "dot":
        kept["axes"] = options.get("dot_axes", -1)
    return _MERGES[mode], kept


def regularizer(value: Any) -> Config | None:
    """Return Keras 1's form of a regularizer as a current config, or None for any other value."""
    if not isinstance(value, Mapping) or "class_name" in value or value.get("name") not in _REGULARIZERS:
        return None
    return {"class_name": "L1L2", "config": {key: item for key, item in value.items() if key in ("l1", "l2")}}


def constraint(value: Any) -> Config | None:
    """Return Keras 1's form of a constraint as a current config, or None for any other value."""
    if not isinstance(value, Mapping) or "class_name" in value or not isinstance(name := value.get("name"), str):
        return None
    config = {_CONSTRAINT_KEYS.get(key, key): item for key, item in value.items() if key != "name"}
    return {"class_name": _CONSTRAINTS.get(name.lower(), name), "config": config}
