"""Dropout: multiplicative noise in training, nothing at inference."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv.layers.layer import Layer, Params, Shape, as_shape, layers

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class Dropout(Layer):
    """Set a fraction of the entries to zero in training and scale the others by 1 / (1 - rate).

    The key is the caller's: ``forward(params, x, train=True, key=key)``; the same key drops the same entries.

    Args:
        rate: fraction dropped, 0 to 1.
        noise_shape: shape of the mask; an axis of size 1 drops all along it together, None stands for the input's size.
        seed: folded into the caller's key; None leaves it alone.

    Shapes:
        Any shape, kept.

    Raises:
        ValueError: a rate outside 0 to 1; a mask that does not fit; training without a key.

    >>> params, apply_fn = Dropout(0.5).init(jax.random.key(0), (None, 4))
    >>> y, _ = apply_fn.forward(params, jnp.ones((1, 4)), train=True, key=jax.random.key(1))
    >>> set(y.ravel().tolist()) <= {0.0, 2.0}
    True
    """

    rate: float
    noise_shape: Any = None
    seed: int | None = None

    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rate, bool | str) or not hasattr(self.rate, "__float__") or not 0 <= float(self.rate) <= 1:
            raise ValueError(f"Dropout: rate={self.rate!r} is no fraction; give a number from 0 to 1, the part dropped")
        seed = self.seed
        if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed < 2**32):
            raise ValueError(f"Dropout: seed={seed!r} is not a whole number from 0 to {2**32 - 1}; give one, or None")
        mask = None if self.noise_shape is None else as_shape(self.noise_shape, "Dropout: noise_shape")
        self._set(rate=float(self.rate), noise_shape=mask)

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "Dropout")
        mask = self.noise_shape
        if mask is not None and (
            len(mask) != len(shape)
            or any(m not in (1, None) and None is not n != m for m, n in zip(mask, shape, strict=True))
        ):
            raise ValueError(
                f"Dropout: noise_shape={mask} does not fit input of shape {shape}; each is 1, None or the input's size"
            )
        return shape

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        if not train or self.rate == 0:
            return x, {}
        if self.rate == 1:
            return jnp.zeros_like(x), {}
        if self.seed is not None:
            key = jax.random.fold_in(key, self.seed)
        shape = x.shape
        if self.noise_shape is not None:
            shape = tuple(n if m is None else m for m, n in zip(self.noise_shape, x.shape, strict=True))
        keep = jax.random.bernoulli(key, 1 - self.rate, shape)
        return jnp.where(jnp.broadcast_to(keep, x.shape), x / (1 - self.rate), jnp.zeros_like(x)), {}
