"""Keras's weight constraints: projections of one weight, applied after an optimizer's update.

Keras's default ``axis=0`` is only the first spatial axis of a convolution kernel; ``axis="filter"`` means all axes of
one filter (see :mod:`jaxconv.axes`).
"""

from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import axes
from jaxconv.axes import Axis
from jaxconv.dtypes import widen
from jaxconv.registry import Entry, Registry, register

EPSILON = 1e-7  # Keras's value; avoids division by zero

registry = Registry("constraint", "keras.constraints")
serialize = registry.serialize
if not TYPE_CHECKING:  # a type checker would accept every name
    __getattr__ = registry.attribute


def get(identifier: Any, filter_axes: tuple[int, ...] | None = None) -> Callable[[jax.Array], jax.Array] | None:
    """Find a constraint by name, config dict, class, instance or callable; ``None`` stays ``None``.

    Args:
        identifier: ``"max_norm"``, ``MaxNorm(2.0)``, ``{"class_name": "MaxNorm", "config": {...}}``, any ``w -> w``.
        filter_axes: the axes that replace ``axis="filter"``, if the caller knows them.

    Raises:
        ValueError: for an unknown name; the message suggests the closest valid one.
        TypeError: for a value that is not callable.

    >>> get(MaxNorm(3, axis="filter"), filter_axes=(0, 1, 2))
    MaxNorm(max_value=3.0, axis=(0, 1, 2))
    """
    return axes.resolve(registry.get(identifier), filter_axes)


@register(registry)
class Constraint(Entry):
    """Return the weight unchanged; base class of the constraints."""

    def __call__(self, w: jax.Array) -> jax.Array:
        """Project ``w``, keeping its shape and dtype."""
        return w


@register(registry, "nonneg")
class NonNeg(Constraint):
    """Set negative entries and -0.0 to 0; NaN stays NaN.

    >>> NonNeg()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: jax.Array) -> jax.Array:
        return jnp.where(w <= 0, 0, w)


@register(registry, "maxnorm")
class MaxNorm(Constraint):
    """Limit the norm of each vector to ``max_value``.

    ``w * min(|w|, max_value) / (|w| + 1e-7)``, as in Keras; vectors within the bound shrink by the factor
    ``|w| / (|w| + 1e-7)``.

    Args:
        max_value: largest Euclidean norm; at least 0.
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    Raises:
        ValueError: for a negative bound; when called, for an axis that the weight does not have.

    >>> MaxNorm(2.5, axis="filter")(jnp.array([[3.0, 0.0], [4.0, 2.0]])).tolist()
    [[1.5, 0.0], [2.0, 2.0]]
    """

    max_value: float = 2.0
    axis: Axis = 0

    def __post_init__(self) -> None:
        self._set(max_value=_bound(self.max_value, "MaxNorm: max_value"), axis=axes.canonical(self.axis, "MaxNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        return _rescale(w, self.axis, lambda norm: jnp.clip(norm, 0, self.max_value), "MaxNorm")


@register(registry, "unitnorm")
class UnitNorm(Constraint):
    """Scale each vector to norm 1: ``w / (|w| + 1e-7)``. A zero vector stays zero.

    Args:
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    >>> UnitNorm()(jnp.array([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    axis: Axis = 0

    def __post_init__(self) -> None:
        self._set(axis=axes.canonical(self.axis, "UnitNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        return _rescale(w, self.axis, jnp.ones_like, "UnitNorm")


@register(registry)
class MinMaxNorm(Constraint):
    """Move the norm of each vector towards ``[min_value, max_value]``, by the fraction ``rate`` of the distance.

    ``w * (rate * clip(|w|, min_value, max_value) + (1 - rate) * |w|) / (|w| + 1e-7)``. A zero vector stays zero.

    Args:
        min_value: smallest norm; at least 0.
        max_value: largest norm.
        rate: fraction of the distance moved by one call, from 0 to 1.
        axis: the axes that one vector runs along: int, tuple, ``"filter"``, or ``None`` for all.

    Raises:
        ValueError: for a negative bound, ``min_value > max_value``, or a rate outside [0, 1]; Keras accepts them.

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
            raise ValueError(f"MinMaxNorm: min_value={low} must be at most max_value={high}")
        if rate > 1:
            raise ValueError(f"MinMaxNorm: rate must be in [0, 1]; got {rate}")
        self._set(min_value=low, max_value=high, rate=rate, axis=axes.canonical(self.axis, "MinMaxNorm"))

    def __call__(self, w: jax.Array) -> jax.Array:
        def target(norm: jax.Array) -> jax.Array:
            return self.rate * jnp.clip(norm, self.min_value, self.max_value) + (1 - self.rate) * norm

        return _rescale(w, self.axis, target, "MinMaxNorm")


@register(registry)
class RadialConstraint(Constraint):
    """Make a 2-D kernel constant on each square ring around its centre; from TF 2, not in Keras 3.

    The ring at distance ``r`` from the centre takes the value ``r`` steps down the main diagonal; the innermost four
    entries of an even kernel take the upper left one. On odd kernels TF 2 reads the diagonal one step too early (on
    3 x 3 the centre becomes ``w[0, 0]`` and the ring ``w[1, 1]``), which is not a projection.

    Shapes: (size, size, channels, filters), any ``size``.

    Raises:
        ValueError: when called on a weight of another shape.

    >>> RadialConstraint()(jnp.arange(9.0).reshape(3, 3, 1, 1))[:, :, 0, 0].tolist()
    [[8.0, 8.0, 8.0], [8.0, 4.0, 8.0], [8.0, 8.0, 8.0]]
    """

    def __call__(self, w: jax.Array) -> jax.Array:
        if w.ndim != 4 or w.shape[0] != w.shape[1]:
            raise ValueError(f"RadialConstraint: the shape must be (size, size, channels, filters); got {w.shape}")
        size = w.shape[0]
        index = np.arange(size)
        distance = np.abs(2 * index - (size - 1)) // 2
        ring = np.maximum(distance[:, None], distance)
        source = np.where((ring == 0) & (size % 2 == 0), size // 2 - 1, size // 2 + ring)
        return w[index, index][source]


def _rescale(w: jax.Array, axis: Axis, target: Callable[[jax.Array], jax.Array], where: str) -> jax.Array:
    w = jnp.asarray(w)  # numpy's float64 becomes float32, unless 64-bit types are enabled
    # float16 can represent neither epsilon nor the square of 256
    vectors = widen(w)
    square = jnp.sum(jnp.square(vectors), axes.indices(axis, w.shape, where), keepdims=True)
    norm = jnp.sqrt(jnp.where(square == 0, 1, square))  # the derivative of the root at 0 is infinite
    return (vectors * jnp.where(square == 0, 0, target(norm) / (EPSILON + norm))).astype(w.dtype)


def _bound(value: Any, where: str) -> float:
    if not isinstance(value, Real) or not float(value) >= 0:
        raise ValueError(f"{where} must be a number that is at least 0; got {value!r}")
    return float(value)
