"""What every layer with a sliding kernel shares: its sizes, the places of its axes, bias and activation.

Knows no particular convolution, and declares no fields: their order is each family's own, as in Keras.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Any, ClassVar, Self

import jax
import numpy as np

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.contract.at_inference import Affine, cast, wide
from jaxconv.contract.layer import Layer, Params, Shape, Weight, as_shape
from jaxconv.contract.masks import Windows, hide
from jaxconv.contract.measures import Window, placed
from jaxconv.layers.activation_axis import activate, activated_width, is_linear
from jaxconv.ops.operands import as_padding_mode, check_mode

Array = jax.Array


class Convolving(Layer):
    """A layer that slides kernels over ``rank`` spatial axes. Its fields bear Keras's names.

    A subclass gives ``kernels`` (the weights but for the bias), ``width`` (how many channels come out, before the
    activation) and ``convolve``; it may change ``spatial`` (output lengths).
    """

    rank: ClassVar[int]
    causal: ClassVar[bool] = True  # whether "causal" is a padding

    # the fields that every family has, wherever in its order
    kernel_size: Any
    strides: Any
    padding: Any
    data_format: str | None
    activation: Any
    use_bias: bool
    bias_initializer: Any
    dilation_rate: Any = (1,)  # a family without dilation has no such field
    padding_mode: str = "zeros"
    groups: int = 1

    def canonical(self, **more: Any) -> None:
        """Bring the shared fields to their canonical form, and set ``more``."""
        where, rank = type(self).__name__, self.rank
        self._set(
            kernel_size=geo.as_sizes(self.kernel_size, rank, "kernel_size", where),
            strides=geo.as_sizes(self.strides, rank, "strides", where),
            padding=geo.as_padding(self.padding, rank, where, causal=self.causal),
            data_format=formats.canonical(self.data_format, where),
            dilation_rate=geo.as_sizes(self.dilation_rate if self._dilates else 1, rank, "dilation_rate", where),
            padding_mode=as_padding_mode(self.padding_mode, where),
            groups=geo.as_size(self.groups, "groups", where),
            **more,
        )
        filters = getattr(self, "filters", None)  # depthwise layers have none: their width follows from the input
        if filters is None:
            return
        if filters % self.groups:
            raise ValueError(
                f"{where}: filters={filters} do not divide into groups={self.groups}; "
                f"filters must be a multiple of {self.groups}"
            )
        activated_width(self.activation, filters, where)

    @property
    def _dilates(self) -> bool:
        return "dilation_rate" in type(self).__dataclass_fields__

    def refuse_strides_with_dilation(self, function: str) -> None:
        """Raise the ValueError that Keras documents for strides above 1 with a dilation above 1."""
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{type(self).__name__}: strides={self.strides} above 1 with dilation_rate={self.dilation_rate} above "
                "1 is not legal by default, as Keras documents; set one to 1, or strides_with_dilation=True, or call "
                f"jaxconv.{function}, which computes both"
            )

    # -- what a subclass says

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        """Give the weights but for the bias, for an input of these channels and spatial lengths."""
        raise TypeError(f"{type(self).__name__} does not say this")

    def width(self, channels: int | None) -> int | None:
        """Give the channel count of the output before the activation."""
        raise TypeError(f"{type(self).__name__} does not say this")

    def convolve(self, params: Params, x: Array) -> Array:
        """Give the output before bias and activation."""
        raise TypeError(f"{type(self).__name__} does not say this")

    def spatial(self, lengths: Shape) -> Shape:
        """Give the spatial lengths of the output."""
        where = type(self).__name__
        sizes = (lengths, self.kernel_size, self.strides, self.dilation_rate)
        if self.padding_mode != "zeros":
            check_mode(where, self.padding_mode, lengths, geo.pads(self.padding, *sizes))
        return geo.output_lengths(self.padding, *sizes, where)

    def bias_shape(self, channels: int, lengths: Shape) -> tuple[int, ...]:
        """Give the shape of the bias."""
        return (self._known_width(channels),)

    # -- the contract

    @property
    def leaves(self) -> dict[str, str]:
        return {"kernel": "kernel"} | self._bias_leaf

    @property
    def _bias_leaf(self) -> dict[str, str]:
        return {"bias": "bias"} if self.use_bias else {}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.rank + 1)) if leaf.endswith("kernel") else ()

    def _known_width(self, channels: int) -> int:
        width = self.width(channels)
        assert width is not None  # channels are known
        return width

    def _parts(self, shape: Shape) -> tuple[int | None, Shape]:
        """Give the channel count and the spatial lengths of an input's shape, after checking its rank."""
        formats.check_rank(shape, self.rank, str(self.data_format), type(self).__name__)
        last = self.data_format == "channels_last"
        return shape[-1 if last else 1], shape[1:-1] if last else shape[2:]

    def check_channels(self, channels: int, shape: Shape) -> None:
        """Raise ValueError for a channel count that this layer cannot take."""
        if channels < 1 or channels % self.groups:
            raise ValueError(
                f"{type(self).__name__}: input of shape {shape} has {channels} channels, which do not divide into "
                f"groups={self.groups}; the count must be a positive multiple of {self.groups}"
            )

    def output_shape(self, input_shape: Any) -> Shape:
        where = type(self).__name__
        shape = as_shape(input_shape, where)
        channels, lengths = self._parts(shape)
        if channels is not None:
            self.check_channels(channels, shape)
        out, width = self.spatial(lengths), self.width(channels)
        width = None if width is None else activated_width(self.activation, width, where)
        return (shape[0], *out, width) if self.data_format == "channels_last" else (shape[0], width, *out)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        channels, lengths = self._parts(input_shape)
        if channels is None:
            raise ValueError(
                f"{type(self).__name__}: the channel count in input shape {input_shape} is None; "
                "the kernel's shape depends on it, so give a number"
            )
        bias = {"bias": Weight(self.bias_shape(channels, lengths), self.bias_initializer)} if self.use_bias else {}
        return self.kernels(channels, lengths) | bias

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        own = {leaf: value.astype(x.dtype) for leaf, value in params.items()}
        y, last = self.convolve(own, x), self.data_format == "channels_last"
        if self.use_bias:
            bias = own["bias"]
            bias = bias.reshape((1,) * (self.rank + 1 - bias.ndim) + bias.shape)  # one for all places, or one for each
            y = y + (bias if last else bias.transpose(self.rank, *range(self.rank)))[None]
        return activate(self.activation, y, -1 if last else 1), {}

    def call_masked(self, params: Params, x: Array, mask: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.rank > 1:
            return self.call(params, x, train=train, key=key)
        windows = self._windows()
        if windows.in_place:
            return self.call(params, hide(x, mask, self.mask_layouts(3)), train=train, key=key)
        placed = windows.place(x, mask, 1 if self.data_format == "channels_last" else 2)
        alone: Any = self  # the fields are the subclass's
        return dataclasses.replace(alone, padding="valid", padding_mode="zeros").call(
            params, placed, train=train, key=key
        )

    def output_mask(self, x: Array, mask: Any) -> Any:
        return super().output_mask(x, mask) if mask is None or self.rank > 1 else self._windows().output_mask(mask)

    def _windows(self) -> Windows:
        """Give the window along the one axis."""
        (size,), (stride,), (rate,) = self.kernel_size, self.strides, self.dilation_rate
        return Windows(size, stride, rate, geo.each_axis(self.padding, 1)[0], self.padding_mode)

    # -- measures

    def kernel_places(self, lengths: Shape) -> Shape:
        """Give on how many places of each axis the whole kernel is applied: those of the output."""
        return self.spatial(lengths)

    def multiply_adds(self, input_shape: Any) -> int | None:
        channels, lengths = self._parts(as_shape(input_shape, type(self).__name__))
        if channels is None or None in self.spatial(lengths):
            return None
        sizes = sum(math.prod(weight.shape) for weight in self.kernels(channels, lengths).values())
        places: Any = self.kernel_places(lengths)  # known, as the lengths are
        return math.prod(places) * sizes

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        lengths = self._parts(as_shape(input_shape, type(self).__name__))[1]
        sizes = (self.kernel_size, self.strides, self.dilation_rate)
        before = [pair[0] for pair in geo.pads(self.padding, lengths, *sizes)]
        each = zip(before, *sizes, strict=True)
        return placed(
            self.data_format, [Window(-b, geo.dilate(k, rate) - 1 - b, Fraction(s)) for b, k, s, rate in each]
        )

    # -- at inference: a scale and a shift of each channel, before or after, go into kernels and bias

    def scaled(self, leaves: dict[str, np.ndarray], scale: np.ndarray) -> dict[str, np.ndarray] | None:
        """Give the kernels that make each output channel ``scale`` times what it was; None where there are none."""
        return None

    def fed(
        self, leaves: dict[str, np.ndarray], scale: np.ndarray, shift: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
        """Give (kernels for an input that was not scaled yet, what ``shift`` at every place adds to each output)."""
        return None

    def _with_bias(self) -> Self:
        changes: dict[str, Any] = {"use_bias": True}  # a field of every family's
        return dataclasses.replace(self, **changes)

    def _on_channels(self, axis: int) -> bool:
        channels = self.rank + 1 if self.data_format == "channels_last" else 1
        return axis % (self.rank + 2) == channels

    def absorb_after(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        if not is_linear(self.activation) or not self._on_channels(affine.axis):
            return None
        own = wide(params)
        kernels = self.scaled(own, affine.scale)
        if kernels is None:
            return None
        bias = affine.scale * own.get("bias", np.zeros(1)) + affine.shift
        return self._with_bias(), cast({**kernels, "bias": bias}, params)

    def absorb_before(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        inside = all(rule in ("valid", (0, 0)) for rule in geo.each_axis(self.padding, self.rank))
        # zeros in the padding would have to be shifted, too; other modes pad with what is shifted already
        if not self._on_channels(affine.axis) or (affine.shift.any() and not inside and self.padding_mode == "zeros"):
            return None
        own = wide(params)
        fed = self.fed(own, affine.scale, affine.shift)
        if fed is None:
            return None
        bias = own.get("bias", np.zeros(1)) + fed[1]
        return self._with_bias(), cast({**fed[0], "bias": bias}, params)
