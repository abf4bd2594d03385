"""The base of the layers that slide kernels over an input: sizes, windows, bias and activation.

It declares no fields: their order differs between the families, as in Keras.
"""

from typing import Any, ClassVar

from jax import Array

from jaxconv import geometry as geo
from jaxconv.contract import Effects, Layer, Params, Shape, Weight, Window, whole
from jaxconv.contract.spatial import spatial_lengths, with_channels
from jaxconv.layers.activation_axis import activate, activated_width
from jaxconv.layers.options import known_channels
from jaxconv.layers.sharding import broadcast_like
from jaxconv.ops.operands import as_padding_mode
from jaxconv.windows import output_lengths


class Convolving(Layer):
    """A layer that slides kernels over ``rank`` spatial axes. Its fields have Keras's names.

    A subclass implements ``kernels`` (the weights except the bias), ``width`` (the output channels before the
    activation) and ``convolve``.
    """

    causal: ClassVar[bool] = True  # whether padding="causal" is valid

    # the fields of every family; their order differs
    kernel_size: Any
    strides: Any
    padding: Any
    data_format: str | None
    activation: Any
    use_bias: bool
    bias_initializer: Any
    dilation_rate: Any = 1  # a family without dilation has no such field
    padding_mode: str = "zeros"
    groups: int = 1

    checks: ClassVar[dict[str, Any]] = dict.fromkeys(("filters", "depth_multiplier", "groups"), geo.as_size)
    output_values: ClassVar[str | None] = "activation"

    def __post_init__(self) -> None:
        super().__post_init__()
        where, rank = type(self).__name__, self.rank
        self._set(
            kernel_size=geo.as_sizes(self.kernel_size, rank, "kernel_size", where),
            strides=geo.as_sizes(self.strides, rank, "strides", where),
            padding=geo.as_padding(self.padding, rank, where, causal=self.causal),
            dilation_rate=geo.as_sizes(self.dilation_rate, rank, "dilation_rate", where),
            padding_mode=as_padding_mode(self.padding_mode, where),
        )
        filters = getattr(self, "filters", None)
        if filters is None:  # a depthwise layer: its width depends on the input
            return
        if filters % self.groups:
            what = f"filters={filters} do not divide into groups={self.groups}"
            raise ValueError(f"{where}: {what}; filters must be a multiple of {self.groups}")
        activated_width(self.activation, filters, where)

    def refuse_strides_with_dilation(self, function: str) -> None:
        """Raise the ValueError that Keras documents for strides above 1 with a dilation above 1."""
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            what = f"{type(self).__name__}: strides={self.strides} with dilation_rate={self.dilation_rate}"
            allowed = f"set one to 1, or strides_with_dilation=True, or call jaxconv.{function}, which computes both"
            raise ValueError(f"{what}, both above 1, is not valid by default, as Keras documents; {allowed}")

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        """Return the weights except the bias, for an input with these channels and spatial lengths."""
        raise NotImplementedError

    def width(self, channels: Any) -> Any:
        """Return the channel count of the output before the activation, or None if it depends on unknown channels."""
        return self.filters  # type: ignore[attr-defined]

    def convolve(self, params: Params, x: Array) -> Array:
        """Compute the output before bias and activation."""
        raise NotImplementedError

    def spatial_windows(self) -> list[Window]:
        """Return the windows of the spatial axes."""
        rules = geo.each_axis(self.padding, self.rank)
        each = zip(self.kernel_size, self.strides, self.dilation_rate, rules, strict=True)
        return [Window(*sizes, self.padding_mode) for sizes in each]

    def bias_shape(self, channels: int, lengths: Shape) -> tuple[int, ...]:
        """Return the shape of the bias."""
        return (self.width(channels),)

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.rank + 1)) if leaf.endswith("kernel") else ()

    def _channels_and_lengths(self, shape: Shape) -> tuple[int | None, Shape]:
        """Return the channel count and the spatial lengths of an input shape, checked."""
        where = type(self).__name__
        lengths = spatial_lengths(shape, self.rank, self.data_format, where, self.spatial_windows())
        channels = shape[-1 if self.data_format == "channels_last" else 1]
        if channels is not None and (channels < 1 or channels % self.groups):
            what = f"input of shape {shape} has {channels} channels, which do not divide into groups={self.groups}"
            raise ValueError(f"{where}: {what}; the count must be a positive multiple of {self.groups}")
        return channels, lengths

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        channels, _ = self._channels_and_lengths(input_shape)
        width = self.width(channels)
        width = None if width is None else activated_width(self.activation, width, type(self).__name__)
        return with_channels(self.data_format, self.spatial_windows(), whole(width))

    def output_lengths(self, lengths: Shape) -> Shape:
        """Return the spatial lengths of the output."""
        return output_lengths(self.spatial_windows(), lengths, type(self).__name__)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        given, lengths = self._channels_and_lengths(input_shape)
        channels = known_channels(given, input_shape, type(self).__name__)
        bias = {"bias": Weight(self.bias_shape(channels, lengths), self.bias_initializer)} if self.use_bias else {}
        return self.kernels(channels, lengths) | bias

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        kernels = {leaf: value.astype(x.dtype) for leaf, value in params.items() if leaf != "bias"}
        y, last = self.convolve(kernels, x), self.data_format == "channels_last"
        if self.use_bias:
            bias = params["bias"]
            bias = bias.reshape((1,) * (self.rank + 1 - bias.ndim) + bias.shape)  # one for all steps, or one for each
            bias = (bias if last else bias.transpose(self.rank, *range(self.rank)))[None]
            y = y + broadcast_like(bias, y)
        return activate(self.activation, y, -1 if last else 1), Effects()
