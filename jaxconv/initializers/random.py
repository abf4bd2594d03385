"""Random initializers: drawn from the key or, with a seed, equal to the numbers that Keras draws."""

import math
from dataclasses import dataclass
from operator import index
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.initializers.initializer import Initializer, Shape, choice, number, registry
from jaxconv.registry import register

Axes = tuple[int, ...] | None

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")
TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal distribution cut at -2 and 2


def from_keras_seed(seed: int) -> jax.Array:
    """Return the key that Keras 3 on JAX uses for an integer seed: the threefry key ``[seed, 0]``.

    Raises:
        ValueError: for a seed outside [0, 2**32).

    >>> jax.random.key_data(from_keras_seed(7)).tolist()
    [7, 0]
    """
    return jax.random.wrap_key_data(jnp.array([_seed(seed), 0], jnp.uint32), impl="threefry2x32")


def fans(shape: Shape, input_axes: Axes = None, output_axes: Axes = None) -> tuple[int, int]:
    """Return ``(fan_in, fan_out)`` of a weight, as Keras computes them from its shape.

    The last two axes are inputs and outputs, and every other axis multiplies both. Therefore ``fan_out`` of a grouped
    kernel is not divided by the groups, the two are exchanged for a transposed kernel, and ``fan_in`` of a depthwise
    kernel counts all channels. With ``input_axes`` and ``output_axes`` they are the products of these axes.

    >>> fans((3, 3, 8, 16))
    (72, 144)
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    *window, inputs, outputs = (1, 1, *shape) if len(shape) != 1 else (*shape, *shape)
    return math.prod(window) * inputs, math.prod(window) * outputs


class Random(Initializer):
    """Base class of the random initializers.

    With an integer ``seed`` the key is ignored, and the numbers equal those of Keras 3.15 on JAX for that seed, shape
    and dtype bit for bit, also under jit (except the last bit if a ``mean`` is added). As in Keras, every call returns
    the same numbers.
    """

    seed: int | None

    def __post_init__(self) -> None:
        if self.seed is not None:
            self._set(seed=_seed(self.seed))

    def __call__(self, key: jax.Array | None, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
        if self.seed is not None:
            key = from_keras_seed(self.seed)
        if key is None:
            raise ValueError(f"{type(self).__name__}: key and seed are None; pass one of them")
        return self.draw(key, tuple(shape), dtype)

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        """Return random numbers for ``key``."""
        raise NotImplementedError

    def _numbers(self, *names: str) -> None:
        for name in names:
            self._set(**{name: number(getattr(self, name), f"{type(self).__name__}: {name}")})


@dataclass(frozen=True)
class _Normal(Random):
    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers("mean", "stddev")


@register(registry, "normal")
class RandomNormal(_Normal):
    """Draw from a normal distribution.

    >>> RandomNormal(seed=1)(None, (2,)).shape
    (2,)
    """

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return _scaled(jax.random.normal(key, shape, dtype), self.stddev) + self.mean


@register(registry)
class TruncatedNormal(_Normal):
    """Draw ``mean + stddev * z``, where ``z`` is standard normal, truncated to [-2, 2]."""

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return _scaled(jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype), self.stddev) + self.mean


@register(registry, "uniform")
class RandomUniform(Random):
    """Draw from a uniform distribution on ``[minval, maxval)``."""

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers("minval", "maxval")
        if self.minval > self.maxval:
            raise ValueError(f"RandomUniform: minval={self.minval} must be at most maxval={self.maxval}")

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, self.minval, self.maxval)


@register(registry, "OrthogonalInitializer")
class Orthogonal(Random):
    """Draw a matrix with orthonormal rows or columns, the fewer of the two, times ``gain``.

    All axes but the last enumerate the rows. Half precision is computed in float32; Keras raises an error for it.

    Source: Saxe et al. 2014, https://arxiv.org/abs/1312.6120

    Raises:
        ValueError: when called for a shape of rank less than 2, such as that of a bias.
    """

    gain: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers("gain")

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the weight must have at least 2 axes; got the shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        compute_dtype = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
        q, r = jnp.linalg.qr(jax.random.normal(key, (max(rows, columns), min(rows, columns)), compute_dtype))
        q = jnp.where(jnp.diagonal(r)[None, :] < 0, -q, q)  # uniform distribution over the orthogonal matrices
        return (self.gain * (q if rows >= columns else q.T).reshape(shape)).astype(dtype)


class _Scaled(Random):
    """Draw from a distribution of variance ``scale / fan``."""

    scale: float
    mode: str
    distribution: str
    input_axes: Axes
    output_axes: Axes

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        for side in ("input_axes", "output_axes"):
            self._set(**{side: _axes(getattr(self, side), f"{name}: {side}")})
        if (self.input_axes is None) != (self.output_axes is None):
            got = f"got input_axes={self.input_axes}, output_axes={self.output_axes}"
            raise ValueError(f"{name}: input_axes and output_axes must be given together; {got}")

    def draw(self, key: jax.Array, shape: Shape, dtype: Any) -> jax.Array:
        for axis in (*(self.input_axes or ()), *(self.output_axes or ())):
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"{type(self).__name__}: axis {axis} is out of range for the shape {shape}")
        fan_in, fan_out = fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return jax.random.uniform(key, shape, dtype, -limit, limit)
        if self.distribution == "untruncated_normal":
            return _scaled(jax.random.normal(key, shape, dtype), math.sqrt(variance))
        stddev = math.sqrt(variance) / TRUNCATED_STDDEV
        return _scaled(jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype), stddev)


@register(registry)
class VarianceScaling(_Scaled):
    """Draw from a distribution of variance ``scale / max(fan, 1)``; :func:`fans` computes ``fan`` from the shape.

    Args:
        scale: positive.
        mode: ``"fan_in"``, ``"fan_out"``, or ``"fan_avg"`` for their mean.
        distribution: ``"truncated_normal"`` (or ``"normal"``; its variance is that after truncation),
            ``"untruncated_normal"`` or ``"uniform"``.
        seed: with an integer, the key is ignored and the numbers are those of Keras.
        input_axes: the axes whose product is ``fan_in``; requires ``output_axes`` (Keras ignores one without the
            other).
        output_axes: the axes whose product is ``fan_out``.

    Raises:
        ValueError: for another scale, mode or distribution; when called, for axes that the shape does not have.

    >>> float(jnp.abs(VarianceScaling(3.0, "fan_in", "uniform", seed=0)(None, (9, 9))).max()) <= 1.0
    True
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    seed: int | None = None
    input_axes: Axes = None
    output_axes: Axes = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers("scale")
        if not self.scale > 0:
            raise ValueError(f"VarianceScaling: scale must be positive; got {self.scale}")
        choice(self.mode, MODES, "VarianceScaling: mode")
        distribution = self.distribution.lower() if isinstance(self.distribution, str) else self.distribution
        distribution = "truncated_normal" if distribution == "normal" else distribution
        choice(distribution, DISTRIBUTIONS, "VarianceScaling: distribution")
        self._set(distribution=distribution)


@dataclass(frozen=True)
class _Preset(_Scaled):
    seed: int | None = None
    input_axes: Axes = None
    output_axes: Axes = None

    def __init_subclass__(cls, **fixed: Any) -> None:  # ``class HeNormal(_Preset, scale=2.0, ...)``
        super().__init_subclass__()
        for name, value in fixed.items():
            setattr(cls, name, value)


@register(registry)
class GlorotUniform(_Preset, scale=1.0, mode="fan_avg", distribution="uniform"):
    """Draw uniformly within ``sqrt(6 / (fan_in + fan_out))`` of 0; Keras's default for kernels.

    Source: Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html

    >>> [round(value, 4) for value in GlorotUniform(seed=7)(None, (2,)).tolist()]
    [-0.4147, -0.5444]
    """


@register(registry)
class GlorotNormal(_Preset, scale=1.0, mode="fan_avg", distribution="truncated_normal"):
    """Draw from a truncated normal distribution of variance ``2 / (fan_in + fan_out)``.

    Source: Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html
    """


@register(registry)
class HeUniform(_Preset, scale=2.0, mode="fan_in", distribution="uniform"):
    """Draw uniformly within ``sqrt(6 / fan_in)`` of 0.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852
    """


@register(registry)
class HeNormal(_Preset, scale=2.0, mode="fan_in", distribution="truncated_normal"):
    """Draw from a truncated normal distribution of variance ``2 / fan_in``.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852
    """


@register(registry)
class LecunUniform(_Preset, scale=1.0, mode="fan_in", distribution="uniform"):
    """Draw uniformly within ``sqrt(3 / fan_in)`` of 0.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """


@register(registry)
class LecunNormal(_Preset, scale=1.0, mode="fan_in", distribution="truncated_normal"):
    """Draw from a truncated normal distribution of variance ``1 / fan_in``.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """


def _scaled(sample: jax.Array, stddev: float) -> jax.Array:
    # Without the barrier, jit merges this factor with others, and the rounding differs from Keras.
    return jax.lax.optimization_barrier(sample) * stddev


def _seed(seed: Any) -> int:
    try:
        seed = index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer or None; got {seed!r}") from None
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 2**32 - 1; got {seed}")
    return seed


def _axes(axes: Any, where: str) -> Axes:
    if axes is None:
        return None
    try:
        return tuple(map(index, axes))
    except TypeError:
        raise TypeError(f"{where} must be a list of integers or None; got {axes!r}") from None
