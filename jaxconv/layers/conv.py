"""Conv1D, Conv2D and Conv3D: Keras's arguments around :func:`jaxconv.ops.conv`."""

import dataclasses
from typing import Any, ClassVar

import jax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv import ops
from jaxconv.layers.layer import Layer, Params, Shape, Weight, activate, activated_width, as_shape, layers

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class _Conv(Layer):
    """A convolution of any rank: validation, shapes and the call. The public classes add the rank and an example."""

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

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        where, rank = type(self).__name__, self.rank
        self._set(
            filters=geo.as_size(self.filters, "filters", where),
            kernel_size=geo.as_sizes(self.kernel_size, rank, "kernel_size", where),
            strides=geo.as_sizes(self.strides, rank, "strides", where),
            padding=geo.as_padding(self.padding, rank, where, causal=rank == 1),
            data_format=formats.canonical(self.data_format, where),
            dilation_rate=geo.as_sizes(self.dilation_rate, rank, "dilation_rate", where),
            groups=geo.as_size(self.groups, "groups", where),
        )
        activated_width(self.activation, self.filters, where)
        if self.filters % self.groups:
            raise ValueError(
                f"{where}: filters={self.filters} do not divide into groups={self.groups}; "
                f"filters must be a multiple of {self.groups}"
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"{where}: strides={self.strides} above 1 with dilation_rate={self.dilation_rate} above 1 is not legal "
                f"in a layer, as Keras documents; set one to 1, or call jaxconv.conv{rank}d, which computes both"
            )

    @property
    def leaves(self) -> dict[str, str]:
        return {"kernel": "kernel", "bias": "bias"} if self.use_bias else {"kernel": "kernel"}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.rank + 1)) if leaf == "kernel" else ()

    def _channels(self, shape: Shape) -> tuple[int | None, Shape]:
        """Give the channel count and the spatial lengths of an input's shape, after checking its rank."""
        formats.check_rank(shape, self.rank, str(self.data_format), type(self).__name__)
        last = self.data_format == "channels_last"
        return shape[-1 if last else 1], shape[1:-1] if last else shape[2:]

    def output_shape(self, input_shape: Any) -> Shape:
        where = type(self).__name__
        shape = as_shape(input_shape, where)
        channels, lengths = self._channels(shape)
        if channels is not None and (channels < 1 or channels % self.groups):
            raise ValueError(
                f"{where}: input of shape {shape} has {channels} channels, which do not divide into "
                f"groups={self.groups}; the count must be a positive multiple of {self.groups}"
            )
        out = geo.output_lengths(self.padding, lengths, self.kernel_size, self.strides, self.dilation_rate, where)
        last = self.data_format == "channels_last"
        width = activated_width(self.activation, self.filters, where)
        return (shape[0], *out, width) if last else (shape[0], width, *out)

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        channels, _ = self._channels(input_shape)
        if channels is None:
            raise ValueError(
                f"{type(self).__name__}: the channel count in input shape {input_shape} is None; "
                "the kernel's shape depends on it, so give a number"
            )
        kernel = Weight((*self.kernel_size, channels // self.groups, self.filters), self.kernel_initializer)
        bias = Weight((self.filters,), self.bias_initializer)
        return {"kernel": kernel, "bias": bias} if self.use_bias else {"kernel": kernel}

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        kernel = params["kernel"].astype(x.dtype)
        y = ops.conv(x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)
        if self.use_bias:
            axes = (1,) * self.rank
            shape = (1, *axes, self.filters) if self.data_format == "channels_last" else (1, self.filters, *axes)
            y = y + params["bias"].astype(y.dtype).reshape(shape)
        return activate(self.activation, y, -1 if self.data_format == "channels_last" else 1), {}


@layers.register("Convolution1D")
@dataclasses.dataclass(frozen=True)
class Conv1D(_Conv):
    """Convolve over one axis, time say: ``activation(conv1d(x, kernel) + bias)``.

    Keras's layer, argument for argument. Differs deliberately: padding may be (before, after) pairs; groups and
    channels_first work on every platform; ``bias_initializer=None`` is zeros, as documented; ``axis="filter"`` in a
    norm constraint means each filter's own norm; complex input is refused.

    Args:
        filters: number of output channels.
        kernel_size: length of the kernel in taps.
        strides: output steps, in input steps. Above 1 it excludes ``dilation_rate`` above 1.
        padding: "valid", "same", "causal" (output t sees no input after t), any case; or a pair (before, after).
        data_format: "channels_last" (batch, time, channels), "channels_first" (batch, channels, time); None means
            ``image_data_format()`` when the layer is built. Kernels have the same shape in both.
        dilation_rate: distance of neighbouring taps, in input steps.
        groups: channel groups convolved apart from each other; divides channels and filters.
        activation: name, function or None.
        use_bias: whether there is a bias.
        kernel_initializer, bias_initializer: name, instance, config, array or ``(key, shape, dtype) -> array``; None
            means the default.
        kernel_regularizer, bias_regularizer: penalty on the weight, in ``apply_fn.penalty``.
        activity_regularizer: penalty on the output, divided by the batch size, in ``effects.penalty``.
        kernel_constraint, bias_constraint: projection after an update, in ``apply_fn.project``.
        name, trainable, dtype, input_shape: as in every layer.

    Shapes:
        (batch, time, channels) -> (batch, new_time, filters).

    Params:
        kernel: (kernel_size, channels / groups, filters), ``kernel_initializer``.
        bias: (filters,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not legal, as early as they are known.

    Source: https://www.tensorflow.org/versions/r2.2/api_docs/python/tf/keras/layers/Conv1D

    >>> layer = Conv1D(32, 3, padding="causal", activation="relu")
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 128, 16))
    >>> apply_fn(params, jnp.ones((4, 128, 16))).shape
    (4, 128, 32)
    """

    rank: ClassVar[int] = 1


@layers.register("Convolution2D")
@dataclasses.dataclass(frozen=True)
class Conv2D(_Conv):
    """Convolve over two axes, the rows and columns of an image.

    Arguments, params and errors are those of :class:`Conv1D`, with one size for each axis or one for both; "causal"
    does not exist here.

    Shapes:
        (batch, rows, columns, channels) -> (batch, new_rows, new_columns, filters).

    Params:
        kernel: (\\*kernel_size, channels / groups, filters). bias: (filters,).

    >>> params, apply_fn = Conv2D(8, (3, 5), strides=2, padding="same").init(jax.random.key(0), (None, 28, 28, 1))
    >>> apply_fn(params, jnp.ones((2, 28, 28, 1))).shape
    (2, 14, 14, 8)
    """

    rank: ClassVar[int] = 2


@layers.register("Convolution3D")
@dataclasses.dataclass(frozen=True)
class Conv3D(_Conv):
    """Convolve over three axes, those of a volume or of video.

    Arguments, params and errors are those of :class:`Conv1D`, with one size for each axis or one for all; "causal"
    does not exist here.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, new_depth, new_rows, new_columns, filters).

    Params:
        kernel: (\\*kernel_size, channels / groups, filters). bias: (filters,).

    Source: https://keras.io/api/layers/convolution_layers/convolution3d/

    >>> params, apply_fn = Conv3D(32, 3, activation="relu").init(jax.random.key(0), (4, 10, 10, 10, 128))
    >>> apply_fn(params, jnp.ones((4, 10, 10, 10, 128))).shape
    (4, 8, 8, 8, 32)
    """

    rank: ClassVar[int] = 3
