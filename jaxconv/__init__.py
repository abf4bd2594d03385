"""jaxconv: Keras's convolution layers as pure JAX functions."""

from types import ModuleType as _ModuleType

from jaxconv import activations, constraints, initializers, regularizers
from jaxconv.data_format import image_data_format, set_image_data_format
from jaxconv.initializers import from_keras_seed
from jaxconv.kernels.general import conv_general_dilated
from jaxconv.layers.activation import Activation
from jaxconv.layers.conv import Conv1D, Conv2D, Conv3D
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.layer import Apply, Effects, Layer, merge
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from jaxconv.layers.reshaping import Cropping1D, Cropping2D, Cropping3D, Flatten
from jaxconv.models import Sequential
from jaxconv.ops import conv, conv1d, conv2d, conv3d

__version__ = "0.1.0"

# Keras's second names for the same classes
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)

# what was imported above, without the submodules that came along: the public names, listed once
_tables = ("activations", "constraints", "initializers", "regularizers")
__all__ = [
    name
    for name, value in sorted(globals().items())
    if not name.startswith("_") and (name in _tables or not isinstance(value, type(activations)))
]
