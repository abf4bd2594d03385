"""Conversion of kernels that Keras 1, or Theano under any Keras, stored with other axes or flipped."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxconv.contract import Layer
from jaxconv.files.legacy.dialects import Origin

Convert = Callable[[np.ndarray], np.ndarray]

# class -> the axes of Keras 1's kernel in the current order, for dim_ordering="th" and for "tf"
THEANO_AXES = {
    "Conv2D": (2, 3, 1, 0),
    "SeparableConv2D": (2, 3, 1, 0),
    "ConvLSTM2D": (2, 3, 1, 0),
    "Conv3D": (2, 3, 4, 1, 0),
    "Conv2DTranspose": (2, 3, 0, 1),
    "Conv3DTranspose": (2, 3, 4, 0, 1),
}
_TENSORFLOW_AXES = {"Conv2DTranspose": (0, 1, 3, 2), "Conv3DTranspose": (0, 1, 2, 4, 3)}
_FLIPPED = {f"Conv{rank}D{kind}" for rank in (1, 2, 3) for kind in ("", "Transpose")} | {
    "ConvLSTM2D"
}  # Keras's own list


def kernel_conversion(
    layer: Layer, leaf: str, shape: tuple[int, ...], expected: tuple[int, ...], origin: Origin
) -> Convert | None:
    """Return the function that converts a stored weight to the shape a layer expects, or None if it cannot.

    Keras 1 stored kernels of Conv1D as (steps, 1, channels, filters), and with Theano's order of dimensions those of
    two and three dimensions as (filters, channels, *window). Theano's convolution flips its kernel.
    """
    steps: list[Convert] = []
    if origin.major == 1 and leaf.endswith("kernel"):
        axes = _axes(type(layer).__name__, shape, expected, getattr(layer, "data_format", None))
        if axes is not None and len(axes) == len(shape):
            shape = tuple(shape[axis] for axis in axes)
            steps.append(lambda value: value.transpose(axes))
        if len(shape) == len(expected) + 1 and shape[1] == 1:
            shape = (shape[0], *shape[2:])
            steps.append(lambda value: value[:, 0])
    if shape != expected:
        return None
    if origin.backend == "theano" and leaf in ("kernel", "recurrent_kernel") and type(layer).__name__ in _FLIPPED:
        spatial = tuple(range(len(expected) - 2))
        steps.append(lambda value: np.flip(value, spatial))

    def convert(value: np.ndarray) -> np.ndarray:
        for step in steps:
            value = step(value)
        return value

    return convert


def _axes(
    name: str, shape: tuple[int, ...], expected: tuple[int, ...], data_format: str | None
) -> tuple[int, ...] | None:
    """Return the axes of a Keras 1 kernel in the current order, or None if the order is the same."""
    if name == "Conv1D" and len(shape) == 4:
        filters_first = shape[:2] != (expected[0], 1) or shape[3] != expected[2]  # Keras 1.1
        return (2, 3, 1, 0) if filters_first else None
    return (THEANO_AXES if data_format == "channels_first" else _TENSORFLOW_AXES).get(name)


def cudnn_conversion(layer: Any, leaf: str, shape: tuple, expected: tuple, bias: tuple | None) -> Convert | None:
    """Return the function that converts a weight of a cuDNN layer, or None for a weight of any other layer.

    Only a cuDNN layer has one vector with two biases for each gate (``bias`` is its shape). Its kernels are those of
    the gates side by side: recurrent kernels are transposed, other kernels are stored in column-major order.
    """
    gates, units = getattr(layer, "gates", ""), getattr(layer, "units", None)
    if not gates or units is None or bias is None or bias != (2 * len(gates) * units,):
        return None
    if leaf == "bias":
        rows = layer.bias_rows
        return lambda value: value.reshape(2, -1) if rows == 2 else value.reshape(2, -1).sum(0)
    if shape != expected:
        return None

    def convert(kernel: np.ndarray) -> np.ndarray:
        parts = np.split(kernel, len(gates), 1)
        transposed = [part.T if leaf == "recurrent_kernel" else part.T.reshape(part.shape, order="F") for part in parts]
        return np.concatenate(transposed, 1)

    return convert
