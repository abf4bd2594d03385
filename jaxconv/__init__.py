"""Keras's convolution layers as pure JAX functions.

``layer.init(key, input_shape)`` returns ``(params, apply_fn)``; ``apply_fn(params, x)`` computes the output. Layers
have Keras's names and arguments; see ``help(jaxconv.Conv1D)``. ``jaxconv.training`` trains models, and
``jaxconv.inspect`` explains their outputs.
"""

# ruff: noqa: E402  Ctrl-C is set up before the imports, which take a second

import os as _os
import signal as _signal
import sys as _sys
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

_is_command = _os.path.basename(_sys.argv[0] if _sys.argv else "") in ("jaxconv", "jaxconv.exe")
if _is_command and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C while JAX is imported ends the command without a traceback

from jaxconv import activations, constraints, initializers, regularizers
from jaxconv.allocator import keep_freed_memory
from jaxconv.contract import Apply, Effects, Layer, merge
from jaxconv.contract.symbolic import Input, SymbolicTensor
from jaxconv.data_format import image_data_format, set_image_data_format
from jaxconv.files.errors import FileError
from jaxconv.files.keras.writing import save_model
from jaxconv.files.loading import load_layer, load_model, load_weights
from jaxconv.files.safetensors import load_params, save_params
from jaxconv.files.torch import params_from_torch, params_to_torch
from jaxconv.initializers import from_keras_seed
from jaxconv.kernels.acceleration import accelerate
from jaxconv.kernels.explain import explain_lowering
from jaxconv.kernels.general import conv_general_dilated
from jaxconv.kernels.interplay import convs_saveable
from jaxconv.kernels.override import lowering
from jaxconv.layers.activation import (
    ELU,
    Activation,
    ActivityRegularization,
    Identity,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from jaxconv.layers.adaptive_pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
)
from jaxconv.layers.attention import MultiHeadAttention
from jaxconv.layers.bidirectional import Bidirectional
from jaxconv.layers.conv import Conv1D, Conv2D, Conv3D
from jaxconv.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from jaxconv.layers.conv_transpose import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from jaxconv.layers.crop_pad import Cropping1D, Cropping2D, Cropping3D, ZeroPadding1D, ZeroPadding2D, ZeroPadding3D
from jaxconv.layers.dense import Dense
from jaxconv.layers.depthwise import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    DepthwiseConv3D,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConv3D,
)
from jaxconv.layers.dropout import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from jaxconv.layers.embedding import Embedding
from jaxconv.layers.function import Function
from jaxconv.layers.global_pooling import (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
)
from jaxconv.layers.layer_normalization import (
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from jaxconv.layers.locally_connected import LocallyConnected1D, LocallyConnected2D, LocallyConnected3D
from jaxconv.layers.masking import Masking
from jaxconv.layers.merge import Add, Average, Maximum, Minimum, Multiply, Subtract
from jaxconv.layers.merge_along_axis import Concatenate, Dot
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.layers.operations import Divide, GetItem, Reciprocal
from jaxconv.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from jaxconv.layers.preprocessing import Normalization, Rescaling
from jaxconv.layers.recurrent_cells import GRU, LSTM, SimpleRNN
from jaxconv.layers.reparametrization import SpectralNormalization, WeightNormalization
from jaxconv.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from jaxconv.layers.time_distributed import TimeDistributed
from jaxconv.layers.upsampling import UpSampling1D, UpSampling2D, UpSampling3D
from jaxconv.models import Model, Parallel, Residual, Sequential
from jaxconv.ops import (
    conv,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    conv_transpose,
    depthwise_conv,
    depthwise_conv1d,
    depthwise_conv2d,
    depthwise_conv3d,
    separable_conv,
    separable_conv1d,
    separable_conv2d,
    separable_conv3d,
)
from jaxconv.serving import compile, export, load_exported, optimize
from jaxconv.streaming import Stream, stream
from jaxconv.tuning import tune
from jaxconv.version import __version__

# Keras's second names for the same classes
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
SeparableConvolution3D = SeparableConv3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D

# the public names: everything imported above except submodules
_tables = ("activations", "constraints", "initializers", "regularizers")
__all__ = [
    name
    for name, value in sorted(globals().items())
    if not name.startswith("_") and (name in _tables or not isinstance(value, _ModuleType))
]

if _TYPE_CHECKING:
    from jaxconv import inspect as inspect
    from jaxconv import training as training
else:
    _lazy = ("training", "inspect")  # imported at their first use, which takes a tenth of a second

    def __getattr__(name):
        if name in _lazy:
            return _import_module(f"jaxconv.{name}")
        hint = ""
        if not name.startswith("_"):
            places = [
                f"jaxconv.{module}.{name}" for module in _lazy if hasattr(_import_module(f"jaxconv.{module}"), name)
            ]
            hint = f"; it is {places[0]}" if places else ""
        raise AttributeError(f"module 'jaxconv' has no attribute {name!r}{hint}")

    def __dir__():
        return [*globals(), *_lazy]
