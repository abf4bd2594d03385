"""UpSampling1D, UpSampling2D and UpSampling3D: repetition or interpolation along the spatial axes."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv import kernels
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.contract.spatial import spatial_axes, spatial_lengths, with_channels
from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry
from jaxconv.layers.sharding import explicit_sharding, gather_axes
from jaxconv.ops.operands import dimension_numbers
from jaxconv.registry import nearest

# Keras's names -> those of jax.image.resize; "nearest" is repetition
METHODS = {"bilinear": "linear", "bicubic": "cubic", "lanczos3": "lanczos3", "lanczos5": "lanczos5"}
REACHES = {"bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}  # input steps read on either side


def _window(factor: int, reach: int | None) -> Window:
    """Return the window of one axis; ``reach`` is the number of input steps that are read on either side."""
    if reach is None or factor == 1:
        return Window(factor, factor, padding="valid", transposed=True) if factor > 1 else POINTWISE
    size, pads = _extent(factor, reach)
    return Window(size, factor, 1, pads, "renormalize", transposed=True)


def _extent(factor: int, reach: int) -> tuple[int, tuple[int, int]]:
    """Return the size of the window of an interpolation, and how much of it is cut off at the two ends of an axis."""
    size = 2 * reach * factor - factor % 2  # the weights at the very ends are zero
    before = reach * factor - (factor + 1) // 2
    return size, (before, size - factor - before)


@functools.lru_cache
def _weights(interpolation: str, factor: int, dtype: str) -> np.ndarray:
    """Return the weights of one step at the new steps of its window, far from the ends."""
    (size, (before, _)), place = _extent(factor, REACHES[interpolation]), 2 * REACHES[interpolation]
    with jax.ensure_compile_time_eval():
        step = jnp.zeros(2 * place + 1, dtype).at[place].set(1)
        new = np.asarray(jax.image.resize(step, (step.size * factor,), METHODS[interpolation], antialias=False))
    return new[place * factor - before :][:size]


@dataclasses.dataclass(frozen=True)
class BaseUpSampling(Layer):
    """Lengthen the spatial axes by whole factors, in any rank.

    Args:
        size: the factor; in two and three dimensions one for all axes, or one for each.
        data_format: "channels_last", "channels_first" (in one dimension beyond Keras), or None for
            ``image_data_format()``.
        interpolation: "nearest" repeats each step; "bilinear" (linear in one dimension), "bicubic", "lanczos3" and
            "lanczos5" take samples at half steps: the corners keep their positions, not the centres of the corner
            pixels. In one and three dimensions beyond Keras, which repeats.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, channels), each length times its factor.

    Raises:
        ValueError: a factor that is not a positive integer, or an interpolation that is not valid.

    >>> params, apply_fn = UpSampling1D(2).init(jax.random.key(0), (None, 2, 1))
    >>> apply_fn(params, jnp.array([[[1.0], [2.0]]]))[0, :, 0]
    Array([1., 1., 2., 2.], dtype=float32)
    """

    size: Any = 2
    data_format: str | None = None
    interpolation: str = "nearest"

    output_values: ClassVar[str | None] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        where, allowed, method = type(self).__name__, ("nearest", *METHODS), self.interpolation
        if not isinstance(method, str) or method.lower() not in allowed:
            raise ValueError(f"{where}: unknown interpolation {method!r}; {nearest(str(method), allowed)}")
        self._set(size=geo.as_sizes(self.size, self.rank, "size", where), interpolation=method.lower())

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        where = type(self).__name__
        if self.interpolation == "nearest":
            formats.check_rank(input_shape, self.rank, str(self.data_format), where)
        else:
            spatial_lengths(input_shape, self.rank, self.data_format, where)
        reach = REACHES.get(self.interpolation)
        return with_channels(self.data_format, [_window(factor, reach) for factor in self.size], POINTWISE)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        if self.interpolation == "nearest":
            y = x.astype(promote(x.dtype, jnp.float32))  # the gradient is a sum
            for axis, factor in zip(spatial_axes(self.rank, self.data_format), self.size, strict=True):
                shape = (*y.shape[: axis + 1], factor, *y.shape[axis + 1 :])
                y = lax.broadcast_in_dim(y, shape, [d for d in range(y.ndim + 1) if d != axis + 1])
                shape = (*y.shape[:axis], y.shape[axis] * factor, *y.shape[axis + 2 :])
                y = lax.reshape(y, shape, out_sharding=explicit_sharding(x))
            return y.astype(x.dtype), Effects()
        dtype = promote(x.dtype, jnp.float32)  # in half precision the weights would not sum to one
        y = self._resize(x.astype(dtype))
        if mask is not None:  # the weights of unmasked steps sum to one, as at the end of an unbatched sequence
            weight = self._resize(jnp.broadcast_to(mask, x.shape).astype(dtype))
            y = y / jnp.where(weight == 0, jnp.ones_like(weight), weight)
        return y.astype(x.dtype), Effects()

    def _resize(self, x: Array) -> Array:
        """Interpolate by transposed convolutions, which split over devices, or by matrix products if they are faster.

        In two and three dimensions, convolutions are used for the few weights of bilinear interpolation and along a
        sharded Explicit axis. Whether Auto axes are sharded is not known here.

        For 8 images of 32 x 32 x 64 on CPU, bicubic interpolation by 2 takes 15 ms by matrix products and 21 ms by
        convolutions, its gradient 16 ms and 112 ms. Bilinear interpolation takes 12 ms and 4 ms.
        """
        longer = [a for a, n in zip(spatial_axes(self.rank, self.data_format), self.size, strict=True) if n > 1]
        sharding = explicit_sharding(x)
        cut = sharding is not None and any(sharding.spec[a] for a in longer)
        split = self.rank == 1 or self.interpolation == "bilinear" or cut
        if not split or not all(isinstance(n, int) for n in x.shape):
            x, shape = gather_axes(x, longer), self.output_shape(x.shape)
            return jax.image.resize(x, shape, METHODS[self.interpolation], antialias=False)
        for axis, factor in enumerate(self.size):
            if factor > 1:
                # else XLA recomputes the entries of one axis for each weight of the next
                x = lax.optimization_barrier(self._interpolate(x, axis, factor))
        return x

    def _interpolate(self, x: Array, axis: int, factor: int) -> Array:
        """Lengthen one spatial axis: each step adds its weights, which are divided by their sum at every new step."""
        rank, dims = self.rank, dimension_numbers(self.rank, str(self.data_format))
        where, channels, one = dims[2 + axis], x.shape[dims[1]], (1,) * rank
        size, (before, after) = _extent(factor, REACHES[self.interpolation])
        weights, length = _weights(self.interpolation, factor, x.dtype.name), x.shape[where] * factor

        def along(value: Any, others: Any) -> tuple[Any, ...]:
            return tuple(value if i == axis else others[i] for i in range(rank))

        lengths = along(length, [x.shape[d] for d in dims[2:]])
        pads, taps, steps = along((before, after), ((0, 0),) * rank), along(size, one), along(factor, one)
        w_dims = (rank + 1, rank, *range(rank))
        geometry = Geometry(lengths, taps, steps, pads, one, one, channels, dims, w_dims, dims)
        kernel = jnp.broadcast_to(jnp.asarray(weights).reshape(*taps, 1, 1), (*taps, 1, channels))
        y = kernels.transpose(x, kernel, geometry, precision=lax.Precision.HIGHEST)
        total = np.zeros(before + length + after, weights.dtype)
        for tap, weight in enumerate(weights):
            total[tap : tap + length : factor] += weight
        total = total[before : before + length]
        return y / lax.broadcast_in_dim(total, [length if d == where else 1 for d in range(x.ndim)], (where,))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {"size": config["size"][0]} if self.rank == 1 else config


@register(layers)
class UpSampling1D(BaseUpSampling, rank=1):
    """Lengthen a sequence by a whole factor. The default data format is always channels_last."""

    data_format: str | None = "channels_last"
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"data_format", "interpolation"})

    def __post_init__(self) -> None:
        if isinstance(self.size, bool):  # as in Keras; other layers take True as 1
            raise TypeError(f"UpSampling1D: size={self.size!r} is a bool; give a positive integer")
        super().__post_init__()


@register(layers)
class UpSampling2D(BaseUpSampling, rank=2):
    """Enlarge an image by whole factors."""

    size: Any = (2, 2)


@register(layers)
class UpSampling3D(BaseUpSampling, rank=3):
    """Enlarge a volume by whole factors."""

    size: Any = (2, 2, 2)
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"interpolation"})
