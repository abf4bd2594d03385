"""Keras's weight constraints: projections of one weight, applied after an optimizer's update.

They know nothing of optimizers or layers. Keras's ``axis=0`` is the first axis of the kernel window, which is almost
never meant for a convolution; ``axis="filter"`` is (see :mod:`jaxconv.axes`).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import axes
from jaxconv.axes import Axis
from jaxconv.registry import Registry

EPSILON = 1e-7  # Keras's default; keeps the division by a norm of 0 finite

registry = Registry("constraint", "keras.constraints")
serialize = registry.serialize


def get(identifier: Any, filter_axes: tuple[int, ...] | None = None) -> Callable[[jax.Array], jax.Array] | None:
    """Find a constraint by name, config dict, class, instance or callable; ``None`` stays ``None``.

    Args:
        identifier: ``"max_norm"``, ``MaxNorm(2.0)``, ``{"class_name": "MaxNorm", "config": {...}}``, any ``w -> w``.
        filter_axes: what ``axis="filter"`` stands for in the weight at hand, when the caller knows.

    Raises:
        ValueError: for an unknown name, naming the nearest legal one.
        TypeError: for anything that cannot be called.

    >>> get(MaxNorm(3, axis="filter"), filter_axes=(0, 1, 2))
    MaxNorm(max_value=3.0, axis=(0, 1, 2))
    """
    return axes.resolve(registry.get(identifier), filter_axes)


@registry.register()
@dataclass(frozen=True)
class Constraint:
    """Leave the weight as it is; the base of the others."""

    def __call__(self, w: jax.Array) -> jax.Array:
        """Project ``w``, keeping its shape and dtype."""
        return w

    def get_config(self) -> dict[str, Any]:
        """Give the arguments that make an equal constraint."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@registry.register("nonneg")
@dataclass(frozen=True)
class NonNeg(Constraint):
    """Set negative entries to 0, and -0.0 too; NaN stays NaN.

    >>> NonNeg()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: jax.Array) -> jax.Array:
        return jnp.where(w <= 0, 0, w)


@registry.register("maxnorm")
@dataclass(frozen=True)
class MaxNorm(Constraint):
    """Scale vectors that are longer than ``max_value`` back to it.

    ``w * min(|w|, max_value) / (|w| + 1e-7)``, as in Keras: a vector within the bound shrinks too, by 1e-7 / ``|w|``.

    Args:
        max_value: the largest Euclidean norm allowed; at least 0.
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    Raises:
        ValueError: for a negative bound; on the call, for an axis that the weight does not have.

    >>> MaxNorm(2.5, axis="filter")(jnp.array([[3.0, 0.0], [4.0, 2.0]])).tolist()
    [[1.5, 0.0], [2.0, 2.0]]
    """

    max_value: float = 2.0
    axis: Axis = 0

    def __post_init__(self) -> None:
        _set(self, max_value=_bound(self.max_value, "MaxNorm: max_value"), axis=axes.canonical(self.axis, "MaxNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        return _rescale(w, self.axis, lambda norm: jnp.clip(norm, 0, self.max_value), "MaxNorm")


@registry.register("unitnorm")
@dataclass(frozen=True)
class UnitNorm(Constraint):
    """Scale every vector to length 1: ``w / (|w| + 1e-7)``. A zero vector stays zero.

    Args:
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    >>> UnitNorm()(jnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    axis: Axis = 0

    def __post_init__(self) -> None:
        _set(self, axis=axes.canonical(self.axis, "UnitNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        return _rescale(w, self.axis, jnp.ones_like, "UnitNorm")


@registry.register()
@dataclass(frozen=True)
class MinMaxNorm(Constraint):
    """Move the length of every vector into ``[min_value, max_value]``, all the way or by a part ``rate``.

    ``w * (rate * clip(|w|, min_value, max_value) + (1 - rate) * |w|) / (|w| + 1e-7)``. A zero vector stays zero.

    Args:
        min_value: the smallest norm allowed; at least 0.
        max_value: the largest norm allowed.
        rate: the part of the way that one call goes, from 0 (none) to 1 (all).
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    Raises:
        ValueError: for bounds that are negative or crossed, or a rate outside [0, 1]; Keras does not check these.

    >>> MinMaxNorm(1.0, 2.0, rate=0.5)(jnp.array([[4.0]])).tolist()
    [[3.0]]
    """

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    axis: Axis = 0

    def __post_init__(self) -> None:
        low = _bound(self.min_value, "MinMaxNorm: min_value")
        high = _bound(self.max_value, "MinMaxNorm: max_value")
        rate = _bound(self.rate, "MinMaxNorm: rate")
        if low > high:
            raise ValueError(f"MinMaxNorm: min_value={low} is above max_value={high}; give min_value <= max_value")
        if rate > 1:
            raise ValueError(f"MinMaxNorm: rate must be in [0, 1]; got {rate}")
        _set(self, min_value=low, max_value=high, rate=rate, axis=axes.canonical(self.axis, "MinMaxNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        def wanted(norm: jax.Array) -> jax.Array:
            return self.rate * jnp.clip(norm, self.min_value, self.max_value) + (1 - self.rate) * norm

        return _rescale(w, self.axis, wanted, "MinMaxNorm")


@registry.register()
@dataclass(frozen=True)
class RadialConstraint(Constraint):
    """Make a 2-D kernel equal on each square ring around its centre; TF 2's, gone in Keras 3.

    The ring at distance ``r`` takes the value that stands ``r`` steps down the diagonal from the centre; the innermost
    four of an even kernel take their upper left one. TF 2 does the same on even kernels. On odd ones it reads the
    diagonal one place too early (on 3 x 3 the centre becomes ``w[0, 0]`` and the ring ``w[1, 1]``), so that applying it
    twice undoes it; here it is a projection.

    Shapes: (size, size, channels, filters), any ``size``.

    Raises:
        ValueError: on the call, for a weight that is not of this shape.

    >>> RadialConstraint()(jnp.arange(9.0).reshape(3, 3, 1, 1))[:, :, 0, 0].tolist()
    [[8.0, 8.0, 8.0], [8.0, 4.0, 8.0], [8.0, 8.0, 8.0]]
    """

    def __call__(self, w: jax.Array) -> jax.Array:
        if w.ndim != 4 or w.shape[0] != w.shape[1]:
            raise ValueError(f"RadialConstraint: needs a square kernel (size, size, channels, filters); got {w.shape}")
        size = w.shape[0]
        place = np.arange(size)
        distance = np.abs(2 * place - (size - 1)) // 2
        ring = np.maximum(distance[:, None], distance)
        source = np.where((ring == 0) & (size % 2 == 0), size // 2 - 1, size // 2 + ring)
        return w[place, place][source]


def _rescale(w: jax.Array, axis: Axis, wanted: Callable[[jax.Array], jax.Array], where: str) -> jax.Array:
    w = jnp.asarray(w)  # numpy's float64 is float32 here, unless JAX is told otherwise
    # float16 cannot hold epsilon, nor the square of 256
    wide = w.astype(jnp.float32) if jnp.finfo(w.dtype).bits < 32 else w
    norm = jnp.sqrt(jnp.sum(jnp.square(wide), axes.indices(axis, w.shape, where), keepdims=True))
    return (wide * (wanted(norm) / (EPSILON + norm))).astype(w.dtype)


def _bound(value: Any, where: str) -> float:
    if not isinstance(value, Real) or not float(value) >= 0:
        raise ValueError(f"{where} must be a number that is at least 0; got {value!r}")
    return float(value)


def _set(constraint: Constraint, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(constraint, name, value)
