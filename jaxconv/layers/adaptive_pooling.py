"""Max and average pooling to a given output size, in one, two and three dimensions.

The bins depend on the input length; pooling with windows of a given size is in pooling.py.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register, whole
from jaxconv.contract.masks import fill_masked, valid_range
from jaxconv.contract.spatial import spatial_axes, spatial_lengths, with_channels
from jaxconv.dtypes import promote
from jaxconv.kernels.maximum import largest_along
from jaxconv.kernels.windowed import largest, total
from jaxconv.layers.sharding import gather_axes


def bins(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and the end of each of ``count`` bins over ``length`` steps.

    Bin ``i`` of ``m`` goes from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``. Neighbouring bins share a step if
    their border is inside it. With more bins than steps, steps are repeated.

    >>> [list(range(*bin)) for bin in zip(*bins(5, 3), strict=True)]
    [[0, 1], [1, 2, 3], [3, 4]]
    """
    edges = np.arange(count + 1) * length
    return edges[:-1] // count, -(-edges[1:] // count)


def _window(length: Any, count: int) -> Window:
    """Return the window of one axis: sliding if all bins have the same size, otherwise the whole axis."""
    if isinstance(length, int) and length % count == 0:
        return Window(length // count, length // count)
    return whole(count)


@dataclasses.dataclass(frozen=True)
class BaseAdaptivePooling(Layer):
    """A reduction over bins of each spatial axis in sequence, in any rank. Subclasses reduce each bin to one value.

    Bin ``i`` of ``m`` over ``n`` steps goes from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``, as in PyTorch. In
    half precision means are computed in float32. With a mask along one axis, the bins divide each sample's own
    sequence. With a mask along several axes, they divide the entire image, and masked pixels do not count; an empty bin
    is 0.

    Differs deliberately: the bins are computed in integers; Keras rounds a float32 quotient, which gives NaN for 7 bins
    of 7 steps.

    Args:
        output_size: length of the output, in steps; one integer or one for each spatial axis, at least 1.
        data_format: "channels_last" or "channels_first"; None means ``image_data_format()``.

    Shapes: (batch, *spatial, channels) -> (batch, \\*output_size, channels).

    Raises:
        ValueError: sizes that are not positive integers; an input of another rank, or of length 0.
    """

    output_size: Any
    data_format: str | None = None

    output_values: ClassVar[str | None] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(output_size=geo.as_sizes(self.output_size, self.rank, "output_size", type(self).__name__))

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        lengths = spatial_lengths(input_shape, self.rank, self.data_format, type(self).__name__)
        return with_channels(self.data_format, list(map(_window, lengths, self.output_size)), POINTWISE)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        axes = spatial_axes(self.rank, self.data_format)
        masked = [] if mask is None else [axis for axis in axes if mask.shape[axis] != 1]
        if len(masked) > 1:  # the bins divide the entire image
            return self.reduce_pixels(x, jnp.broadcast_to(mask, x.shape)), Effects()
        return self._pool(x, mask, masked[0] if masked else None), Effects()

    def _pool(self, x: Array, mask: Any = None, time: int | None = None) -> Array:
        """Pool the axes in sequence, the axis ``time`` with a mask."""
        for axis, count in zip(spatial_axes(self.rank, self.data_format), self.output_size, strict=True):
            if axis == time:
                x = self._pool_sequences(x, mask.reshape(x.shape[0], -1), axis, count)
                continue
            length = x.shape[axis]
            if not isinstance(length, int):
                what = f"axis {axis} has the symbolic length {length}; the bins depend on it"
                raise ValueError(f"{self.label}: {what}, so export with a number")
            begin, end = bins(length, count)
            width = int((end - begin).max())
            steps = begin[:, None] + np.arange(width)
            inside = steps < end[:, None]
            if length != count * width:  # bins differ or overlap: the shorter ones repeat their last step
                x = jnp.take(gather_axes(x, [axis]), np.minimum(steps, end[:, None] - 1).ravel(), axis, mode="clip")
            window = [width if a == axis else 1 for a in range(x.ndim)]
            weight = (inside / (end - begin)[:, None]).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = self.reduce(x, window, weight)
        return x

    def _pool_sequences(self, x: Array, mask: Array, time: int, count: int) -> Array:
        """Pool bins over the steps of each sample's own sequence along one axis, for a mask (batch, time)."""
        start, length = valid_range(mask)
        steps = jnp.arange(mask.shape[1], dtype=jnp.int32)
        edges = jnp.arange(count + 1, dtype=jnp.int32)[:, None] * length[None]
        begin, end = start[None] + edges[:-1] // count, start[None] - (-edges[1:] // count)  # (count, batch)

        def pool(bin: tuple[Array, Array]) -> Array:
            first, last = bin[0][:, None], bin[1][:, None]
            inside = (steps[None] >= first) & (steps[None] < last) & mask
            return self.reduce_masked(jnp.moveaxis(x, time, 1), jnp.expand_dims(inside, range(2, x.ndim)))

        return jnp.moveaxis(lax.map(pool, (begin, end)), 0, time)

    def output_mask(self, x: Array, mask: Any) -> Any:
        # the bins divide each sample's own sequence, so with a mask along one axis every output is unmasked
        return None if mask is None or mask.ndim == 2 else super().output_mask(x, mask)

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        """Reduce adjacent windows; ``weight`` is the weight of each step in the mean of its bin."""
        raise NotImplementedError

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        """Reduce the steps (batch, time, ...) that are ``inside`` one bin; return 0 for an empty one."""
        raise NotImplementedError

    def reduce_pixels(self, x: Array, mask: Array) -> Array:
        """Reduce the unmasked pixels of each bin, for a mask along several axes; return 0 for a bin without any."""
        raise NotImplementedError


class _AdaptiveMax(BaseAdaptivePooling):
    """Compute the largest value of each bin; the first of several equal values gets the gradient.

    >>> AdaptiveMaxPooling1D(2).apply_fn({}, jnp.arange(5.0).reshape(1, 5, 1)).ravel()
    Array([2., 4.], dtype=float32)
    """

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        return largest(x, tuple(window), tuple(window), ((0, 0),) * x.ndim)

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        top = largest_along(jnp.where(inside, x, jnp.array(-jnp.inf, x.dtype)), (1,)).squeeze(1)
        return jnp.where(inside.any(1), top, jnp.zeros((), x.dtype))

    def reduce_pixels(self, x: Array, mask: Array) -> Array:
        y = self._pool(fill_masked(x, mask, -np.inf))
        return fill_masked(y, y != -np.inf)


class _AdaptiveAverage(BaseAdaptivePooling):
    """Compute the mean of each bin.

    >>> AdaptiveAveragePooling1D(2).apply_fn({}, jnp.arange(5.0).reshape(1, 5, 1)).ravel()
    Array([1., 3.], dtype=float32)
    """

    def reduce(self, x: Array, window: list[int], weight: np.ndarray) -> Array:
        wide = promote(x.dtype, np.float32)  # the sum of a bin may not fit in float16
        parts = x.astype(wide) * jnp.asarray(weight, wide)
        return total(parts, tuple(window), tuple(window), ((0, 0),) * x.ndim).astype(x.dtype)

    def reduce_masked(self, x: Array, inside: Array) -> Array:
        wide = promote(x.dtype, np.float32)
        total = jnp.where(inside, x.astype(wide), jnp.zeros((), wide)).sum(1)
        return (total / jnp.maximum(inside.sum(1), 1).astype(wide)).astype(x.dtype)

    def reduce_pixels(self, x: Array, mask: Array) -> Array:
        wide = promote(x.dtype, np.float32)
        total, count = self._pool(x.astype(wide)), self._pool(mask.astype(wide))
        return (total / jnp.where(count > 0, count, jnp.ones_like(count))).astype(x.dtype)


@register(layers)
class AdaptiveMaxPooling1D(_AdaptiveMax, rank=1):
    """Compute the largest value of each of ``output_size`` bins over a sequence of any length."""


@register(layers)
class AdaptiveMaxPooling2D(_AdaptiveMax, rank=2):
    """Compute the largest value of each of ``output_size`` bins over an image of any size."""


@register(layers)
class AdaptiveMaxPooling3D(_AdaptiveMax, rank=3):
    """Compute the largest value of each of ``output_size`` bins over a volume of any size."""


@register(layers)
class AdaptiveAveragePooling1D(_AdaptiveAverage, rank=1):
    """Compute the mean of each of ``output_size`` bins over a sequence of any length."""


@register(layers)
class AdaptiveAveragePooling2D(_AdaptiveAverage, rank=2):
    """Compute the mean of each of ``output_size`` bins over an image of any size."""


@register(layers)
class AdaptiveAveragePooling3D(_AdaptiveAverage, rank=3):
    """Compute the mean of each of ``output_size`` bins over a volume of any size."""
