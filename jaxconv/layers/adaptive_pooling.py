"""Max and average pooling to a given size, whatever the input's, in one, two and three dimensions.

Knows lengths and bins; the windows of a given size are those of pooling.py.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, whole
from jaxconv.contract.masks import valid_range
from jaxconv.contract.spatial import spatial_lengths, with_channels
from jaxconv.dtypes import promote

Array = jax.Array


def bins(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of ``count`` bins over ``length`` steps begins and ends.

    Bin ``i`` of ``m`` goes from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``. Neighbours share a step where their
    border falls within it. With more bins than steps, steps are repeated.

    >>> [list(range(*bin)) for bin in zip(*bins(5, 3), strict=True)]
    [[0, 1], [1, 2, 3], [3, 4]]
    """
    edges = np.arange(count + 1) * length
    return edges[:-1] // count, -(-edges[1:] // count)


def _window(length: Any, count: int) -> Window:
    """Return the window of equal bins; bins that differ are read as a whole."""
    if isinstance(length, int) and length % count == 0:
        return Window(length // count, length // count)
    return whole(count)


@dataclasses.dataclass(frozen=True)
class BaseAdaptivePooling(Layer):
    """Bins over each spatial axis, one axis after the other, in any rank. Subclasses reduce them."""

    output_size: Any
    data_format: str | None = None

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        self._set(
            output_size=geo.as_sizes(self.output_size, self.rank, "output_size", where),
            data_format=formats.canonical(self.data_format, where),
        )

    def _first(self) -> int:
        return 1 if self.data_format == "channels_last" else 2

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        lengths = spatial_lengths(input_shape, self.rank, self.data_format, type(self).__name__)
        return with_channels(self.data_format, list(map(_window, lengths, self.output_size)), POINTWISE)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        if mask is not None and self.rank == 1:
            return self._call_masked(x, mask.reshape(x.shape[0], -1)), Effects()
        for axis, count in enumerate(self.output_size, self._first()):
            length = x.shape[axis]
            if not isinstance(length, int):
                raise ValueError(
                    f"{self.label}: axis {axis} has the symbolic length {length}; the bins follow from the length, "
                    "so export with a number there"
                )
            begin, end = bins(length, count)
            width = int((end - begin).max())
            steps = begin[:, None] + np.arange(width)
            there = steps < end[:, None]
            if length != count * width:  # bins that differ or overlap: the shorter ones see their last step again
                x = jnp.take(x, np.minimum(steps, end[:, None] - 1).ravel(), axis, mode="clip")
            window = [width if a == axis else 1 for a in range(x.ndim)]
            weight = (there / (end - begin)[:, None]).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = self.reduce(x, window, weight)
        return x, Effects()

    def _call_masked(self, x: Array, mask: Array) -> Array:
        """Pool bins over the steps of each sample's own sequence, for a mask (batch, time)."""
        time = self._first()
        steps, (start, length), (count,) = (
            jnp.arange(mask.shape[1], dtype=jnp.int32),
            valid_range(mask),
            self.output_size,
        )
        edges = jnp.arange(count + 1, dtype=jnp.int32)[:, None] * length[None]
        begin, end = start[None] + edges[:-1] // count, start[None] - (-edges[1:] // count)  # (count, batch)

        def one(bin: tuple[Array, Array]) -> Array:
            first, behind = (v[:, None] for v in bin)
            inside = (steps[None] >= first) & (steps[None] < behind) & mask
            return self.reduce_masked(jnp.moveaxis(x, time, 1), inside[..., None])

        return jnp.moveaxis(lax.map(one, (begin, end)), 0, time)

    def output_mask(self, x: Array, mask: Any) -> Any:
        return super().output_mask(x, mask) if self.rank > 1 else None  # each bin is one of the sample's own sequence

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        """Reduce windows that follow one another; ``weight`` is each step's part in the mean of its bin."""
        raise NotImplementedError

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        """Reduce the steps (batch, time, channels) that are ``inside`` one bin; 0 where there are none."""
        raise NotImplementedError


class _AdaptiveMax(BaseAdaptivePooling):
    """Keep the largest value of each bin; the gradient goes to the first of several."""

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, window, window, "VALID")

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        largest = jnp.where(inside, x, jnp.array(-jnp.inf, x.dtype)).max(1)
        return jnp.where(inside.any(1), largest, jnp.zeros((), x.dtype))


class _AdaptiveAverage(BaseAdaptivePooling):
    """Average each bin."""

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        wide = promote(x.dtype, np.float32)  # the sum of a bin may not fit in float16
        parts = x.astype(wide) * jnp.asarray(weight, wide)
        return lax.reduce_window(parts, np.array(0, wide), lax.add, window, window, "VALID").astype(x.dtype)

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        wide = promote(x.dtype, np.float32)
        total = jnp.where(inside, x.astype(wide), jnp.zeros((), wide)).sum(1)
        return (total / jnp.maximum(inside.sum(1), 1).astype(wide)).astype(x.dtype)


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveMaxPooling1D(_AdaptiveMax):
    """Keep the largest value of each of ``output_size`` bins over a sequence of any length.

    Bin ``i`` of ``m`` over ``n`` steps goes from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``, as in PyTorch.

    Differs deliberately: these are whole numbers, while Keras rounds a float32 quotient, which gives it NaN for 7 of 7.

    Args:
        output_size: length of the output, in steps; one integer or one for each spatial axis, at least 1.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes:
        (batch, time, channels) -> (batch, output_size, channels).

    Raises:
        ValueError: sizes that are none; an input of another rank, or of length 0.

    >>> AdaptiveMaxPooling1D(2).apply_fn({}, jnp.arange(5.0).reshape(1, 5, 1)).ravel()
    Array([2., 4.], dtype=float32)
    """

    rank: ClassVar[int] = 1


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveMaxPooling2D(_AdaptiveMax):
    """Keep the largest value of each bin of an image; the bins of an axis as in :class:`AdaptiveMaxPooling1D`.

    Arguments as in :class:`AdaptiveMaxPooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, *output_size, channels).

    >>> AdaptiveMaxPooling2D((4, 2)).output_shape((None, 9, None, 3))
    (None, 4, 2, 3)
    """

    rank: ClassVar[int] = 2


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveMaxPooling3D(_AdaptiveMax):
    """Keep the largest value of each bin of a volume; the bins of an axis as in :class:`AdaptiveMaxPooling1D`.

    Arguments as in :class:`AdaptiveMaxPooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, *output_size, channels).

    >>> AdaptiveMaxPooling3D(2).output_shape((None, 9, 6, 4, 3))
    (None, 2, 2, 2, 3)
    """

    rank: ClassVar[int] = 3


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveAveragePooling1D(_AdaptiveAverage):
    """Average each of ``output_size`` bins over a sequence of any length.

    Bin ``i`` of ``m`` over ``n`` steps goes from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``, as in PyTorch.

    Differs deliberately: these are whole numbers, while Keras rounds a float32 quotient, which gives it NaN for 7 of 7;
    and in half precision the sums are of float32.

    Args:
        output_size: length of the output, in steps; one integer or one for each spatial axis, at least 1.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes:
        (batch, time, channels) -> (batch, output_size, channels).

    Raises:
        ValueError: sizes that are none; an input of another rank, or of length 0.

    >>> AdaptiveAveragePooling1D(2).apply_fn({}, jnp.arange(5.0).reshape(1, 5, 1)).ravel()
    Array([1., 3.], dtype=float32)
    """

    rank: ClassVar[int] = 1


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveAveragePooling2D(_AdaptiveAverage):
    """Average each bin of an image; the bins of an axis as in :class:`AdaptiveAveragePooling1D`.

    Arguments as in :class:`AdaptiveAveragePooling1D`.

    Shapes:
        (batch, rows, columns, channels) -> (batch, *output_size, channels).

    >>> AdaptiveAveragePooling2D((4, 2)).output_shape((None, 9, None, 3))
    (None, 4, 2, 3)
    """

    rank: ClassVar[int] = 2


@layers.register()
@dataclasses.dataclass(frozen=True)
class AdaptiveAveragePooling3D(_AdaptiveAverage):
    """Average each bin of a volume; the bins of an axis as in :class:`AdaptiveAveragePooling1D`.

    Arguments as in :class:`AdaptiveAveragePooling1D`.

    Shapes:
        (batch, depth, rows, columns, channels) -> (batch, *output_size, channels).

    >>> AdaptiveAveragePooling3D(2).output_shape((None, 9, 6, 4, 3))
    (None, 2, 2, 2, 3)
    """

    rank: ClassVar[int] = 3
