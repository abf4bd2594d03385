"""Conv1DTranspose, 2D and 3D: layers with Keras's arguments, computed by :func:`jaxconv.ops.conv_transpose`."""

import dataclasses
from typing import Any, ClassVar

from jax import Array

from jaxconv import geometry as geo
from jaxconv import ops
from jaxconv.contract import Params, Shape, Weight, Window, layers, register
from jaxconv.layers.convolving import Convolving
from jaxconv.ops.operands import as_output_padding


@dataclasses.dataclass(frozen=True)
class _VolumeOrder(Convolving):
    """The first fields in Keras's order for three dimensions: as a base, it decides the order of the same names."""

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: str | None = None
    output_padding: Any = None


@dataclasses.dataclass(frozen=True)
class BaseConvTranspose(Convolving):
    """A transposed convolution of any rank.

    Its output has a shape that the convolution maps to the input's. Keras's layer, argument for argument; beyond it
    ``groups``, explicit padding, and strides with dilation. It is the gradient of a convolution with respect to its
    input: each input step adds its multiple of the kernel to the output.

    Args:
        filters: number of output channels.
        kernel_size: length of the kernel in taps; like all sizes, one number for all axes or one for each.
        strides: distance of neighbouring input steps in the output. Not above 1 together with a ``dilation_rate`` above
            1.
        padding: "valid", "same" (``length * strides`` output steps), or a pair (before, after) that is cut off.
        output_padding: None for Keras's default lengths; or steps, below ``strides``, added to the shortest output.
        data_format, activation, use_bias, initializers, regularizers, constraints: as in :class:`~jaxconv.Conv1D`.
        dilation_rate: distance of neighbouring taps, in output steps.
        groups: number of channel groups, each transposed separately; divides channels and filters (beyond Keras).
        strides_with_dilation: True allows strides above 1 with a dilation above 1, which Keras does not support.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, filters).

    Params:
        kernel: (\\*kernel_size, filters / groups, channels), ``kernel_initializer``, with fan-in and fan-out exchanged
            as in Keras.
        bias: (filters,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: options or an input shape that are not valid, as early as they are known.

    Source: Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285, chapter 4.

    >>> params, apply_fn = Conv1DTranspose(8, 4, strides=2, padding="same").init(jax.random.key(0), (None, 10, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 3))).shape
    (2, 20, 8)
    """

    filters: int
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    output_padding: Any = None
    data_format: str | None = None
    dilation_rate: Any = 1
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None
    groups: int = dataclasses.field(default=1, kw_only=True)
    strides_with_dilation: bool = dataclasses.field(default=False, kw_only=True)

    causal: ClassVar[bool] = False
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"groups", "strides_with_dilation"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(output_padding=as_output_padding(self.output_padding, self.strides, type(self).__name__))
        if not self.strides_with_dilation:
            self.refuse_strides_with_dilation(f"conv{self.rank}d_transpose")

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (*range(self.rank), self.rank + 1) if leaf == "kernel" else ()

    def spatial_windows(self) -> list[Window]:
        rules, more = geo.each_axis(self.padding, self.rank), self.output_padding or (None,) * self.rank
        each = zip(self.kernel_size, self.strides, self.dilation_rate, rules, more, strict=True)
        return [Window(k, s, d, rule, "zeros", True, extra) for k, s, d, rule, extra in each]

    def kernels(self, channels: int, lengths: Shape) -> dict[str, Weight]:
        return {"kernel": Weight((*self.kernel_size, self.filters // self.groups, channels), self.kernel_initializer)}

    def convolve(self, params: Params, x: Array) -> Array:
        options = (self.strides, self.padding, self.output_padding, self.data_format, self.dilation_rate)
        return ops.conv_transpose(x, params["kernel"], *options, groups=self.groups)


@register(layers, "Convolution1DTranspose")
class Conv1DTranspose(BaseConvTranspose, rank=1):
    """Transpose a convolution over one axis, such as time."""


@register(layers, "Convolution2DTranspose")
class Conv2DTranspose(BaseConvTranspose, rank=2):
    """Transpose a convolution over two axes, the rows and columns of an image."""


@register(layers, "Convolution3DTranspose")
class Conv3DTranspose(BaseConvTranspose, _VolumeOrder, rank=3):
    """Transpose a convolution over three axes, those of a volume or of video.

    In the order of arguments ``data_format`` comes before ``output_padding``, as in Keras.
    """
