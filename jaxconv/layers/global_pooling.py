"""Max and average over all of the spatial axes, one, two or three."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import data_format as formats
from jaxconv.contract.layer import Layer, Params, Shape, as_shape, layers
from jaxconv.contract.masks import lay
from jaxconv.dtypes import promote
from jaxconv.layers.moments import average

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class _GlobalPooling(Layer):
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

    def output_shape(self, input_shape: Any) -> Shape:
        where, shape = type(self).__name__, as_shape(input_shape, type(self).__name__)
        formats.check_rank(shape, self.rank, str(self.data_format), where)
        if any(shape[axis] == 0 for axis in self._axes()):
            raise ValueError(f"{where}: input of shape {shape} has a spatial axis of length 0; the shortest is 1")
        if self.keepdims:
            return tuple(1 if axis in self._axes() else n for axis, n in enumerate(shape))
        return tuple(n for axis, n in enumerate(shape) if axis not in self._axes())

    def output_mask(self, x: Array, mask: Any) -> Any:
        """Give none: a mask over time has done its work here, one over an image or volume none."""
        return super().output_mask(x, mask) if self.rank > 1 else None


class _GlobalMax(_GlobalPooling):
    """Keep the largest value of each channel."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return x.max(self._axes(), keepdims=self.keepdims), {}

    def call_masked(self, params: Params, x: Array, mask: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.rank > 1:
            return self.call(params, x, train=train, key=key)
        there = lay(mask, x.shape, self.mask_layouts(3))
        y, _ = self.call(params, jnp.where(there, x, jnp.asarray(-np.inf, x.dtype)), train=train, key=key)
        return jnp.where(there.any(self._axes(), keepdims=self.keepdims), y, jnp.zeros((), x.dtype)), {}


class _GlobalAverage(_GlobalPooling):
    """Average each channel."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return x.mean(self._axes(), keepdims=self.keepdims), {}

    def call_masked(self, params: Params, x: Array, mask: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.rank > 1:
            return self.call(params, x, train=train, key=key)
        y = average(x.astype(promote(x.dtype, jnp.float32)), self._axes(), lay(mask, x.shape, self.mask_layouts(3)))
        return (y if self.keepdims else y.squeeze(self._axes())).astype(x.dtype), {}


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
