"""Max and average over all of the spatial axes, one, two or three."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import data_format as formats
from jaxconv.contract import Effects, Layer, Params, Window, layers, whole
from jaxconv.contract.masks import fill_masked
from jaxconv.contract.spatial import spatial_lengths, with_channels
from jaxconv.dtypes import promote
from jaxconv.layers.moments import average

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class BaseGlobalPooling(Layer):
    """A reduction over all spatial axes, in any rank."""

    data_format: str | None = None
    keepdims: bool = False

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        self._set(data_format=formats.canonical(self.data_format, where))

    def _axes(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        spatial_lengths(input_shape, self.rank, self.data_format, type(self).__name__)
        channels = Window(axis=self.rank if self.data_format == "channels_last" else 0)
        return with_channels(self.data_format, [whole(1)] * self.rank, channels) if self.keepdims else (channels,)

    def output_mask(self, x: Array, mask: Any) -> None:
        return None  # the steps that it masked have been reduced


class _GlobalMax(BaseGlobalPooling):
    """Keep the largest value of each channel."""

    masked_value: ClassVar[float] = -np.inf

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = x.max(self._axes(), keepdims=self.keepdims)
        return (y if mask is None else fill_masked(y, mask.any(self._axes(), keepdims=self.keepdims))), Effects()


class _GlobalAverage(BaseGlobalPooling):
    """Average each channel."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = average(x.astype(promote(x.dtype, jnp.float32)), self._axes(), mask)
        return (y if self.keepdims else y.squeeze(self._axes())).astype(x.dtype), Effects()


@layers.register("GlobalMaxPool1D")
@dataclasses.dataclass(frozen=True)
class GlobalMaxPooling1D(_GlobalMax):
    """Keep the largest value of each channel over a sequence.

    Args:
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        keepdims: keep the spatial axes, with size 1.

    Shapes:
        (batch, time, channels) -> (batch, channels).

    >>> GlobalMaxPooling1D().output_shape((None, 8, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 1


@layers.register("GlobalMaxPool2D")
@dataclasses.dataclass(frozen=True)
class GlobalMaxPooling2D(_GlobalMax):
    """Keep the largest value of each channel over an image.

    Arguments as in :class:`GlobalMaxPooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, channels).

    >>> GlobalMaxPooling2D().output_shape((None, 8, 6, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 2


@layers.register("GlobalMaxPool3D")
@dataclasses.dataclass(frozen=True)
class GlobalMaxPooling3D(_GlobalMax):
    """Keep the largest value of each channel over a volume.

    Arguments as in :class:`GlobalMaxPooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, channels).

    >>> GlobalMaxPooling3D().output_shape((None, 8, 6, 4, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 3


@layers.register("GlobalAvgPool1D")
@dataclasses.dataclass(frozen=True)
class GlobalAveragePooling1D(_GlobalAverage):
    """Average each channel over a sequence: over its real steps, where there is a mask; 0 where none is.

    Args:
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.
        keepdims: keep the spatial axes, with size 1.

    Shapes:
        (batch, time, channels) -> (batch, channels).

    >>> GlobalAveragePooling1D().output_shape((None, 8, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 1


@layers.register("GlobalAvgPool2D")
@dataclasses.dataclass(frozen=True)
class GlobalAveragePooling2D(_GlobalAverage):
    """Average each channel over an image.

    Arguments as in :class:`GlobalAveragePooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, channels).

    >>> GlobalAveragePooling2D().output_shape((None, 8, 6, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 2


@layers.register("GlobalAvgPool3D")
@dataclasses.dataclass(frozen=True)
class GlobalAveragePooling3D(_GlobalAverage):
    """Average each channel over a volume.

    Arguments as in :class:`GlobalAveragePooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, channels).

    >>> GlobalAveragePooling3D().output_shape((None, 8, 6, 4, 3))
    (None, 3)
    """

    rank: ClassVar[int] = 3
