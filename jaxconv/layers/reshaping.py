"""Flatten, Reshape, Permute and RepeatVector: the same entries in another shape or order."""

import math
import operator
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv import geometry as geo
from jaxconv.contract import Effects, Layer, Params, Shape, Window, layers, register, whole
from jaxconv.dtypes import broadcast
from jaxconv.layers.options import known
from jaxconv.layers.sharding import gather_axes


@register(layers)
class Flatten(Layer):
    """Flatten all axes after the batch into one.

    Args:
        data_format: "channels_first" moves the channels last before flattening, so that both formats give the same
            result, as in Keras; None means ``image_data_format()``.

    Shapes: (batch, ...) -> (batch, product); (batch,) -> (batch, 1).

    >>> params, apply_fn = Flatten().init(jax.random.key(0), (None, 4, 3))
    >>> apply_fn(params, jnp.ones((2, 4, 3))).shape
    (2, 12)
    """

    data_format: str | None = None

    min_rank: ClassVar[int] = 1
    output_values: ClassVar[str | None] = "input"

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        sizes = input_shape[1:]
        return (whole(math.prod(sizes) if known(sizes) else None),)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        if self.data_format == "channels_first" and x.ndim > 2:
            x = jnp.moveaxis(x, 1, -1)
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), Effects()


@register(layers)
class Reshape(Layer):
    """Reshape each sample, in row-major order.

    Args:
        target_shape: the shape without batch; one size may be -1, and is computed from the others.

    Shapes: (batch, ...) -> (batch, *target_shape).

    Raises:
        ValueError: sizes below -1 or two of -1; an input with another number of entries.

    >>> params, apply_fn = Reshape((-1, 2)).init(jax.random.key(0), (None, 4, 3))
    >>> apply_fn(params, jnp.ones((5, 4, 3))).shape
    (5, 6, 2)
    """

    target_shape: Any

    min_rank: ClassVar[int] = 1
    output_values: ClassVar[str | None] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = _as_integers(self.target_shape, "Reshape", "target_shape")
        if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
            raise ValueError(f"Reshape: target_shape={sizes} is not valid; give sizes of at least 0, at most one -1")
        self._set(target_shape=sizes)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        # axes are pointwise only if axes of length 1 are added or removed, and nothing else changes
        before, after = input_shape[1:], self._sizes(input_shape)
        kept = [axis for axis, size in enumerate(before) if size != 1]
        if None in before or [before[axis] for axis in kept] != [size for size in after if size != 1]:
            return tuple(map(whole, after))
        axes = iter(kept)
        return tuple(whole(1) if size == 1 else Window(axis=next(axes)) for size in after)

    def _sizes(self, shape: Any) -> Shape:
        batch, inner = shape[0], shape[1:]
        target = self.target_shape
        if None in inner:
            return tuple(None if size == -1 else size for size in target)
        total, product = math.prod(inner), math.prod(size for size in target if size != -1)
        infer = -1 in target
        if (not product or total % product) if infer else (total != product):
            what = f"Reshape: input of shape {(batch, *inner)} has {total} entries in each sample"
            raise ValueError(f"{what}; target_shape={target} needs {'a multiple of ' * infer}{product}")
        return tuple(total // product if size == -1 else size for size in target)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        x = gather_axes(x, range(1, x.ndim))
        flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # in two steps, for which JAX can derive the sharding
        return flat.reshape(x.shape[0], *self._sizes(x.shape)), Effects()


@register(layers)
class Permute(Layer):
    """Reorder the axes after the batch.

    Args:
        dims: the input axis of each output axis, counted from 1: (2, 1) swaps time and channels.

    Shapes: (batch, ...) -> (batch, ...) in the order of ``dims``.

    Raises:
        ValueError: dims that are not a permutation of 1 to their number; an input of another rank.

    >>> Permute((3, 1, 2)).output_shape((None, 8, 6, 3))  # channels last to channels first
    (None, 3, 8, 6)
    """

    dims: Any

    output_values: ClassVar[str | None] = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        dims = _as_integers(self.dims, "Permute", "dims")
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise ValueError(f"Permute: dims={dims} is not a permutation; give each of 1 to {len(dims)} once")
        self._set(dims=dims)

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        rank, needed = len(input_shape), len(self.dims) + 1
        if rank != needed:
            raise ValueError(f"Permute: input of shape {input_shape} has rank {rank}; dims={self.dims} needs {needed}")
        return tuple(Window(axis=dim - 1) for dim in self.dims)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return jnp.transpose(x, (0, *self.dims)), Effects()


@register(layers)
class RepeatVector(Layer):
    """Repeat a vector as the steps of a sequence.

    Args:
        n: number of steps.

    Shapes: (batch, channels) -> (batch, n, channels).

    >>> params, apply_fn = RepeatVector(2).init(jax.random.key(0), (None, 1))
    >>> apply_fn(params, jnp.ones((1, 1)))
    Array([[[1.],
            [1.]]], dtype=float32)
    """

    n: int

    output_values: ClassVar[str | None] = "input"

    checks: ClassVar[dict[str, Any]] = {"n": geo.as_size}

    def __post_init__(self) -> None:
        if isinstance(self.n, bool):  # as in Keras; other layers take True as 1
            raise TypeError(f"RepeatVector: n={self.n!r} is a bool; give a positive integer")
        super().__post_init__()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        rank = len(input_shape)
        if rank != 2:
            raise ValueError(f"RepeatVector: input of shape {input_shape} has rank {rank}; give (batch, channels)")
        return (whole(self.n), Window(axis=0))

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return broadcast(x[:, None], (x.shape[0], self.n, x.shape[1]), x.dtype), Effects()

    def output_mask(self, x: Array, mask: Any) -> Any:
        # the input's mask has no steps: repeat the mask of the samples, (batch,)
        return None if mask is None else jnp.repeat(mask[:, None], self.n, 1)


def _as_integers(value: Any, where: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(operator.index(item) for item in value)
    except TypeError:
        raise TypeError(f"{where}: {name}={value!r} is not a tuple of integers; give one like (2, 1)") from None
