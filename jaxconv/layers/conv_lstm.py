"""ConvLSTM1D, ConvLSTM2D and ConvLSTM3D: an LSTM whose products with the kernels are convolutions."""

import dataclasses
from typing import Any, ClassVar

from jax import Array

from jaxconv import geometry as geo
from jaxconv import ops
from jaxconv.contract import Shape, Window, layers, register, whole
from jaxconv.contract.spatial import spatial_lengths, with_channels
from jaxconv.layers.recurrent import LongShortTerm


@dataclasses.dataclass(frozen=True)
class BaseConvLSTM(LongShortTerm):
    """A convolutional LSTM of any rank.

    The gates are those of :class:`~jaxconv.LSTM`; the product with the input is a convolution with these options, and
    the product with the state one with stride 1 and "same" padding. Masks, dropout (a mask for each gate), states and
    unsupported options are as there. ``unroll`` is accepted without effect.

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, dilation_rate: options of the input's convolution. Sizes are one number for all
            axes or one for each; padding is "valid" or "same". Strides above 1 together with a dilation above 1 are not
            valid.
        data_format: "channels_last" or "channels_first" of each step; None means ``image_data_format()``.

    Shapes:
        (batch, time, *spatial, channels) -> (batch, *new_spatial, filters), with ``return_sequences`` (batch, time,
        *new_spatial, filters); for "channels_first" the channels precede the spatial axes.

    Params:
        kernel: (\\*kernel_size, channels, 4 filters). recurrent_kernel: (\\*kernel_size, filters, 4 filters). bias:
            (4 filters,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input that are not valid; training without a key.

    Source: Shi et al. 2015, https://arxiv.org/abs/1506.04214

    >>> layer = ConvLSTM2D(4, 3, return_sequences=True)
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 5, 8, 8, 2))
    >>> apply_fn(params, jnp.ones((2, 5, 8, 8, 2))).shape
    (2, 5, 6, 6, 4)
    """

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: str | None = None
    dilation_rate: Any = 1
    activation: Any = "tanh"
    recurrent_activation: Any = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    recurrent_initializer: Any = "orthogonal"
    bias_initializer: Any = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: Any = None
    recurrent_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    recurrent_constraint: Any = None
    bias_constraint: Any = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    seed: int | None = None
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    unroll: bool = dataclasses.field(default=False, kw_only=True)
    zero_output_for_mask: bool = dataclasses.field(default=False, kw_only=True)

    separate_masks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        where, rank = type(self).__name__, self.rank
        self._set(
            kernel_size=geo.as_sizes(self.kernel_size, rank, "kernel_size", where),
            strides=geo.as_sizes(self.strides, rank, "strides", where),
            padding=geo.as_padding(self.padding, rank, where, causal=False),
            dilation_rate=geo.as_sizes(self.dilation_rate, rank, "dilation_rate", where),
        )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            what = f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            raise ValueError(f"{where}: {what} are both above 1; set one to 1")

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else -1 - self.rank

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.rank + 1)) if leaf.endswith("kernel") else ()

    def product(self, x: Array, kernel: Array, recurrent: bool) -> Array:
        options = (1, "same", self.data_format, 1)
        own = (self.strides, self.padding, self.data_format, self.dilation_rate)
        return ops.conv(x, kernel, *(options if recurrent else own))

    def step_windows(self, shape: Shape) -> tuple[Window, ...]:
        where, rules = type(self).__name__, geo.each_axis(self.padding, self.rank)
        if len(shape) != self.rank + 3:
            what = f"{where}: input of shape {shape} has rank {len(shape)}"
            raise ValueError(f"{what}; this layer needs (batch, time, ...) of rank {self.rank + 3}")
        sizes = zip(self.kernel_size, self.strides, self.dilation_rate, rules, strict=True)
        windows = [Window(*one) for one in sizes]
        lengths = spatial_lengths((shape[0], *shape[2:]), self.rank, self.data_format, where, windows)
        # the product with the state reaches further at each step
        spatial = [whole(w.output_length(n, where)) for w, n in zip(windows, lengths, strict=True)]
        return with_channels(self.data_format, spatial, whole(self.filters))

    def kernel_shapes(self, shape: Shape) -> tuple[Shape, Shape]:
        return (*self.kernel_size, shape[self.channel_axis]), (*self.kernel_size, self.filters)


@register(layers)
class ConvLSTM1D(BaseConvLSTM, rank=1):
    """Run a convolutional LSTM over a sequence of one-dimensional signals."""


@register(layers)
class ConvLSTM2D(BaseConvLSTM, rank=2):
    """Run a convolutional LSTM over a sequence of images, the frames of a video."""


@register(layers)
class ConvLSTM3D(BaseConvLSTM, rank=3):
    """Run a convolutional LSTM over a sequence of volumes."""
