"""Max and average pooling over windows, in one, two and three dimensions."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.contract.masks import fill_masked
from jaxconv.contract.spatial import spatial_lengths, with_channels
from jaxconv.dtypes import promote
from jaxconv.kernels.windowed import largest, total


@dataclasses.dataclass(frozen=True)
class BasePooling(Layer):
    """A window that slides over the spatial axes, in any rank. Subclasses reduce each window to one value.

    Args:
        pool_size: size of the window, in steps; one integer or one for each spatial axis.
        strides: input steps from one output to the next; None means ``pool_size``.
        padding: "valid", or "same" (padding counts neither as a value nor in a mean).
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, channels).
    """

    pool_size: Any = 2
    strides: Any = None
    padding: str = "valid"
    data_format: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        size = geo.as_sizes(self.pool_size, self.rank, "pool_size", where)
        if not isinstance(self.padding, str) or self.padding.lower() not in ("valid", "same"):
            raise ValueError(f"{where}: padding={self.padding!r} is not defined for pooling; expected 'valid', 'same'")
        self._set(
            pool_size=size,
            strides=size if self.strides is None else geo.as_sizes(self.strides, self.rank, "strides", where),
            padding=self.padding.lower(),
        )

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        pairs = zip(self.pool_size, self.strides, strict=True)
        windows = [Window(size, stride, 1, self.padding) for size, stride in pairs]
        spatial_lengths(input_shape, self.rank, self.data_format, type(self).__name__, windows)
        return with_channels(self.data_format, windows, POINTWISE)

    def _sizes_strides_pads(self, x: Array) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Return the window's sizes, strides and pads along all axes of ``x``."""
        windows = (POINTWISE, *self.windows(x.shape))
        pads = [window.pads(length) for window, length in zip(windows, x.shape, strict=True)]
        return tuple(w.size for w in windows), tuple(w.stride for w in windows), tuple(pads)


class _Max(BasePooling):
    """Compute the largest value of each window; padding is never the largest.

    >>> MaxPooling2D(2).output_shape((None, 8, 6, 3))
    (None, 4, 3, 3)
    """

    masked_value: ClassVar[float] = -np.inf
    output_values: ClassVar[str | None] = "input"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = largest(x, *self._sizes_strides_pads(x))
        return (y if mask is None else fill_masked(y, y != -np.inf)), Effects()  # 0 if all steps are masked


class _Average(BasePooling):
    """Compute the mean of each window over its unmasked values; padding does not count, as in Keras.

    >>> AveragePooling2D(2).output_shape((None, 8, 6, 3))
    (None, 4, 3, 3)
    """

    output_values: ClassVar[str | None] = "input"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        window, strides, padding = self._sizes_strides_pads(x)
        dtype = promote(x.dtype, np.float32)  # the sum of a window may not fit in float16
        y = total(x.astype(dtype), window, strides, padding)
        if mask is not None:
            options = [  # along an axis of size 1 the mask is the same for all steps, and a window reads that one entry
                (1, 1, (0, 0)) if n == 1 else own for n, *own in zip(mask.shape, window, strides, padding, strict=True)
            ]
            mask_options = list(zip(*options, strict=True))
            count = lax.reduce_window(mask.astype(dtype), np.array(0, dtype), lax.add, *mask_options)
            y = y / jnp.maximum(count, 1)
        for axis, size in enumerate(x.shape):
            if window[axis] > 1 and (mask is None or mask.shape[axis] == 1):
                y = y / self._count(axis, size, y.shape, window, strides, padding, dtype)
        return y.astype(x.dtype), Effects()

    def _count(self, axis: int, size: int, out: Any, window: Any, strides: Any, padding: Any, dtype: Any) -> Array:
        """Return the number of steps of one axis in each window; the axis may have a symbolic length."""
        start = jnp.arange(out[axis], dtype=np.int32) * strides[axis] - padding[axis][0]
        last = jnp.minimum(start + window[axis], jnp.asarray(size, np.int32))
        count = (last - jnp.maximum(start, 0)).astype(dtype)
        return lax.broadcast_in_dim(count, [n if a == axis else 1 for a, n in enumerate(out)], (axis,))


@register(layers, "MaxPool1D")
class MaxPooling1D(_Max, rank=1):
    """Compute the largest value of each window of a sequence."""


@register(layers, "MaxPool2D")
class MaxPooling2D(_Max, rank=2):
    """Compute the largest value of each window of an image."""


@register(layers, "MaxPool3D")
class MaxPooling3D(_Max, rank=3):
    """Compute the largest value of each window of a volume."""


@register(layers, "AvgPool1D")
class AveragePooling1D(_Average, rank=1):
    """Compute the mean of each window of a sequence."""


@register(layers, "AvgPool2D")
class AveragePooling2D(_Average, rank=2):
    """Compute the mean of each window of an image."""


@register(layers, "AvgPool3D")
class AveragePooling3D(_Average, rank=3):
    """Compute the mean of each window of a volume."""
