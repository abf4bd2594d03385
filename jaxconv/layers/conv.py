"""Conv1D, Conv2D and Conv3D: layers with Keras's arguments, computed by :func:`jaxconv.ops.conv`."""

import dataclasses
from typing import Any, ClassVar

from jax import Array

from jaxconv import ops
from jaxconv.contract import Params, Shape, Weight, layers, register
from jaxconv.layers.convolving import Convolving


@dataclasses.dataclass(frozen=True)
class BaseConv(Convolving):
    """A convolution of any rank.

    ``activation(conv(x, kernel) + bias)``: Keras's layer, argument for argument. Differs deliberately: padding may be
    (before, after) pairs; groups and channels_first work on every platform; ``bias_initializer=None`` means zeros, as
    documented; ``axis="filter"`` in a norm constraint means the norm of each filter; complex input is an error; a mask
    is passed on, and each sequence is convolved with its own padding, as if it were not batched.

    Args:
        filters: number of output channels.
        kernel_size: length of the kernel in taps; like all sizes, one number for all axes or one for each.
        strides: input steps from one output to the next. Not above 1 together with a ``dilation_rate`` above 1.
        padding: "valid", "same", "causal" (output t reads no input after t), in any case; or a pair (before, after).
            In two and three dimensions: a name, or for each axis a name ("causal" included) or a pair.
        data_format: "channels_last" (channels are the last axis), "channels_first" (channels follow the batch); None
            means ``image_data_format()`` when the layer is built. Kernels have the same shape in both.
        dilation_rate: distance of neighbouring taps, in input steps.
        groups: number of channel groups, each convolved separately; divides channels and filters.
        activation: name, function or None.
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer: name, instance, config, array or ``(key, shape, dtype) -> array``; None
            means the default.
        kernel_regularizer, bias_regularizer: penalty on the weight, in ``apply_fn.penalty``.
        activity_regularizer: penalty on the output, divided by the batch size, in ``effects.penalty``.
        kernel_constraint, bias_constraint: projection after an update, in ``apply_fn.project``.
        padding_mode: the values of the padding: "zeros", "reflect", "replicate" or "circular" (beyond Keras).
        strides_with_dilation: True allows strides above 1 with a dilation above 1, which Keras does not support.
        name, trainable, dtype, input_shape: as in every layer.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, filters).

    Params:
        kernel: (\\*kernel_size, channels / groups, filters), ``kernel_initializer``.
        bias: (filters,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not valid, as early as they are known.

    Source: https://www.tensorflow.org/versions/r2.2/api_docs/python/tf/keras/layers/Conv1D
    """

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: str | None = None
    dilation_rate: Any = 1
    groups: int = 1
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None

    padding_mode: str = dataclasses.field(default="zeros", kw_only=True)
    strides_with_dilation: bool = dataclasses.field(default=False, kw_only=True)

    beyond_keras: ClassVar[frozenset[str]] = frozenset({"padding_mode", "strides_with_dilation"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strides_with_dilation:
            self.refuse_strides_with_dilation(f"conv{self.rank}d")

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        return {"kernel": Weight((*self.kernel_size, channels // self.groups, self.filters), self.kernel_initializer)}

    def convolve(self, params: Params, x: Array) -> Array:
        options = (self.strides, self.padding, self.data_format, self.dilation_rate)
        return ops.conv(x, params["kernel"], *options, padding_mode=self.padding_mode)


@register(layers, "Convolution1D")
class Conv1D(BaseConv, rank=1):
    """Convolve over one axis, such as time.

    >>> layer = Conv1D(32, 3, padding="causal", activation="relu")
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 128, 16))
    >>> apply_fn(params, jnp.ones((4, 128, 16))).shape
    (4, 128, 32)
    """


@register(layers, "Convolution2D")
class Conv2D(BaseConv, rank=2):
    """Convolve over two axes, the rows and columns of an image.

    ``padding=("causal", "same")`` is causal along the first axis, time in a spectrogram.

    >>> params, apply_fn = Conv2D(8, (3, 5), strides=2, padding="same").init(jax.random.key(0), (None, 28, 28, 1))
    >>> apply_fn(params, jnp.ones((2, 28, 28, 1))).shape
    (2, 14, 14, 8)
    """


@register(layers, "Convolution3D")
class Conv3D(BaseConv, rank=3):
    """Convolve over three axes, those of a volume or of video.

    ``padding=("causal", "same", "same")`` is causal along the first axis, time in video.

    >>> params, apply_fn = Conv3D(32, 3, activation="relu").init(jax.random.key(0), (4, 10, 10, 10, 128))
    >>> apply_fn(params, jnp.ones((4, 10, 10, 10, 128))).shape
    (4, 8, 8, 8, 32)
    """
