"""Layers that are random in training and the identity at inference: Gaussian noise and several kinds of dropout."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxconv import data_format as formats
from jaxconv.contract import Effects, Params, Window, as_shape, layers, register
from jaxconv.layers.activation import Pointwise
from jaxconv.layers.options import as_fraction, as_number, as_seed, at_least_0
from jaxconv.layers.sharding import explicit_sharding


def below_one(rate: Any, what: str, where: str) -> float:
    """Return a rate of at least 0 and below 1. Raises ValueError otherwise."""
    if as_number(rate, what, where, 0, 1) == 1:
        raise ValueError(f"{where}: {what}={rate!r} would drop everything; give a number from 0 to below 1")
    return float(rate)


@dataclasses.dataclass(frozen=True)
class Noise(Pointwise):
    """The base of layers that add noise in training, with the caller's key, and are the identity at inference.

    A subclass has a field ``seed``, folded into the key unless it is None, and implements ``add_noise``.
    """

    needs_key: ClassVar[bool] = True
    strength: ClassVar[str] = "rate"  # the option that is 0 if there is no noise
    output_values: ClassVar[str | None] = "input"

    def add_noise(self, x: Array, key: Any) -> Array:
        """Return the input with noise."""
        raise NotImplementedError

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

    Shapes: Any shape, kept.

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

    Shapes: Any shape, kept.

    Raises:
        ValueError: a rate that is not valid; training without a key.

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


@dataclasses.dataclass(frozen=True)
class _Masked(Noise):
    """The base of layers that keep each entry, or all entries along an axis, with probability ``1 - rate``."""

    rate: float

    checks: ClassVar[dict[str, Any]] = {"rate": as_fraction, "seed": as_seed}

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the random mask; along an axis of size 1 all entries are kept or dropped together."""
        return shape

    def keep(self, x: Array, key: Any) -> Array:
        """Return a random mask: True where an entry is kept."""
        mask = jax.random.bernoulli(key, 1 - self.rate, self.mask_shape(x.shape))
        mask, sharding = jnp.broadcast_to(mask, x.shape), explicit_sharding(x)
        return mask if sharding is None else jax.sharding.reshard(mask, sharding)

    def add_noise(self, x: Array, key: Any) -> Array:
        if self.rate == 1:
            return jnp.zeros_like(x)
        return jnp.where(self.keep(x, key), x / (1 - self.rate), jnp.zeros_like(x))


@dataclasses.dataclass(frozen=True)
class _Shaped(_Masked):
    """The base of layers that have the shape of the random mask as an option."""

    noise_shape: Any = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_shape is not None:
            self._set(noise_shape=as_shape(self.noise_shape, f"{type(self).__name__}: noise_shape"))
            if 0 in self.noise_shape:
                raise ValueError(
                    f"{type(self).__name__}: noise_shape={self.noise_shape} contains 0; sizes are at least 1"
                )

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        where, mask, shape = type(self).__name__, self.noise_shape, input_shape
        if mask is not None and (
            len(mask) != len(shape)
            or any(m not in (1, None) and None is not n != m for m, n in zip(mask, shape, strict=True))
        ):
            allowed = "each is 1, None or the input's size"
            raise ValueError(f"{where}: noise_shape={mask} does not fit input of shape {shape}; {allowed}")
        return super().windows(input_shape)

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        mask = self.noise_shape or (None,) * len(shape)
        return tuple(n if m is None else m for m, n in zip(mask, shape, strict=True))


@register(layers)
class Dropout(_Shaped):
    """Set a fraction of the entries to zero in training and scale the others by 1 / (1 - rate).

    The caller passes the key: ``forward(params, x, train=True, key=key)``; the same key drops the same entries.

    Args:
        rate: fraction dropped, 0 to 1.
        noise_shape: shape of the random mask; entries along an axis of size 1 are dropped together, None means the
            input's size.
        seed: folded into the caller's key; None leaves the key unchanged.

    Shapes: Any shape, kept.

    Raises:
        ValueError: a rate outside 0 to 1; a noise_shape that does not fit the input; training without a key.

    >>> params, apply_fn = Dropout(0.5).init(jax.random.key(0), (None, 4))
    >>> y, _ = apply_fn.forward(params, jnp.ones((1, 4)), train=True, key=jax.random.key(1))
    >>> set(y.ravel().tolist()) <= {0.0, 2.0}
    True
    """


@register(layers)
class AlphaDropout(_Shaped):
    """Set a fraction of the entries to selu's lower limit in training, then scale and shift all entries.

    Dropped entries become ``-1.758``, the limit of selu at minus infinity. The affine map that follows keeps mean 0 and
    variance 1 of the input; ordinary dropout would change the variance.

    Args:
        rate: fraction dropped, 0 to below 1. (At 1 Keras divides by zero.)
        noise_shape, seed: as in :class:`Dropout`.

    Shapes: Any shape, kept.

    Raises:
        ValueError: a rate that is not valid; a noise_shape that does not fit the input; training without a key.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515

    >>> params, apply_fn = AlphaDropout(0.5).init(jax.random.key(0), (None, 4))
    >>> y, _ = apply_fn.forward(params, jnp.zeros((1, 4)), train=True, key=jax.random.key(1))
    >>> set(abs(y).round(2).ravel().tolist()) == {abs(y[0, 0]).round(2).item()}  # at rate 0.5, 0.78 or -0.78
    True
    """

    checks: ClassVar[dict[str, Any]] = {"rate": below_one, "seed": as_seed}
    limit: ClassVar[float] = -1.6732632423543772 * 1.0507009873554805

    def add_noise(self, x: Array, key: Any) -> Array:
        scale = ((1 - self.rate) * (1 + self.rate * self.limit**2)) ** -0.5
        shift = -scale * self.limit * self.rate
        return scale * jnp.where(self.keep(x, key), x, jnp.full_like(x, self.limit)) + shift


@dataclasses.dataclass(frozen=True)
class _Spatial(_Masked):
    """The base of layers that drop whole channels, in any rank. The others are scaled by 1 / (1 - rate).

    Neighbouring steps are correlated, so dropping single entries removes little information; dropping a channel does.

    Args:
        rate: fraction of the channels of each sample that is dropped, 0 to 1.
        seed: folded into the caller's key; None leaves the key unchanged.
        data_format: "channels_last", "channels_first" (in one dimension beyond Keras), or None for
            ``image_data_format()``.

    Shapes: (batch, *spatial, channels), kept.

    Raises:
        ValueError: a rate outside 0 to 1; an input of another rank; training without a key.

    Source: Tompson et al. 2015, https://arxiv.org/abs/1411.4280

    >>> params, apply_fn = SpatialDropout1D(0.5).init(jax.random.key(0), (None, 5, 4))
    >>> y, _ = apply_fn.forward(params, jnp.ones((1, 5, 4)), train=True, key=jax.random.key(1))
    >>> bool((y == y[:, :1]).all())  # all steps of a channel are alike
    True
    """

    data_format: str | None = None
    seed: int | None = None

    beyond_keras: ClassVar[frozenset[str]] = frozenset({"trainable"})

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        formats.check_rank(input_shape, self.rank, str(self.data_format), type(self).__name__)
        return super().windows(input_shape)

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        ones = (1,) * self.rank
        return (shape[0], *ones, shape[-1]) if self.data_format == "channels_last" else (*shape[:2], *ones)


@register(layers)
class SpatialDropout1D(_Spatial, rank=1):
    """Set a fraction of the channels of a sequence to zero in training, at all steps.

    The default data format is channels_last, regardless of the config file.
    """

    data_format: str | None = dataclasses.field(default="channels_last", kw_only=True)
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"trainable", "data_format"})


@register(layers)
class SpatialDropout2D(_Spatial, rank=2):
    """Set a fraction of the channels of an image to zero in training."""


@register(layers)
class SpatialDropout3D(_Spatial, rank=3):
    """Set a fraction of the channels of a volume to zero in training."""
