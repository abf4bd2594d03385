"""PyTorch's layout of the weights of each kind of layer: tensors, order and axes. PyTorch is not needed."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxconv.contract import Layer

Array = np.ndarray


class Tensor(NamedTuple):
    """A tensor of PyTorch, and the leaf of params that corresponds to it.

    leaf: the leaf. name: PyTorch's name.
    to_torch: our array -> PyTorch's. from_torch: (PyTorch's array, the layer) -> ours.
    features: the axis of our array with the features of the input; None if it has none.
    """

    leaf: str
    name: str
    to_torch: Callable[[Array], Array]
    from_torch: Callable[[Array, Any], Array]
    features: int | None = None


def tensors(layer: Layer) -> list[Tensor]:
    """Return the tensors of a layer in PyTorch's order.

    Raises:
        ValueError: a layer whose weights cannot be converted.

    >>> [(tensor.leaf, tensor.name) for tensor in tensors(jaxconv.BatchNormalization())]
    [('gamma', 'weight'), ('beta', 'bias'), ('moving_mean', 'running_mean'), ('moving_variance', 'running_var')]
    """
    if not layer.leaves and not any(map(_has_weights, layer.children.values())):
        return []
    kind = re.sub(r"[123]D", "", type(layer).__name__)
    known = [tensor for tensor in _KINDS.get(kind, ()) if tensor.leaf in layer.leaves]
    if not known or len(known) < len(layer.leaves):
        raise ValueError(
            f"{layer.label}: {type(layer).__name__} cannot be converted from PyTorch or to it; layers without weights "
            f"can be, and {', '.join(_KINDS)}; its weights are {sorted(layer.leaves or layer.children)}"
        )
    return known


def leaf_layers(layer: Layer) -> list[Any]:
    """Return the innermost layers of a container or wrapper, or the layer itself."""
    return [one for child in layer.children.values() for one in leaf_layers(child)] if layer.children else [layer]


def _has_weights(layer: Layer) -> bool:
    return bool(layer.leaves) or any(map(_has_weights, layer.children.values()))


def _same(array: Array, layer: Any = None) -> Array:
    return array


def _kernel_to_torch(array: Array) -> Array:
    """Transpose (*window, inputs, outputs) to (outputs, inputs, *window)."""
    return array.transpose(array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))


def _kernel_from_torch(array: Array, layer: Any = None) -> Array:
    return array.transpose(*range(2, array.ndim), 1, 0)


def _depthwise_to_torch(array: Array) -> Array:
    """Transpose and reshape (*window, channels, multiplier) to (channels * multiplier, 1, *window)."""
    return _kernel_to_torch(array.reshape(*array.shape[:-2], 1, -1))


def _depthwise_from_torch(array: Array, layer: Any) -> Array:
    if array.ndim < 2 or array.shape[1] != 1:
        raise ValueError(f"a depthwise weight has one input for each output; this one has shape {array.shape}")
    return _kernel_from_torch(array).reshape(*array.shape[2:], -1, layer.depth_multiplier)


def _alpha_to_torch(array: Array) -> Array:
    if array.size != max(array.shape, default=1):
        raise ValueError(f"PyTorch's PReLU has a weight for each channel; alpha of shape {array.shape} has more")
    return array.ravel()


def _alpha_from_torch(array: Array, layer: Any) -> Array:
    rank = len(layer.shared_axes or ()) + 2  # one axis is not shared: the channels
    shared = {axis % rank for axis in layer.shared_axes or ()}
    return array.reshape([1 if axis in shared else -1 for axis in range(1, rank)])


_BIAS = Tensor("bias", "bias", _same, _same)
_KERNEL = Tensor("kernel", "weight", _kernel_to_torch, _kernel_from_torch)
_AFFINE = (Tensor("gamma", "weight", _same, _same, 0), Tensor("beta", "bias", _same, _same, 0))
_KINDS: dict[str, tuple[Tensor, ...]] = {
    "Conv": (_KERNEL, _BIAS),
    "ConvTranspose": (_KERNEL, _BIAS),  # (*window, filters, channels) <-> (channels, filters, *window)
    "DepthwiseConv": (Tensor("kernel", "weight", _depthwise_to_torch, _depthwise_from_torch), _BIAS),
    "SeparableConv": (
        Tensor("depthwise_kernel", "depthwise.weight", _depthwise_to_torch, _depthwise_from_torch),
        Tensor("pointwise_kernel", "pointwise.weight", _kernel_to_torch, _kernel_from_torch),
        Tensor("bias", "pointwise.bias", _same, _same),
    ),
    "Dense": (_KERNEL._replace(features=0), _BIAS),
    "BatchNormalization": (
        *_AFFINE,
        Tensor("moving_mean", "running_mean", _same, _same, 0),
        Tensor("moving_variance", "running_var", _same, _same, 0),
    ),
    "LayerNormalization": _AFFINE,
    "RMSNormalization": (Tensor("scale", "weight", _same, _same, 0),),
    "GroupNormalization": _AFFINE,
    "InstanceNormalization": _AFFINE,
    "Embedding": (Tensor("embeddings", "weight", _same, _same),),
    "PReLU": (Tensor("alpha", "weight", _alpha_to_torch, _alpha_from_torch),),
}
