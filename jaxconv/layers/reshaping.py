"""Layers that rearrange or cut and compute nothing: Flatten, Cropping1D, Cropping2D, Cropping3D."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv import data_format as formats
from jaxconv import geometry as geo
from jaxconv.layers.layer import Layer, Params, Shape, as_shape, layers

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class Flatten(Layer):
    """Lay out all axes but the batch in one.

    Args:
        data_format: "channels_first" moves the channels last before flattening, so that both formats give the same
            result, as in Keras; None means ``image_data_format()``.

    Shapes:
        (batch, ...) -> (batch, product); (batch,) -> (batch, 1).

    >>> params, apply_fn = Flatten().init(jax.random.key(0), (None, 4, 3))
    >>> apply_fn(params, jnp.ones((2, 4, 3))).shape
    (2, 12)
    """

    data_format: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(data_format=formats.canonical(self.data_format, "Flatten"))

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "Flatten")
        if not shape:
            raise ValueError("Flatten: input of shape () has no batch axis; this layer needs (batch, ...)")
        return (shape[0], None if None in shape[1:] else math.prod(shape[1:]))  # type: ignore[arg-type]

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if self.data_format == "channels_first" and x.ndim > 2:
            x = jnp.moveaxis(x, 1, -1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), {}


@dataclasses.dataclass(frozen=True)
class _Cropping(Layer):
    """Cut from both ends of the spatial axes, in any rank."""

    cropping: Any = 1
    data_format: str | None = None

    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        where, rank = type(self).__name__, self.rank
        several = isinstance(self.cropping, Iterable) and not isinstance(self.cropping, str)
        items = list(self.cropping) if several else [self.cropping] * rank
        if rank == 1 and len(items) == 2:
            items = [items]  # Keras's one-dimensional form: (before, after)
        if len(items) != rank:
            raise ValueError(f"{where}: cropping={self.cropping!r} does not fit; give {rank} integer(s) or pair(s)")
        pairs = tuple(geo.as_sizes(item, 2, "cropping", where, 0) for item in items)
        self._set(cropping=pairs, data_format=formats.canonical(self.data_format, where))

    def output_shape(self, input_shape: Any) -> Shape:
        where, shape = type(self).__name__, as_shape(input_shape, type(self).__name__)
        formats.check_rank(shape, self.rank, str(self.data_format), where)
        out = list(shape)
        for axis, (before, after) in enumerate(self.cropping, 1 + (self.data_format == "channels_first")):
            length = shape[axis]
            if isinstance(length, int) and length <= before + after:
                raise ValueError(
                    f"{where}: cropping {(before, after)} leaves nothing of axis {axis} in input shape {shape}; "
                    f"the shortest legal length is {before + after + 1}"
                )
            out[axis] = None if length is None else length - before - after
        return tuple(out)

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        cuts = [slice(before, -after or None) for before, after in self.cropping]
        return x[(slice(None),) * (1 + (self.data_format == "channels_first")) + tuple(cuts)], {}

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self.rank == 1:
            config["cropping"] = config["cropping"][0]
            if self.data_format == "channels_last":
                del config["data_format"]  # Keras's layer knows no other and refuses the word
        return config


@layers.register()
@dataclasses.dataclass(frozen=True)
class Cropping1D(_Cropping):
    """Cut steps from both ends of a sequence.

    Args:
        cropping: (before, after), or one count for both ends, in steps.
        data_format: "channels_last", whatever the config file says, or "channels_first", which Keras's layer has not.

    Shapes:
        (batch, time, channels) -> (batch, time - before - after, channels).

    >>> params, apply_fn = Cropping1D((9, 0)).init(jax.random.key(0), (None, 10, 3))  # the last step
    >>> apply_fn(params, jnp.ones((2, 10, 3))).shape
    (2, 1, 3)
    """

    cropping: Any = (1, 1)
    data_format: str | None = "channels_last"
    rank: ClassVar[int] = 1


@layers.register()
@dataclasses.dataclass(frozen=True)
class Cropping2D(_Cropping):
    """Cut rows and columns from the edges of an image: one count, one for each axis, or (before, after) for each.

    >>> Cropping2D(((1, 0), (2, 2))).output_shape((None, 8, 8, 3))
    (None, 7, 4, 3)
    """

    cropping: Any = ((0, 0), (0, 0))
    rank: ClassVar[int] = 2


@layers.register()
@dataclasses.dataclass(frozen=True)
class Cropping3D(_Cropping):
    """Cut from the faces of a volume: one count, one for each axis, or (before, after) for each.

    >>> Cropping3D(1).output_shape((None, 8, 8, 8, 3))
    (None, 6, 6, 6, 3)
    """

    cropping: Any = ((1, 1), (1, 1), (1, 1))
    rank: ClassVar[int] = 3
