"""How PyTorch lays out the weights of each kind of layer: which tensors, in which order, with which axes.

Knows kinds of layers by their names, as every file format does. PyTorch itself is not needed.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxconv.contract import Layer

Array = np.ndarray


class Tensor(NamedTuple):
    """One tensor of PyTorch's, and the leaf of params that it is.

    leaf: the leaf. name: what PyTorch calls it.
    give: our array -> PyTorch's. take: (PyTorch's array, the layer) -> ours.
    features: the axis of our array along which the features of the input lie; None where there is none.
    """

    leaf: str
    name: str
    give: Callable[[Array], Array]
    take: Callable[[Array, Any], Array]
    features: int | None = None


def tensors(layer: Layer) -> list[Tensor]:
    """Give the tensors of a layer in PyTorch's order.

    Raises:
        ValueError: a layer with weights that PyTorch has no like of.

    >>> [(tensor.leaf, tensor.name) for tensor in tensors(jaxconv.BatchNormalization())]
    [('gamma', 'weight'), ('beta', 'bias'), ('moving_mean', 'running_mean'), ('moving_variance', 'running_var')]
    """
    if not layer.leaves and not any(map(_holds, layer.children.values())):
        return []
    kind = re.sub(r"[123]D", "", type(layer).__name__)
    known = [tensor for tensor in _KINDS.get(kind, ()) if tensor.leaf in layer.leaves]
    if not known or len(known) < len(layer.leaves):
        held = sorted(layer.leaves or layer.children)
        raise ValueError(
            f"{layer.label}: PyTorch has no layer with the weights of {type(layer).__name__}, {held}; "
            f"legal: {', '.join(_KINDS)}, and layers without weights"
        )
    return known


def _holds(layer: Layer) -> bool:
    """Tell whether a layer, or one inside it, has weights."""
    return bool(layer.leaves) or any(map(_holds, layer.children.values()))


def _as_is(array: Array, layer: Any = None) -> Array:
    return array


def _turned(array: Array, layer: Any = None) -> Array:
    """Bring (*taps, inputs, outputs) to (outputs, inputs, *taps)."""
    taps = tuple(range(array.ndim - 2))
    return array.transpose(array.ndim - 1, array.ndim - 2, *taps)


def _turned_back(array: Array, layer: Any = None) -> Array:
    return array.transpose(*range(2, array.ndim), 1, 0)


def _depthwise(array: Array) -> Array:
    """Bring (*taps, channels, multiplier) to (channels * multiplier, 1, *taps)."""
    joined = array.reshape(*array.shape[:-2], 1, -1)
    return _turned(joined)


def _depthwise_back(array: Array, layer: Any) -> Array:
    if array.ndim < 2 or array.shape[1] != 1:
        raise ValueError(f"a depthwise weight has one input for each output; this one has {array.shape}")
    return _turned_back(array).reshape(*array.shape[2:], -1, layer.depth_multiplier)


def _slopes(array: Array) -> Array:
    if array.size != max(array.shape, default=1):
        raise ValueError(f"PyTorch's PReLU has a weight for each channel; alpha of shape {array.shape} has more")
    return array.ravel()


def _slopes_back(array: Array, layer: Any) -> Array:
    rank = len(layer.shared_axes or ()) + 2  # one axis of its own, for the channels
    shared = {axis % rank for axis in layer.shared_axes or ()}
    return array.reshape([1 if axis in shared else -1 for axis in range(1, rank)])


_BIAS = Tensor("bias", "bias", _as_is, _as_is)
_KERNEL = Tensor("kernel", "weight", _turned, _turned_back)
_AFFINE = (Tensor("gamma", "weight", _as_is, _as_is, 0), Tensor("beta", "bias", _as_is, _as_is, 0))
_KINDS: dict[str, tuple[Tensor, ...]] = {
    "Conv": (_KERNEL, _BIAS),
    "ConvTranspose": (_KERNEL, _BIAS),  # (*taps, filters, channels) <-> (channels, filters, *taps)
    "DepthwiseConv": (Tensor("kernel", "weight", _depthwise, _depthwise_back), _BIAS),
    "SeparableConv": (
        Tensor("depthwise_kernel", "depthwise.weight", _depthwise, _depthwise_back),
        Tensor("pointwise_kernel", "pointwise.weight", _turned, _turned_back),
        Tensor("bias", "pointwise.bias", _as_is, _as_is),
    ),
    "Dense": (Tensor("kernel", "weight", _turned, _turned_back, 0), _BIAS),
    "BatchNormalization": (
        *_AFFINE,
        Tensor("moving_mean", "running_mean", _as_is, _as_is, 0),
        Tensor("moving_variance", "running_var", _as_is, _as_is, 0),
    ),
    "LayerNormalization": _AFFINE,
    "RMSNormalization": (Tensor("scale", "weight", _as_is, _as_is, 0),),
    "GroupNormalization": _AFFINE,
    "InstanceNormalization": _AFFINE,
    "Embedding": (Tensor("embeddings", "weight", _as_is, _as_is),),
    "PReLU": (Tensor("alpha", "weight", _slopes, _slopes_back),),
}
