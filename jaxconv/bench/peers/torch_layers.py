"""Layers of jaxconv in PyTorch, at inference: each as a function of tensors, channels first.

Knows layers by the names of their classes and by their options, and PyTorch by its functions. All that follows from
lengths, paddings say, is worked out beforehand for one shape, as in a network that somebody wrote down by hand.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jaxconv import activations
from jaxconv.bench.agreement import Inexpressible
from jaxconv.bench.peers.torch_kernels import Function, flat, scattering, sliding, tensor
from jaxconv.contract import Layer, Params, Shape
from jaxconv.files.torch_layout import tensors


class Call(NamedTuple):
    """One call of one layer. What has the channels last here has them first in PyTorch: rank 3 and above.

    Args:
        layer: any; its options are read.
        weights: PyTorch's, by PyTorch's names.
        shapes: of the inputs, as they are here.
        first: whether the model has its channels first; then all axes stay where they are.
    """

    layer: Any
    weights: Mapping[str, Tensor]
    shapes: Sequence[Shape]
    first: bool

    @property
    def lengths(self) -> Any:
        """Give the spatial lengths of the input."""
        return self.shapes[0][2:] if self.first else self.shapes[0][1:-1]

    def axis(self, axis: int) -> int:
        """Give the place of an axis in PyTorch."""
        rank = len(self.shapes[0])
        axis %= rank
        if self.first or rank < 3 or axis == 0:
            return axis
        return 1 if axis == rank - 1 else axis + 1

    def here(self, x: Tensor) -> Tensor:
        """Give a value with its axes in the order that they have here."""
        return x if self.first or x.ndim < 3 else x.movedim(1, -1)

    def there(self, x: Tensor) -> Tensor:
        """Give a value with its axes in PyTorch's order."""
        return x if self.first or x.ndim < 3 else x.movedim(-1, 1)


def function_of(layer: Layer, params: Params, shapes: Sequence[Shape], first: bool) -> Function:
    """Give what a layer computes, as a function of tensors. The arguments are those of :class:`Call`.

    Raises:
        Inexpressible: a layer, or an option of it, that is not written here.
    """
    kind = re.sub(r"[123]D", "", type(layer).__name__)
    if kind not in _KINDS:
        raise Inexpressible(f"{type(layer).__name__} is not among the layers written for PyTorch here")
    data_format = getattr(layer, "data_format", None) if hasattr(layer, "rank") else None
    if data_format is not None and (data_format == "channels_first") != first:
        raise Inexpressible(f"its data_format is {data_format!r}, and that of other layers is not")
    if layer.policy.compute != np.float32:
        raise Inexpressible(f"it computes in {layer.policy.compute}, PyTorch here in float32")
    try:
        weights = {one.name: tensor(one.give(np.asarray(params[one.leaf], np.float32))) for one in tensors(layer)}
    except ValueError as error:
        raise Inexpressible(str(error)) from None
    return _KINDS[kind](Call(layer, weights, shapes, first))


# -- convolutions


def _slid(call: Call, weight: str, bias: str | None, groups: int) -> Function:
    layer = call.layer
    if layer.padding_mode != "zeros":
        raise Inexpressible(f"padding_mode={layer.padding_mode!r} is not written for PyTorch here")
    pads = _pads(call)
    given = None if bias is None else call.weights.get(bias)
    return sliding(call.weights[weight], given, pads, layer.strides, layer.dilation_rate, groups)


def _pads(call: Call) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of each axis; for a transposed convolution what is cut off."""
    pairs = zip(call.layer.spatial_windows(), call.lengths, strict=True)
    return tuple(window.pads(length) for window, length in pairs)


def _conv(call: Call) -> Function:
    return _activated(call, _slid(call, "weight", "bias", call.layer.groups), 1)


def _depthwise(call: Call) -> Function:
    return _activated(call, _slid(call, "weight", "bias", _channels(call)), 1)


def _separable(call: Call) -> Function:
    each, ones = _slid(call, "depthwise.weight", None, _channels(call)), (1,) * call.layer.rank
    bias = call.weights.get("pointwise.bias")
    mix = sliding(call.weights["pointwise.weight"], bias, ((0, 0),) * call.layer.rank, ones, ones, 1)
    return _activated(call, lambda x: mix(each(x)), 1)


def _conv_transpose(call: Call) -> Function:
    layer = call.layer
    known: Any = layer.output_lengths(call.lengths)
    cuts = _pads(call)
    options = (layer.strides, layer.dilation_rate, layer.groups)
    return _activated(call, scattering(call.weights["weight"], call.weights.get("bias"), cuts, known, *options), 1)


def _channels(call: Call) -> Any:
    return call.shapes[0][1 if call.first else -1]


# -- matrix products and scales


def _dense(call: Call) -> Function:
    weight, bias = call.weights["weight"], call.weights.get("bias")
    product = _activated(call, lambda x: functional.linear(x, weight, bias), -1)
    if call.first or len(call.shapes[0]) < 3:
        return product
    return lambda x: call.there(product(call.here(x)))


def _batch_normalization(call: Call) -> Function:
    mean, variance = call.weights["running_mean"], call.weights["running_var"]
    gamma, beta, epsilon = call.weights.get("weight"), call.weights.get("bias"), call.layer.epsilon

    def normalize(x: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)

    place = call.axis(call.layer.axis)
    return normalize if place == 1 else lambda x: normalize(x.movedim(place, 1)).movedim(1, place)


def _rescaling(call: Call) -> Function:
    scale, offset = (constant.numpy() for constant in (call.layer.scale, call.layer.offset))
    if scale.size != 1 or offset.size != 1:
        raise Inexpressible("Rescaling by more than one number is not written for PyTorch here")
    by, more = scale.item(), offset.item()
    return lambda x: x * by + more


# -- activations

_POINTWISE: dict[str, Function] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": functional.elu,
    "celu": functional.celu,
    "selu": functional.selu,
    "silu": functional.silu,
    "hard_silu": functional.hardswish,
    "gelu": functional.gelu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "log_sigmoid": functional.logsigmoid,
    "tanh": torch.tanh,
    "tanh_shrink": functional.tanhshrink,
    "hard_tanh": functional.hardtanh,
    "hard_shrink": functional.hardshrink,
    "soft_shrink": functional.softshrink,
    "softsign": functional.softsign,
    "exponential": torch.exp,
}
_ALONG: dict[str, Function] = {
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "glu": functional.glu,
}


def _activated(call: Call, run: Function, axis: int) -> Function:
    """Give ``run`` with the layer's activation after it, which works along ``axis`` where it works along one."""
    try:
        name = activations.serialize(call.layer.activation)
    except ValueError as error:
        raise Inexpressible(str(error)) from None
    if name == "linear":
        return run
    if name in _ALONG:
        along = _ALONG[name]
        return lambda x: along(run(x), axis)
    if name not in _POINTWISE:
        raise Inexpressible(f"the activation {name!r} is not written for PyTorch here")
    pointwise = _POINTWISE[name]
    return lambda x: pointwise(run(x))


def _activation(call: Call) -> Function:
    return _activated(call, lambda x: x, call.axis(-1))


def _relu(call: Call) -> Function:
    most, slope, threshold = call.layer.max_value, call.layer.negative_slope, call.layer.threshold
    if threshold or (slope and most is not None):
        raise Inexpressible("a ReLU with a threshold, or with both bound and slope, is not written for PyTorch here")
    if most is not None:
        return lambda x: x.clamp(0, most)
    return (lambda x: functional.leaky_relu(x, slope)) if slope else functional.relu


def _leaky_relu(call: Call) -> Function:
    slope = call.layer.negative_slope
    return lambda x: functional.leaky_relu(x, slope)


def _elu(call: Call) -> Function:
    alpha = call.layer.alpha
    return lambda x: functional.elu(x, alpha)


def _prelu(call: Call) -> Function:
    alpha, shape = call.weights["weight"], call.shapes[0]
    axes = {axis % len(shape) for axis in call.layer.shared_axes or ()}
    if axes != set(range(1, len(shape))) - {1 if call.first else len(shape) - 1}:
        raise Inexpressible("PyTorch's PReLU has a slope for each channel, this one other ones")
    return lambda x: functional.prelu(x, alpha)


def _softmax(call: Call) -> Function:
    if not isinstance(call.layer.axis, int):
        raise Inexpressible("a Softmax over several axes at once is not written for PyTorch here")
    axis = call.axis(call.layer.axis)
    return lambda x: torch.softmax(x, axis)


# -- pooling


def _pooled(call: Call) -> tuple[Any, bool]:
    """Give the pads of each axis, and whether they are the same on both sides."""
    pads = _pads(call)
    return pads, all(before == after for before, after in pads)


def _max_pooling(call: Call) -> Function:
    size, strides, (pads, even) = call.layer.pool_size, call.layer.strides, _pooled(call)
    pool = getattr(functional, f"max_pool{call.layer.rank}d")
    if even:
        alike = tuple(before for before, _ in pads)
        return lambda x: pool(x, size, strides, alike)
    around = flat(pads)
    return lambda x: pool(functional.pad(x, around, value=-torch.inf), size, strides)


def _average_pooling(call: Call) -> Function:
    size, strides, (pads, even) = call.layer.pool_size, call.layer.strides, _pooled(call)
    pool = getattr(functional, f"avg_pool{call.layer.rank}d")
    if even:
        alike = tuple(before for before, _ in pads)
        return lambda x: pool(x, size, strides, alike, False, False)  # padding does not count
    around = flat(pads)
    there = pool(functional.pad(torch.ones(1, 1, *call.lengths), around), size, strides)
    return lambda x: pool(functional.pad(x, around), size, strides) / there


def _global(reduce: Callable) -> Callable[[Call], Function]:
    def build(call: Call) -> Function:
        axes, keep = tuple(range(2, 2 + call.layer.rank)), call.layer.keepdims
        return lambda x: reduce(x, axes, keepdim=keep)

    return build


# -- several inputs


def _merging(together: Callable[..., Tensor]) -> Callable[[Call], Function]:
    def build(call: Call) -> Function:
        if len({len(shape) for shape in call.shapes}) > 1:
            raise Inexpressible(
                f"{type(call.layer).__name__} of inputs of several ranks is not written for PyTorch here"
            )
        return lambda *xs: functools.reduce(together, xs)

    return build


def _average(call: Call) -> Function:
    total, count = _merging(torch.add)(call), len(call.shapes)
    return lambda *xs: total(*xs) / count


def _concatenate(call: Call) -> Function:
    axis = call.axis(call.layer.axis)
    return lambda *xs: torch.cat(xs, axis)


# -- what moves values


def _flatten(call: Call) -> Function:
    if call.layer.data_format == "channels_first" and len(call.shapes[0]) > 2:
        return lambda x: call.here(x).movedim(1, -1).flatten(1)
    return lambda x: call.here(x).flatten(1)


def _reshape(call: Call) -> Function:
    shape = call.layer.output_shape(call.shapes[0])
    return lambda x: call.there(call.here(x).reshape(shape))


def _permute(call: Call) -> Function:
    order = (0, *call.layer.dims)
    return lambda x: call.there(call.here(x).permute(order))


def _repeat_vector(call: Call) -> Function:
    count = call.layer.n
    return lambda x: call.there(x[:, None].expand(-1, count, -1))


def _zero_padding(call: Call) -> Function:
    around = flat(call.layer.padding)
    return lambda x: functional.pad(x, around)


def _cropping(call: Call) -> Function:
    around = [-size for size in flat(call.layer.cropping)]
    return lambda x: functional.pad(x, around)


def _up_sampling(call: Call) -> Function:
    if call.layer.interpolation != "nearest":
        raise Inexpressible(f"interpolation={call.layer.interpolation!r} is not written for PyTorch here")
    lengths = [n * factor for n, factor in zip(call.lengths, call.layer.size, strict=True)]
    return lambda x: functional.interpolate(x, lengths)


_KINDS: dict[str, Callable[[Call], Function]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthwiseConv": _depthwise,
    "SeparableConv": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "Rescaling": _rescaling,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "MaxPooling": _max_pooling,
    "AveragePooling": _average_pooling,
    "GlobalMaxPooling": _global(torch.amax),
    "GlobalAveragePooling": _global(torch.mean),
    "Add": _merging(torch.add),
    "Subtract": _merging(torch.sub),
    "Multiply": _merging(torch.mul),
    "Average": _average,
    "Maximum": _merging(torch.maximum),
    "Minimum": _merging(torch.minimum),
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    "ZeroPadding": _zero_padding,
    "Cropping": _cropping,
    "UpSampling": _up_sampling,
}
