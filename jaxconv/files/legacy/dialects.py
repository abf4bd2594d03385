"""What Keras 1, 2 and 3 call the same thing: tables from old names to today's, and of keys that say nothing.

Data alone, and nothing of how a file is read. Where a table is silent, a key is an error that names it.
"""

from typing import Any

# -- every version

CLASSES = {  # old class -> today's
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "AtrousConv1D": "Conv1D",
    "AtrousConv2D": "Conv2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "Deconvolution2D": "Conv2DTranspose",
    "Deconvolution3D": "Conv3DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "Convolution3DTranspose": "Conv3DTranspose",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "ThresholdedReLU": "ReLU",
    "TimeDistributedDense": "Dense",  # Dense acts on the last axis, which is the same
}

RECURRENT = {  # of no family here
    *("RNN", "SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU", "Bidirectional"),
    *(f"ConvLSTM{rank}D" for rank in (1, 2, 3)),
}

RENAMED = {  # class -> old key -> today's
    "LeakyReLU": {"alpha": "negative_slope"},
    "ReLU": {"theta": "threshold"},
}

MEANINGLESS = {  # keys that change no number, whatever they say
    "batch_input_shape",
    "batch_size",
    "input_shape",
    "input_dtype",
    "autocast",
    "shared_object_id",
    "fused",
    "synchronized",
    "sparse",
    "ragged",
    "implementation",
    "build_config",
    "compile_config",
}

NOTHING: dict[str, tuple] = {  # keys that a layer may lack here, where they have one of these values
    "groups": (1,),
    "depth_multiplier": (1,),
    "filters": (None,),
    "weights": (None,),
    "input_length": (None,),
    "input_dim": (None,),
    "noise_shape": (None,),
    "seed": (None,),
    "activity_regularizer": (None,),
    "kernel_regularizer": (None,),
    "kernel_constraint": (None,),
    "bias_regularizer": (None,),
    "bias_constraint": (None,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "interpolation": ("nearest",),
    "keepdims": (False,),
    "mask_zero": (False,),
    "output_padding": (None,),
    "quantization_config": (None,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "stateful": (False,),
    "data_format": ("channels_last", None),
}
UNUSED_INITIALIZERS = ("kernel_initializer", "bias_initializer")  # written by Keras 2 for kernels a layer does not have

INITIALIZERS = {  # old name -> today's
    "zero": "zeros",
    "one": "ones",
    "uniform": "random_uniform",
    "normal": "random_normal",
    "GlorotUniformV2": "GlorotUniform",
    "GlorotNormalV2": "GlorotNormal",
    "HeUniformV2": "HeUniform",
    "HeNormalV2": "HeNormal",
    "LecunUniformV2": "LecunUniform",
    "LecunNormalV2": "LecunNormal",
    "ZerosV2": "Zeros",
    "OnesV2": "Ones",
    "ConstantV2": "Constant",
    "RandomUniformV2": "RandomUniform",
    "RandomNormalV2": "RandomNormal",
    "TruncatedNormalV2": "TruncatedNormal",
    "VarianceScalingV2": "VarianceScaling",
    "OrthogonalV2": "Orthogonal",
    "IdentityV2": "Identity",
}
INITIALIZER_KEYS = {"dtype", "verify_shape", "partition_info", "input_axes_", "shared_object_id"}  # TF 1's

ACTIVATIONS = {"softmax_v2": "softmax", "relu_v2": "relu", "swish_v2": "swish", "gelu_v2": "gelu"}
ACTIVATIONS_BEFORE_3 = {"hard_sigmoid": "hard_sigmoid_keras2"}

CONSTRAINTS = {"maxnorm": "MaxNorm", "nonneg": "NonNeg", "unitnorm": "UnitNorm"}

POLICIES: dict[str, Any] = {
    "infer": None,
    "_infer": None,
}  # TF 2.0: as the input is, float32 where nothing else is said

HOMES = ("keras", "tensorflow", "tf_keras", "jaxconv")  # whose classes mean what Keras means by their names

# -- Keras 1

_CONVOLUTION = {
    "nb_filter": "filters",
    "init": "kernel_initializer",
    "border_mode": "padding",
    "W_regularizer": "kernel_regularizer",
    "W_constraint": "kernel_constraint",
    "b_regularizer": "bias_regularizer",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "dim_ordering": "data_format",
    "atrous_rate": "dilation_rate",
    "subsample": "strides",
    "subsample_length": "strides",
    "filter_length": "kernel_size",
}
_POOLING = {
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "pool_length": "pool_size",
    "stride": "strides",
}
_ORDERED = {"dim_ordering": "data_format"}
_SEPARABLE = {
    **_CONVOLUTION,
    "init": "depthwise_initializer",
    "W_regularizer": "depthwise_regularizer",
    "W_constraint": "depthwise_constraint",
}

KERAS_1 = {  # today's class -> Keras 1's key -> today's
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose"), _CONVOLUTION),
    **dict.fromkeys(("LocallyConnected1D", "LocallyConnected2D"), _CONVOLUTION),
    "SeparableConv2D": _SEPARABLE,
    "Dense": {
        "output_dim": "units",
        "init": "kernel_initializer",
        "W_regularizer": "kernel_regularizer",
        "W_constraint": "kernel_constraint",
        "b_regularizer": "bias_regularizer",
        "b_constraint": "bias_constraint",
        "bias": "use_bias",
    },
    "Embedding": {
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "BatchNormalization": {"beta_init": "beta_initializer", "gamma_init": "gamma_initializer"},
    "PReLU": {"init": "alpha_initializer"},
    "UpSampling1D": {"length": "size"},
    "GaussianNoise": {"sigma": "stddev"},
    **{name: {"p": "rate"} for name in ("Dropout", "GaussianDropout", "SpatialDropout1D")},
    **{name: {"p": "rate", **_ORDERED} for name in ("SpatialDropout2D", "SpatialDropout3D")},
    **{f"{kind}Pooling{rank}D": _POOLING for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{kind}Pooling{rank}D": _ORDERED for kind in ("Max", "Average") for rank in (2, 3)},
    **{f"{kind}{rank}D": _ORDERED for kind in ("UpSampling", "ZeroPadding", "Cropping") for rank in (2, 3)},
}

KERAS_1_JOINED = {  # today's key -> Keras 1's keys that make it up
    "kernel_size": (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3")),
}

KERAS_1_MEANINGLESS = {"input_dim", "input_length", "weights", "output_shape", "create_spatial_masks", "init"}
KERAS_1_NOTHING: dict[str, tuple] = {"mode": (0,), "dropout": (0, 0.0), "mask_zero": (False,)}

ORDERINGS = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}

MERGES = {  # Keras 1's Merge(mode=...) -> the layer
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
}

REGULARIZERS_1 = ("WeightRegularizer", "L1L2Regularizer", "ActivityRegularizer")
CONSTRAINTS_1 = {"m": "max_value", "low": "min_value", "high": "max_value"}

# the axes of a Keras 1 kernel in the order "th", (filters, channels, *spatial), as they lie in today's
THEANO_AXES = {4: {0: 3, 1: 2, 2: 0, 3: 1}, 5: {0: 4, 1: 3, 2: 0, 3: 1, 4: 2}}
