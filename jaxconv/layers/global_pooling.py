"""Max and average pooling over all of the spatial axes, in one, two and three dimensions."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.contract import Effects, Layer, Params, Window, layers, register, whole
from jaxconv.contract.masks import fill_masked
from jaxconv.contract.spatial import spatial_axes, spatial_lengths, with_channels
from jaxconv.dtypes import promote
from jaxconv.kernels.maximum import largest_along
from jaxconv.layers.moments import average


@dataclasses.dataclass(frozen=True)
class BaseGlobalPooling(Layer):
    """A reduction over all spatial axes, in any rank. With a mask: over the unmasked steps, and 0 if there are none.

    Args:
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        keepdims: whether to keep the spatial axes, with size 1.

    Shapes: (batch, *spatial, channels) -> (batch, channels).
    """

    data_format: str | None = None
    keepdims: bool = False

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axes that are reduced, counted with the batch."""
        return tuple(spatial_axes(self.rank, self.data_format))

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        spatial_lengths(input_shape, self.rank, self.data_format, type(self).__name__)
        channels = Window(axis=self.rank if self.data_format == "channels_last" else 0)
        return with_channels(self.data_format, [whole(1)] * self.rank, channels) if self.keepdims else (channels,)

    def output_mask(self, x: Array, mask: Any) -> None:
        return None  # the masked axes are reduced; with keepdims the windows do not show it


class _GlobalMax(BaseGlobalPooling):
    """Compute the largest value of each channel.

    >>> GlobalMaxPooling2D().output_shape((None, 8, 6, 3))
    (None, 3)
    """

    masked_value: ClassVar[float] = -np.inf
    output_values: ClassVar[str | None] = "input"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = largest_along(x, self.axes)
        y = y if self.keepdims else y.squeeze(self.axes)
        return (y if mask is None else fill_masked(y, mask.any(self.axes, keepdims=self.keepdims))), Effects()


class _GlobalAverage(BaseGlobalPooling):
    """Compute the mean of each channel.

    >>> GlobalAveragePooling2D().output_shape((None, 8, 6, 3))
    (None, 3)
    """

    output_values: ClassVar[str | None] = "input"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = average(x.astype(promote(x.dtype, jnp.float32)), self.axes, mask)
        return (y if self.keepdims else y.squeeze(self.axes)).astype(x.dtype), Effects()


@register(layers, "GlobalMaxPool1D")
class GlobalMaxPooling1D(_GlobalMax, rank=1):
    """Compute the largest value of each channel over a sequence."""


@register(layers, "GlobalMaxPool2D")
class GlobalMaxPooling2D(_GlobalMax, rank=2):
    """Compute the largest value of each channel over an image."""


@register(layers, "GlobalMaxPool3D")
class GlobalMaxPooling3D(_GlobalMax, rank=3):
    """Compute the largest value of each channel over a volume."""


@register(layers, "GlobalAvgPool1D")
class GlobalAveragePooling1D(_GlobalAverage, rank=1):
    """Compute the mean of each channel over a sequence."""


@register(layers, "GlobalAvgPool2D")
class GlobalAveragePooling2D(_GlobalAverage, rank=2):
    """Compute the mean of each channel over an image."""


@register(layers, "GlobalAvgPool3D")
class GlobalAveragePooling3D(_GlobalAverage, rank=3):
    """Compute the mean of each channel over a volume."""
