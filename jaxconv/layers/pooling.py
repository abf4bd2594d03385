"""Max and average pooling over windows, in one, two and three dimensions."""

import dataclasses
from fractions import Fraction
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.contract.layer import Layer, Params, Shape, as_shape, layers
from jaxconv.contract.masks import Windows, hide, lay
from jaxconv.contract.measures import Window, placed
from jaxconv.dtypes import promote
from jaxconv.kernels.max_window import largest

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

    def _window(self, x: Array) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Give window, strides and pads over all axes of ``x``."""
        window, strides, padding = [1] * x.ndim, [1] * x.ndim, [(0, 0)] * x.ndim
        ones, where = (1,) * self.rank, self._spatial()
        window[where], strides[where] = self.pool_size, self.strides
        padding[where] = geo.pads(self.padding, x.shape[where], self.pool_size, self.strides, ones)
        return tuple(window), tuple(strides), tuple(padding)

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        ones, lengths = (1,) * self.rank, input_shape[self._spatial()]
        pads = geo.pads(self.padding, lengths, self.pool_size, self.strides, ones)
        each = zip(pads, self.pool_size, self.strides, strict=True)
        return placed(self.data_format, [Window(-pair[0], size - 1 - pair[0], Fraction(s)) for pair, size, s in each])

    def output_mask(self, x: Array, mask: Any) -> Any:
        return super().output_mask(x, mask) if mask is None or self.rank > 1 else self._along_time().output_mask(mask)

    def _along_time(self) -> Windows:
        (size,), (stride,) = self.pool_size, self.strides
        return Windows(size, stride, 1, self.padding)

    def _placed(self, x: Array, mask: Array, value: float) -> Array:
        """Lay each sequence out as alone, with a value that counts for nothing elsewhere."""
        return self._along_time().place(x, mask, self._spatial().indices(3)[0], value)


class _Max(_Pooling):
    """Keep the largest value of each window; padding never wins."""

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return largest(x, *self._window(x)), {}

    def call_masked(self, params: Params, x: Array, mask: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.rank > 1:
            return self.call(params, x, train=train, key=key)
        window, strides, _ = self._window(x)
        y = largest(self._placed(x, mask, -np.inf), window, strides, ((0, 0),) * x.ndim)
        return hide(y, self.output_mask(x, mask), self.mask_layouts(3)), {}


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

    def call_masked(self, params: Params, x: Array, mask: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.rank > 1:
            return self.call(params, x, train=train, key=key)
        window, strides, _ = self._window(x)
        wide = promote(x.dtype, np.float32)
        there = jnp.broadcast_to(lay(mask, x.shape, self.mask_layouts(3)), x.shape)
        total, count = (
            lax.reduce_window(
                self._placed(v.astype(wide), mask, 0), np.array(0, wide), lax.add, window, strides, "VALID"
            )
            for v in (x, there)
        )
        return (total / jnp.maximum(count, 1)).astype(x.dtype), {}


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
