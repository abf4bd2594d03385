"""Weights of CuDNNLSTM and CuDNNGRU, in the layout of NVIDIA's library, and their conversion to that of LSTM and GRU.

Knows arrays and a recurrent layer's gates. Nothing of files. Source: Keras 2.15, keras/src/saving/legacy/hdf5_format.py
"""

from typing import Any

import numpy as np

from jaxconv.files.legacy.kernels import Convert


def conversion(layer: Any, leaf: str, shape: tuple, expected: tuple, bias: tuple | None) -> Convert | None:
    """Return the function that converts a weight of a cuDNN layer; None for a weight of any other layer.

    Such a layer has one vector of two biases for each gate (``bias`` is its shape), and no other layer has. Its kernels
    are those of each gate, one beside the other, transposed: the kernel in place, the recurrent kernel as it is.
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
