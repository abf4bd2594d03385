"""Max and average pooling, windowed and global, in one, two and three dimensions."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.dtypes import promote
from jaxconv.layers.layer import Layer, Params, Shape, as_shape, layers

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class _Pooling(Layer):
    """A window that slides over the spatial axes, in any rank. Subclasses reduce it."""

    pool_size: Any = 2
    strides: Any = None
    padding: str = "valid"
    data_format: str | None = None

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        size = geo.as_sizes(self.pool_size, self.rank, "pool_size", where)
        if not isinstance(self.padding, str) or self.padding.lower() not in ("valid", "same"):
            raise ValueError(f"{where}: padding={self.padding!r} is not defined for pooling; legal: 'valid', 'same'")
        self._set(
            pool_size=size,
            strides=size if self.strides is None else geo.as_sizes(self.strides, self.rank, "strides", where),
            padding=self.padding.lower(),
            data_format=formats.canonical(self.data_format, where),
        )

    def _spatial(self) -> slice:
        return slice(1, -1) if self.data_format == "channels_last" else slice(2, None)

    def output_shape(self, input_shape: Any) -> Shape:
        where, shape = type(self).__name__, as_shape(input_shape, type(self).__name__)
        formats.check_rank(shape, self.rank, str(self.data_format), where)
        ones = (1,) * self.rank
        out = list(shape)
        out[self._spatial()] = geo.output_lengths(
            self.padding,
            shape[self._spatial()],
            self.pool_size,
            self.strides,
            ones,
            where,
            ("pool_size",),
        )
        return tuple(out)

    def _window(self, x: Array) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
        """Give window, strides and pads over all axes of ``x``."""
        window, strides, padding = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
        ones, where = (1,) * self.rank, self._spatial()
        window[where], strides[where] = self.pool_size, self.strides
        padding[where] = geo.pads(self.padding, x.shape[where], self.pool_size, self.strides, ones)
        return tuple(window), tuple(strides), padding


class _Max(_Pooling):
    """Keep the largest value of each window; padding never wins."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, *self._window(x)), {}


class _Average(_Pooling):
    """Average each window over the values that are there; padding does not count, as in Keras."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        window, strides, padding = self._window(x)
        wide = promote(x.dtype, np.float32)  # the sum of a window may not fit in float16
        total = lax.reduce_window(x.astype(wide), np.array(0, wide), lax.add, window, strides, padding)
        # how many values a window sees depends on the spatial axes alone; lengths may be symbolic, in an export
        spatial = range(*self._spatial().indices(x.ndim))
        there = jnp.ones([n if axis in spatial else 1 for axis, n in enumerate(x.shape)], wide)
        steps = [s if axis in spatial else 1 for axis, s in enumerate(strides)]
        count = lax.reduce_window(there, np.array(0, wide), lax.add, window, steps, padding)
        return (total / count).astype(x.dtype), {}


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


class _GlobalMax(_GlobalPooling):
    """Keep the largest value of each channel."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return x.max(self._axes(), keepdims=self.keepdims), {}


class _GlobalAverage(_GlobalPooling):
    """Average each channel."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return x.mean(self._axes(), keepdims=self.keepdims), {}


@layers.register("MaxPool1D")
@dataclasses.dataclass(frozen=True)
class MaxPooling1D(_Max):
    """Keep the largest value of each window of a sequence.

    Args:
        pool_size: window, in steps; one integer or one for each spatial axis.
        strides: output steps, in input steps; None means ``pool_size``.
        padding: "valid", or "same" (padding never wins).
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes:
        (batch, time, channels) -> (batch, new_time, channels).

    >>> MaxPooling1D(2).output_shape((None, 8, 3))
    (None, 4, 3)
    """

    rank: ClassVar[int] = 1


@layers.register("MaxPool2D")
@dataclasses.dataclass(frozen=True)
class MaxPooling2D(_Max):
    """Keep the largest value of each window of an image.

    Arguments as in :class:`MaxPooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, new_rows, new_columns, channels).

    >>> MaxPooling2D(2).output_shape((None, 8, 6, 3))
    (None, 4, 3, 3)
    """

    rank: ClassVar[int] = 2


@layers.register("MaxPool3D")
@dataclasses.dataclass(frozen=True)
class MaxPooling3D(_Max):
    """Keep the largest value of each window of a volume.

    Arguments as in :class:`MaxPooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, new_depth, new_rows, new_columns, channels).

    >>> MaxPooling3D(2).output_shape((None, 8, 6, 4, 3))
    (None, 4, 3, 2, 3)
    """

    rank: ClassVar[int] = 3


@layers.register("AvgPool1D")
@dataclasses.dataclass(frozen=True)
class AveragePooling1D(_Average):
    """Average each window of a sequence.

    Args:
        pool_size: window, in steps; one integer or one for each spatial axis.
        strides: output steps, in input steps; None means ``pool_size``.
        padding: "valid", or "same" (padding does not count).
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes:
        (batch, time, channels) -> (batch, new_time, channels).

    >>> AveragePooling1D(2).output_shape((None, 8, 3))
    (None, 4, 3)
    """

    rank: ClassVar[int] = 1


@layers.register("AvgPool2D")
@dataclasses.dataclass(frozen=True)
class AveragePooling2D(_Average):
    """Average each window of an image.

    Arguments as in :class:`AveragePooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, new_rows, new_columns, channels).

    >>> AveragePooling2D(2).output_shape((None, 8, 6, 3))
    (None, 4, 3, 3)
    """

    rank: ClassVar[int] = 2


@layers.register("AvgPool3D")
@dataclasses.dataclass(frozen=True)
class AveragePooling3D(_Average):
    """Average each window of a volume.

    Arguments as in :class:`AveragePooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, new_depth, new_rows, new_columns, channels).

    >>> AveragePooling3D(2).output_shape((None, 8, 6, 4, 3))
    (None, 4, 3, 2, 3)
    """

    rank: ClassVar[int] = 3


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
    """Average each channel over a sequence.

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
