"""Cropping1D, 2D and 3D remove steps at the ends of the spatial axes; ZeroPadding1D, 2D and 3D add zeros."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from jax import Array, lax

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.contract.spatial import with_channels
from jaxconv.layers.sharding import gather_uneven


class BaseEdges(Layer):
    """A layer with a (before, after) pair for each spatial axis; ``edges`` names the field that contains them."""

    edges: ClassVar[str]
    data_format: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        where, value, rank = type(self).__name__, getattr(self, self.edges), self.rank
        several = isinstance(value, Iterable) and not isinstance(value, str)
        items = list(value) if several else [value] * rank
        if rank == 1 and several and not isinstance(next(iter(items), None), Iterable):
            items = [items] if len(items) == 2 else []  # Keras's one-dimensional form: (before, after)
        if len(items) != rank:
            raise ValueError(f"{where}: {self.edges}={value!r} does not fit; give {rank} integer(s) or pair(s)")
        pairs = tuple(geo.as_sizes(item, 2, self.edges, where, 0) for item in items)
        self._set(**{self.edges: pairs})

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs of all axes, batch and channels included."""
        own, none = getattr(self, self.edges), (0, 0)
        return [none, *own, none] if self.data_format == "channels_last" else [none, none, *own]

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        formats.check_rank(input_shape, self.rank, str(self.data_format), type(self).__name__)
        sign = -1 if self.edges == "cropping" else 1
        each = [Window(padding=(sign * before, sign * after)) for before, after in getattr(self, self.edges)]
        return with_channels(self.data_format, each, POINTWISE)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {self.edges: config[self.edges][0]} if self.rank == 1 else config


@dataclasses.dataclass(frozen=True)
class _Cropping(BaseEdges):
    """Remove steps at both ends of the spatial axes, in any rank.

    Args:
        cropping: one count for all ends, in steps; or one for each axis, or (before, after) for each.
        data_format: "channels_last", "channels_first" (in one dimension beyond Keras), or None for
            ``image_data_format()`` (in one dimension channels_last, regardless of the config file).

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, channels), shorter by ``before + after``.

    Raises:
        ValueError: a negative count, or a number of them that does not fit.

    >>> Cropping1D((9, 0)).output_shape((None, 10, 3)), Cropping2D(((1, 0), (2, 2))).output_shape((None, 8, 8, 3))
    ((None, 1, 3), (None, 7, 4, 3))
    """

    cropping: Any = 1
    data_format: str | None = None

    edges: ClassVar[str] = "cropping"
    output_values: ClassVar[str | None] = "input"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        x = gather_uneven(x, self.output_shape(x.shape))
        return x[tuple(slice(before, -after or None) for before, after in self.pairs)], Effects()


@register(layers)
class Cropping1D(_Cropping, rank=1):
    """Remove steps at both ends of a sequence. The default data format is always channels_last."""

    cropping: Any = (1, 1)
    data_format: str | None = "channels_last"
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"data_format"})


@register(layers)
class Cropping2D(_Cropping, rank=2):
    """Remove rows and columns at the edges of an image."""

    cropping: Any = ((0, 0), (0, 0))


@register(layers)
class Cropping3D(_Cropping, rank=3):
    """Remove planes at the faces of a volume."""

    cropping: Any = ((1, 1), (1, 1), (1, 1))


@dataclasses.dataclass(frozen=True)
class _ZeroPadding(BaseEdges):
    """Add zeros at both ends of the spatial axes, in any rank.

    Args:
        padding: one count for all ends, in steps; or one for each axis, or (before, after) for each.
        data_format: "channels_last", "channels_first", or None for ``image_data_format()``.

    Shapes: (batch, *spatial, channels) -> (batch, *new_spatial, channels), longer by ``before + after``.

    Raises:
        ValueError: a negative count, or a number of them that does not fit.

    >>> params, apply_fn = ZeroPadding1D((2, 0)).init(jax.random.key(0), (None, 1, 1))
    >>> apply_fn(params, jnp.ones((1, 1, 1)))[0, :, 0]
    Array([0., 0., 1.], dtype=float32)
    """

    padding: Any = 1
    data_format: str | None = None

    edges: ClassVar[str] = "padding"

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        x = gather_uneven(x, self.output_shape(x.shape))
        return lax.pad(x, np.zeros((), x.dtype), [(*pair, 0) for pair in self.pairs]), Effects()


@register(layers)
class ZeroPadding1D(_ZeroPadding, rank=1):
    """Add zeros before and after a sequence."""


@register(layers)
class ZeroPadding2D(_ZeroPadding, rank=2):
    """Add zeros around an image."""

    padding: Any = (1, 1)


@register(layers)
class ZeroPadding3D(_ZeroPadding, rank=3):
    """Add zeros around a volume."""

    padding: Any = ((1, 1), (1, 1), (1, 1))
