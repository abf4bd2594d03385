"""GaussianNoise, GaussianDropout, and the base of all layers that add noise in training and none at inference."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
from jax import Array

from jaxconv.contract import POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.layers.options import as_number, as_seed, at_least_0


def below_one(rate: Any, what: str, where: str) -> float:
    """Return a rate from 0 to below 1. Raises ValueError for any other value, 1 included."""
    if as_number(rate, what, where, 0, 1) == 1:
        raise ValueError(f"{where}: {what}={rate!r} would drop everything; give a number from 0 to below 1")
    return float(rate)


@dataclasses.dataclass(frozen=True)
class Noise(Layer):
    """The base of layers that add noise in training, with the caller's key, and are the identity at inference.

    A subclass has a field ``seed``, folded into the key unless it is None, and implements ``add_noise``.
    """

    needs_key: ClassVar[bool] = True
    strength: ClassVar[str] = "rate"  # the option that is 0 where there is no noise
    output_values: ClassVar[str | None] = "input"

    def add_noise(self, x: Array, key: Any) -> Array:
        """Return the input with noise."""
        raise NotImplementedError

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (POINTWISE,) * (len(input_shape) - 1)

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        if not train or getattr(self, self.strength) == 0:
            return x, Effects()
        seed = self.seed  # type: ignore[attr-defined]
        return self.add_noise(x, key if seed is None else jax.random.fold_in(key, seed)), Effects()


@register(layers)
class GaussianNoise(Noise):
    """Add noise of mean 0 and standard deviation ``stddev`` in training.

    Differs deliberately: ``stddev`` may be above 1, because it is in units of the input; Keras requires at most 1.

    Args:
        stddev: standard deviation of the noise, in units of the input; at least 0.
        seed: folded into the caller's key; None leaves the key unchanged.

    Shapes:
        Any shape, kept.

    Raises:
        ValueError: a negative stddev; training without a key.

    >>> params, apply_fn = GaussianNoise(0.1).init(jax.random.key(0), (None, 4))
    >>> y, _ = apply_fn.forward(params, jnp.ones((1, 4)), train=True, key=jax.random.key(1))
    >>> bool((abs(y - 1) < 0.5).all() and (y != 1).all())
    True
    """

    stddev: float
    seed: int | None = None

    checks: ClassVar[dict[str, Any]] = {"stddev": at_least_0, "seed": as_seed}
    strength: ClassVar[str] = "stddev"

    def add_noise(self, x: Array, key: Any) -> Array:
        return x + self.stddev * jax.random.normal(key, x.shape, x.dtype)


@register(layers)
class GaussianDropout(Noise):
    """Multiply by noise of mean 1 and standard deviation ``sqrt(rate / (1 - rate))`` in training.

    Mean and variance of the result are those of :class:`~jaxconv.Dropout` with the same rate.

    Args:
        rate: from 0 to below 1; the fraction that Dropout would drop. (At 1 Keras divides by zero.)
        seed: folded into the caller's key; None leaves the key unchanged.

    Shapes:
        Any shape, kept.

    Raises:
        ValueError: a rate that is not legal; training without a key.

    Source: Srivastava et al. 2014, section 10, https://jmlr.org/papers/v15/srivastava14a.html

    >>> params, apply_fn = GaussianDropout(0.2).init(jax.random.key(0), (None, 4))
    >>> y, _ = apply_fn.forward(params, jnp.zeros((1, 4)), train=True, key=jax.random.key(1))
    >>> y
    Array([[0., 0., 0., 0.]], dtype=float32)
    """

    rate: float
    seed: int | None = None

    checks: ClassVar[dict[str, Any]] = {"rate": below_one, "seed": as_seed}

    def add_noise(self, x: Array, key: Any) -> Array:
        return x * (1 + math.sqrt(self.rate / (1 - self.rate)) * jax.random.normal(key, x.shape, x.dtype))
