"""Tables of names and options from every version of Keras: old names and their current ones, and keys to ignore.

Contains only data. A key that is in none of the tables raises an error that names it.
"""

from typing import Any, NamedTuple


class Origin(NamedTuple):
    """The writer of a file: the major version of Keras, the backend if the file names it, and all its dim_orderings."""

    major: int = 3
    backend: str | None = None
    orderings: frozenset[str] = frozenset()


PACKAGES = ("keras", "tensorflow", "tf_keras", "jaxconv")  # their classes are Keras's classes of the same name


def is_of_keras(module: Any) -> bool:
    """Return whether a module that a config names is one of Keras, or none is named."""
    return not module or str(module).partition(".")[0] in (*PACKAGES, "builtins")


CLASSES = {  # old class -> current class
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization"), "BatchNormalization"),
    **{f"Atrous{name}{rank}D": f"Conv{rank}D" for name in ("Convolution", "Conv") for rank in (1, 2)},
    **{f"Convolution{rank}D": f"Conv{rank}D" for rank in (1, 2, 3)},
    **{f"{name}{rank}D": f"Conv{rank}DTranspose" for name in ("Deconvolution",) for rank in (2, 3)},
    **{f"Convolution{rank}DTranspose": f"Conv{rank}DTranspose" for rank in (2, 3)},
    **{f"SeparableConvolution{rank}D": f"SeparableConv{rank}D" for rank in (1, 2)},
    "ThresholdedReLU": "ReLU",
    **{f"CuDNN{name}": name for name in ("LSTM", "GRU")},
    "TimeDistributedDense": "Dense",  # Dense on the last axis is the same
}

CELLS = {f"{name}Cell": name for name in ("LSTM", "GRU", "SimpleRNN")}  # the cell of an RNN -> the layer

RENAMED_KEYS = {  # class -> old key -> current key
    "LeakyReLU": {"alpha": "negative_slope"},
    "ReLU": {"theta": "threshold"},
    "MultiHeadAttention": {"output_shape": "output_size"},
}

IGNORED_KEYS = {  # they change no number, regardless of their value
    *("batch_input_shape", "batch_size", "input_shape", "input_dtype", "autocast", "shared_object_id"),
    *("fused", "synchronized", "sparse", "ragged", "implementation", "build_config", "compile_config"),
    *("input_length", "query_shape", "value_shape", "key_shape"),
}

# keys of options that a layer here may lack -> values with which they are ignored
IGNORED_VALUES: dict[str, tuple] = {
    **dict.fromkeys(("groups", "depth_multiplier"), (1,)),
    **dict.fromkeys(("filters", "weights", "input_dim", "noise_shape", "seed"), (None,)),
    **dict.fromkeys(("activity_regularizer", "kernel_regularizer", "kernel_constraint", "bias_regularizer"), (None,)),
    **dict.fromkeys(("bias_constraint", "output_padding", "quantization_config", "lora_rank", "lora_alpha"), (None,)),
    **dict.fromkeys(("virtual_batch_size", "adjustment", "renorm_clipping"), (None,)),
    **dict.fromkeys(("renorm", "keepdims", "mask_zero", "stateful"), (False,)),
    "renorm_momentum": (0.99,),
    "time_major": (False,),
    "interpolation": ("nearest",),
    "data_format": ("channels_last", None),
}
UNUSED_INITIALIZERS = ("kernel_initializer", "bias_initializer")  # Keras 2 wrote them for layers without a kernel

_INITIALIZERS_V2 = (
    *("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal", "Zeros", "Ones"),
    *("Constant", "RandomUniform", "RandomNormal", "TruncatedNormal", "VarianceScaling", "Orthogonal", "Identity"),
)
INITIALIZERS = {  # old name -> current name
    **{"zero": "zeros", "one": "ones", "uniform": "random_uniform", "normal": "random_normal"},
    **{f"{name}V2": name for name in _INITIALIZERS_V2},
}
IGNORED_INITIALIZER_KEYS = {"dtype", "verify_shape", "partition_info", "input_axes_", "shared_object_id"}  # of TF 1

ACTIVATIONS = {"softmax_v2": "softmax", "relu_v2": "relu", "swish_v2": "swish", "gelu_v2": "gelu"}
ACTIVATIONS_BEFORE_3 = {"hard_sigmoid": "hard_sigmoid_keras2"}

POLICIES: dict[str, Any] = {  # TF 2.0: the type of the input, float32 by default; Keras 2: of an Embedding's input
    **dict.fromkeys(("infer", "_infer", "int32", "int64")),
}
