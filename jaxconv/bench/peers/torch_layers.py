"""Layers of jaxconv in PyTorch: each as a function of tensors with channels first.

Layers are identified by their class name and options. Padding and other sizes are computed once for one input shape,
as in a network written by hand.
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
from jaxconv.bench.agreement import Unsupported
from jaxconv.contract import Layer, Params, Shape
from jaxconv.files.torch_layout import tensors

Function = Callable[..., Tensor]


def tensor(array: np.ndarray) -> Tensor:
    """Copy an array to a tensor."""
    return torch.from_numpy(np.array(array, order="C"))


def flat_pads(pairs: Any) -> list[int]:
    """Convert pads to the form of ``functional.pad``: the last axis first."""
    return [size for pair in reversed(pairs) for size in pair]


def convolution(weight: Tensor, bias: Any, pads: Any, strides: Any, dilation: Any, groups: int) -> Function:
    """Return a convolution with ``pads``, (before, after) for each axis."""
    convolve = getattr(functional, f"conv{len(pads)}d")
    if all(before == after for before, after in pads):
        symmetric = tuple(before for before, _ in pads)
        return lambda x: convolve(x, weight, bias, strides, symmetric, dilation, groups)
    flat = flat_pads(pads)
    return lambda x: convolve(functional.pad(x, flat), weight, bias, strides, 0, dilation, groups)


def transposed_convolution(
    weight: Tensor, bias: Any, crops: Any, lengths: Sequence[int], strides: Any, dilation: Any, groups: int
) -> Function:
    """Return a transposed convolution that crops (before, after) on each axis to ``lengths``.

    A negative ``after`` appends zeros.
    """
    convolve = getattr(functional, f"conv_transpose{len(crops)}d")
    padding = tuple(max(0, min(pair)) for pair in crops)
    appended = tuple(max(0, -after) for _, after in crops)
    starts = [before - pad for (before, _), pad in zip(crops, padding, strict=True)]
    if all(start == 0 and after <= pad for start, (_, after), pad in zip(starts, crops, padding, strict=True)):
        return lambda x: convolve(x, weight, bias, strides, padding, appended, groups, dilation)
    cropped = (..., *(slice(start, start + length) for start, length in zip(starts, lengths, strict=True)))
    return lambda x: convolve(x, weight, bias, strides, padding, appended, groups, dilation)[cropped]


class Call(NamedTuple):
    """One call of a layer. Values of rank 3 and above with channels last in jaxconv have channels first in PyTorch.

    weights: by PyTorch's names and in PyTorch's layout. shapes: those of the inputs in jaxconv. channels_first: whether
    the model has channels first; then the axes have the same order.
    """

    layer: Any
    weights: Mapping[str, Tensor]
    shapes: Sequence[Shape]
    channels_first: bool

    @property
    def lengths(self) -> Any:
        """Return the spatial lengths of the input."""
        return self.shapes[0][2:] if self.channels_first else self.shapes[0][1:-1]

    def axis(self, axis: int) -> int:
        """Return the index of an axis in PyTorch."""
        rank = len(self.shapes[0])
        axis %= rank
        if self.channels_first or rank < 3 or axis == 0:
            return axis
        return 1 if axis == rank - 1 else axis + 1

    def to_jaxconv(self, x: Tensor) -> Tensor:
        """Move the axes to jaxconv's order."""
        return x if self.channels_first or x.ndim < 3 else x.movedim(1, -1)

    def to_torch(self, x: Tensor) -> Tensor:
        """Move the axes to PyTorch's order."""
        return x if self.channels_first or x.ndim < 3 else x.movedim(-1, 1)


def function_of(
    layer: Layer, params: Params, shapes: Sequence[Shape], channels_first: bool
) -> tuple[Function, dict[str, Tensor]]:
    """Return the computation of a layer as a function of tensors, and its weights. Raises Unsupported.

    The arguments are those of :class:`Call`.
    """
    kind = re.sub(r"[123]D", "", type(layer).__name__)
    if kind not in _BUILDERS:
        raise Unsupported(f"{type(layer).__name__} is not implemented for PyTorch")
    data_format = getattr(layer, "data_format", None) if hasattr(layer, "rank") else None
    if data_format is not None and (data_format == "channels_first") != channels_first:
        raise Unsupported(f"its data_format is {data_format!r}, unlike that of other layers")
    if layer.policy.compute != np.float32:
        raise Unsupported(f"it computes in {layer.policy.compute}; the PyTorch implementation uses float32")
    try:
        weights = {one.name: tensor(one.to_torch(np.asarray(params[one.leaf], np.float32))) for one in tensors(layer)}
    except ValueError as error:
        raise Unsupported(str(error)) from None
    return _BUILDERS[kind](Call(layer, weights, shapes, channels_first)), weights


# -- convolutions


def _convolution(call: Call, groups: int, weight: str = "weight", bias: str = "bias") -> Function:
    layer = call.layer
    if layer.padding_mode != "zeros":
        raise Unsupported(f"padding_mode={layer.padding_mode!r} is not implemented for PyTorch")
    pads = _pads(call)
    return convolution(call.weights[weight], call.weights.get(bias), pads, layer.strides, layer.dilation_rate, groups)


def _pads(call: Call) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of each axis; for a transposed convolution, the steps cropped."""
    windows = call.layer.windows(call.shapes[0])
    spatial = windows[1:] if call.channels_first else windows[:-1]
    return tuple(window.pads(length) for window, length in zip(spatial, call.lengths, strict=True))


def _separable(call: Call) -> Function:
    spatial, ones = _convolution(call, _channels(call), "depthwise.weight", "depthwise.bias"), (1,) * call.layer.rank
    bias = call.weights.get("pointwise.bias")
    pointwise = convolution(call.weights["pointwise.weight"], bias, ((0, 0),) * call.layer.rank, ones, ones, 1)
    return _activate(call, lambda x: pointwise(spatial(x)), 1)


def _conv_transpose(call: Call) -> Function:
    layer = call.layer
    lengths: Any = layer.output_lengths(call.lengths)
    weight, bias, options = call.weights["weight"], call.weights.get("bias"), (layer.strides, layer.dilation_rate)
    run = transposed_convolution(weight, bias, _pads(call), lengths, *options, layer.groups)
    return _activate(call, run, 1)


def _channels(call: Call) -> Any:
    return call.shapes[0][1 if call.channels_first else -1]


# -- dense layers and normalization


def _dense(call: Call) -> Function:
    weight, bias = call.weights["weight"], call.weights.get("bias")
    product = _activate(call, lambda x: functional.linear(x, weight, bias), -1)
    return lambda x: call.to_torch(product(call.to_jaxconv(x)))


def _batch_normalization(call: Call) -> Function:
    mean, variance = call.weights["running_mean"], call.weights["running_var"]
    gamma, beta, epsilon = call.weights.get("weight"), call.weights.get("bias"), call.layer.epsilon

    def normalize(x: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, gamma, beta, torch.is_grad_enabled(), 0.1, epsilon)

    axis = call.axis(call.layer.axis)
    return normalize if axis == 1 else lambda x: normalize(x.movedim(axis, 1)).movedim(1, axis)


def _rescaling(call: Call) -> Function:
    scale, offset = (constant.numpy() for constant in (call.layer.scale, call.layer.offset))
    if scale.size != 1 or offset.size != 1:
        raise Unsupported("Rescaling by more than one number is not implemented for PyTorch")
    factor, shift = scale.item(), offset.item()
    return lambda x: x * factor + shift


# -- activations

_SAME_NAMES = ("relu", "relu6", "elu", "celu", "selu", "silu", "gelu", "mish", "softplus", "softsign")
_POINTWISE: dict[str, Function] = {
    **{name: getattr(functional, name) for name in _SAME_NAMES},
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "hard_silu": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "log_sigmoid": functional.logsigmoid,
    "tanh": torch.tanh,
    "tanh_shrink": functional.tanhshrink,
    "hard_tanh": functional.hardtanh,
    "hard_shrink": functional.hardshrink,
    "soft_shrink": functional.softshrink,
    "exponential": torch.exp,
}
_ALONG: dict[str, Function] = {
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
    "glu": functional.glu,
}


def _activate(call: Call, run: Function, axis: int) -> Function:
    """Apply the layer's activation to the result of ``run``, along ``axis`` if it works along an axis."""
    try:
        name = activations.serialize(call.layer.activation)
    except ValueError as error:
        raise Unsupported(str(error)) from None
    if name == "linear":
        return run
    if name in _ALONG:
        along = _ALONG[name]
        return lambda x: along(run(x), axis)
    if name not in _POINTWISE:
        raise Unsupported(f"the activation {name!r} is not implemented for PyTorch")
    pointwise = _POINTWISE[name]
    return lambda x: pointwise(run(x))


def _relu(call: Call) -> Function:
    bound, slope, threshold = call.layer.max_value, call.layer.negative_slope, call.layer.threshold
    if threshold or (slope and bound is not None):
        raise Unsupported("a ReLU with a threshold, or with both bound and slope, is not implemented for PyTorch")
    if bound is not None:
        return lambda x: x.clamp(0, bound)
    return (lambda x: functional.leaky_relu(x, slope)) if slope else functional.relu


def _prelu(call: Call) -> Function:
    alpha, shape = call.weights["weight"], call.shapes[0]
    axes = {axis % len(shape) for axis in call.layer.shared_axes or ()}
    if axes != set(range(1, len(shape))) - {1 if call.channels_first else len(shape) - 1}:
        raise Unsupported("PyTorch's PReLU has one slope per channel")
    return lambda x: functional.prelu(x, alpha)


def _softmax(call: Call) -> Function:
    if not isinstance(call.layer.axis, int):
        raise Unsupported("a Softmax over several axes at once is not implemented for PyTorch")
    axis = call.axis(call.layer.axis)
    return lambda x: torch.softmax(x, axis)


# -- pooling


def _pooling(call: Call) -> Function:
    largest = "Max" in type(call.layer).__name__
    pool = getattr(functional, f"{'max' if largest else 'avg'}_pool{call.layer.rank}d")
    size, strides, pads = call.layer.pool_size, call.layer.strides, _pads(call)
    if all(before == after for before, after in pads):
        symmetric = tuple(before for before, _ in pads)
        counts = {} if largest else {"count_include_pad": False}
        return lambda x: pool(x, size, strides, symmetric, **counts)
    flat = flat_pads(pads)
    if largest:
        return lambda x: pool(functional.pad(x, flat, value=-torch.inf), size, strides)
    share = pool(functional.pad(torch.ones(1, 1, *call.lengths), flat), size, strides)
    return lambda x: pool(functional.pad(x, flat), size, strides) / share


def _global(reduce: Callable) -> Callable[[Call], Function]:
    def build(call: Call) -> Function:
        axes, keep = tuple(range(2, 2 + call.layer.rank)), call.layer.keepdims
        return lambda x: reduce(x, axes, keepdim=keep)

    return build


# -- merging


def _merging(combine: Callable[..., Tensor], mean: bool = False) -> Callable[[Call], Function]:
    def build(call: Call) -> Function:
        if len({len(shape) for shape in call.shapes}) > 1:
            raise Unsupported(
                f"{type(call.layer).__name__} with inputs of different ranks is not implemented for PyTorch"
            )
        if mean:
            return lambda *xs: functools.reduce(combine, xs) / len(xs)
        return lambda *xs: functools.reduce(combine, xs)

    return build


# -- reshaping


def _flatten(call: Call) -> Function:
    if call.layer.data_format == "channels_first" and len(call.shapes[0]) > 2:
        return lambda x: call.to_jaxconv(x).movedim(1, -1).flatten(1)
    return lambda x: call.to_jaxconv(x).flatten(1)


def _reshape(call: Call) -> Function:
    shape = call.layer.output_shape(call.shapes[0])
    return lambda x: call.to_torch(call.to_jaxconv(x).reshape(shape)).contiguous()


def _up_sampling(call: Call) -> Function:
    if call.layer.interpolation != "nearest":
        raise Unsupported(f"interpolation={call.layer.interpolation!r} is not implemented for PyTorch")
    lengths = [n * factor for n, factor in zip(call.lengths, call.layer.size, strict=True)]
    return lambda x: functional.interpolate(x, lengths)


_BUILDERS: dict[str, Callable[[Call], Function]] = {
    "Conv": lambda call: _activate(call, _convolution(call, call.layer.groups), 1),
    "ConvTranspose": _conv_transpose,
    "DepthwiseConv": lambda call: _activate(call, _convolution(call, _channels(call)), 1),
    "SeparableConv": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_normalization,
    "Rescaling": _rescaling,
    "Activation": lambda call: _activate(call, lambda x: x, call.axis(-1)),
    "ReLU": _relu,
    "LeakyReLU": lambda call: functools.partial(functional.leaky_relu, negative_slope=call.layer.negative_slope),
    "ELU": lambda call: functools.partial(functional.elu, alpha=call.layer.alpha),
    "PReLU": _prelu,
    "Softmax": _softmax,
    "MaxPooling": _pooling,
    "AveragePooling": _pooling,
    "GlobalMaxPooling": _global(torch.amax),
    "GlobalAveragePooling": _global(torch.mean),
    "Add": _merging(torch.add),
    "Subtract": _merging(torch.sub),
    "Multiply": _merging(torch.mul),
    "Average": _merging(torch.add, mean=True),
    "Maximum": _merging(torch.maximum),
    "Minimum": _merging(torch.minimum),
    "Concatenate": lambda call: lambda *xs: torch.cat(xs, call.axis(call.layer.axis)),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": lambda call: lambda x: call.to_torch(call.to_jaxconv(x).permute(0, *call.layer.dims)),
    "RepeatVector": lambda call: lambda x: call.to_torch(x[:, None].expand(-1, call.layer.n, -1)),
    "ZeroPadding": lambda call: functools.partial(functional.pad, pad=flat_pads(call.layer.padding)),
    "Cropping": lambda call: functools.partial(functional.pad, pad=[-size for size in flat_pads(call.layer.cropping)]),
    "UpSampling": _up_sampling,
}
