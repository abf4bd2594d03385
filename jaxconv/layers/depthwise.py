"""DepthwiseConv1D, 2D, 3D and SeparableConv1D, 2D, 3D: Keras's layers, computed by :mod:`jaxconv.ops`."""

import dataclasses
from typing import Any, ClassVar

from jax import Array

from jaxconv import ops
from jaxconv.contract import Params, Shape, Weight, layers, register
from jaxconv.layers.convolving import Convolving


@dataclasses.dataclass(frozen=True)
class BaseDepthwiseConv(Convolving):
    """A depthwise convolution of any rank.

    Differs from Keras deliberately: any axis may be causal, padding may be explicit, integers are cast. Strides and
    dilation may be combined, as in Keras since 3.15.

    Args:
        kernel_size: length of the kernels in taps, one for all axes or one for each.
        strides: input steps from one output to the next.
        padding: a name, or for each axis a name or a pair (before, after); as in :class:`~jaxconv.Conv1D`.
        depth_multiplier: number of kernels for each channel.
        data_format, dilation_rate, activation, use_bias: as in :class:`~jaxconv.Conv1D`.
        depthwise_initializer, depthwise_regularizer, depthwise_constraint: for the kernels; ``axis="filter"`` means the
            taps of one kernel.
        bias_initializer, bias_regularizer, activity_regularizer, bias_constraint, padding_mode: as in
            :class:`~jaxconv.Conv1D`.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, channels * depth_multiplier).

    Params:
        kernel: (\\*kernel_size, channels, depth_multiplier), ``depthwise_initializer``.
        bias: (channels * depth_multiplier,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not valid, as early as they are known.

    >>> DepthwiseConv2D(3, depth_multiplier=2).output_shape((None, 10, 9, 3))
    (None, 8, 7, 6)
    """

    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    depth_multiplier: int = 1
    data_format: str | None = None
    dilation_rate: Any = 1
    activation: Any = None
    use_bias: bool = True
    depthwise_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    depthwise_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    depthwise_constraint: Any = None
    bias_constraint: Any = None
    padding_mode: str = dataclasses.field(default="zeros", kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset({"padding_mode"})
    leaf_names: ClassVar[dict[str, str]] = {"depthwise": "kernel"}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.rank)) if leaf == "kernel" else ()

    def width(self, channels: Any) -> Any:
        return None if channels is None else channels * self.depth_multiplier

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        return {"kernel": Weight((*self.kernel_size, channels, self.depth_multiplier), self.depthwise_initializer)}

    def convolve(self, params: Params, x: Array) -> Array:
        options = (self.strides, self.padding, self.data_format, self.dilation_rate)
        return ops.depthwise_conv(x, params["kernel"], *options, padding_mode=self.padding_mode)


@dataclasses.dataclass(frozen=True)
class BaseSeparableConv(Convolving):
    """A separable convolution of any rank.

    There is one bias, after the second convolution; nothing is applied between the two. Differs from Keras as
    :class:`DepthwiseConv1D` does.

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, dilation_rate, depth_multiplier, padding_mode: for the first convolution, as in
            :class:`DepthwiseConv1D`.
        data_format, activation, use_bias: as in :class:`~jaxconv.Conv1D`.
        depthwise_*, pointwise_*, bias_*, activity_regularizer: initializer, regularizer and constraint of each weight.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, filters).

    Params:
        depthwise_kernel: (\\*kernel_size, channels, depth_multiplier), ``depthwise_initializer``.
        pointwise_kernel: (1, ..., channels * depth_multiplier, filters), ``pointwise_initializer``.
        bias: (filters,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not valid, as early as they are known.

    Source: Chollet 2017, https://arxiv.org/abs/1610.02357

    >>> SeparableConv2D(6, 3).output_shape((None, 10, 9, 3))
    (None, 8, 7, 6)
    """

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: str | None = None
    dilation_rate: Any = 1
    depth_multiplier: int = 1
    activation: Any = None
    use_bias: bool = True
    depthwise_initializer: Any = "glorot_uniform"
    pointwise_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    depthwise_regularizer: Any = None
    pointwise_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    depthwise_constraint: Any = None
    pointwise_constraint: Any = None
    bias_constraint: Any = None
    padding_mode: str = dataclasses.field(default="zeros", kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset({"padding_mode"})
    leaf_names: ClassVar[dict[str, str]] = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        spatial = tuple(range(self.rank))
        return {"depthwise_kernel": spatial, "pointwise_kernel": (*spatial, self.rank)}.get(leaf, ())

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        shape, ones = (*self.kernel_size, channels, self.depth_multiplier), (1,) * self.rank
        mixed = (*ones, channels * self.depth_multiplier, self.filters)
        pointwise = Weight(mixed, self.pointwise_initializer)
        return {"depthwise_kernel": Weight(shape, self.depthwise_initializer), "pointwise_kernel": pointwise}

    def convolve(self, params: Params, x: Array) -> Array:
        options = (self.strides, self.padding, self.data_format, self.dilation_rate)
        kernels = (params["depthwise_kernel"], params["pointwise_kernel"])
        return ops.separable_conv(x, *kernels, *options, padding_mode=self.padding_mode)


@register(layers)
class DepthwiseConv1D(BaseDepthwiseConv, rank=1):
    """Convolve each channel with its own kernels, over one axis, such as time."""


@register(layers)
class DepthwiseConv2D(BaseDepthwiseConv, rank=2):
    """Convolve each channel with its own kernels, over two axes, the rows and columns of an image."""


@register(layers)
class DepthwiseConv3D(BaseDepthwiseConv, rank=3):
    """Convolve each channel with its own kernels, over three axes (not in Keras)."""


@register(layers, "SeparableConvolution1D")
class SeparableConv1D(BaseSeparableConv, rank=1):
    """Convolve each channel by itself, then mix the channels, over one axis, such as time."""


@register(layers, "SeparableConvolution2D")
class SeparableConv2D(BaseSeparableConv, rank=2):
    """Convolve each channel by itself, then mix the channels, over two axes, the rows and columns of an image."""


@register(layers, "SeparableConvolution3D")
class SeparableConv3D(BaseSeparableConv, rank=3):
    """Convolve each channel by itself, then mix the channels, over three axes (not in Keras)."""
