"""Keras's regularizers: functions from an array to a scalar penalty in the array's dtype.

The penalty of an array in half precision is computed in float32 and rounded once. A layer applies regularizers to its
weights and adds the results.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxconv import axes
from jaxconv.axes import Axis
from jaxconv.dtypes import widen
from jaxconv.registry import Entry, Registry, nearest, register

EPSILON = 1e-7  # Keras's value; shorter vectors are not normalized to norm 1
MODES = ("rows", "columns")

registry = Registry("regularizer", "keras.regularizers")
serialize = registry.serialize
if not TYPE_CHECKING:  # a type checker would accept every name
    __getattr__ = registry.attribute


def get(identifier: Any, filter_axes: tuple[int, ...] | None = None) -> Callable[[jax.Array], jax.Array] | None:
    """Find a regularizer by name, config dict, class, instance or callable; ``None`` stays ``None``.

    The string ``"l1_l2"`` means both factors 0.01, as in TF 2 (an error in Keras 3). ``"l1l2"`` means both factors 0,
    as in Keras 3.

    Args:
        identifier: ``"l2"``, ``L2(1e-4)``, ``{"class_name": "L2", "config": {"l2": 1e-4}}``, any ``w -> scalar``.
        filter_axes: the axes that replace ``axis="filter"``, if the caller knows them.

    Raises:
        ValueError: for an unknown name; the message suggests the closest valid one.
        TypeError: for a value that is not callable.

    >>> get("l1_l2")
    L1L2(l1=0.01, l2=0.01)
    """
    if isinstance(identifier, str) and identifier == "l1_l2":
        return L1L2(0.01, 0.01)
    return axes.resolve(registry.get(identifier), filter_axes)


@dataclass(frozen=True)
class Regularizer(Entry):
    """Base class of the regularizers; abstract, without a registered name."""

    def __call__(self, w: jax.Array) -> jax.Array:
        """Return the penalty of ``w``, a scalar in its dtype."""
        raise NotImplementedError


@register(registry)
class L1(Regularizer):
    """Penalize ``l1 * sum(|w|)``. The derivative at 0 is 0, as in TensorFlow (Keras on JAX: ``l1``), so zeros stay 0.

    Args:
        l1: finite and at least 0; ``None`` means 0.01. Unlike Keras, numpy numbers are accepted, and the config stores
            the number itself instead of rounding it to float32.

    >>> float(L1(0.5)(jnp.array([1.0, -3.0])))
    2.0
    """

    l1: float = 0.01

    def __post_init__(self) -> None:
        self._set(l1=_factor(self.l1, "L1: l1", default=0.01))

    def __call__(self, w: jax.Array) -> jax.Array:
        return (self.l1 * jnp.sum(_absolute(widen(w)))).astype(w.dtype)


@register(registry)
class L2(Regularizer):
    """Penalize ``l2 * sum(w^2)``, without a factor of one half.

    Args:
        l2: finite and at least 0; ``None`` means 0.01.

    >>> float(L2(0.5)(jnp.array([1.0, -3.0])))
    5.0
    """

    l2: float = 0.01

    def __post_init__(self) -> None:
        self._set(l2=_factor(self.l2, "L2: l2", default=0.01))

    def __call__(self, w: jax.Array) -> jax.Array:
        return (self.l2 * jnp.sum(jnp.square(widen(w)))).astype(w.dtype)


@register(registry, "l1_l2")
class L1L2(Regularizer):
    """Penalize ``l1 * sum(|w|) + l2 * sum(w^2)``.

    Args:
        l1: finite and at least 0; ``None`` means 0.
        l2: finite and at least 0; ``None`` means 0.

    >>> float(L1L2(l1=0.5, l2=0.5)(jnp.array([1.0, -3.0])))
    7.0
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        self._set(l1=_factor(self.l1, "L1L2: l1", default=0.0), l2=_factor(self.l2, "L1L2: l2", default=0.0))

    def __call__(self, w: jax.Array) -> jax.Array:
        wide = widen(w)
        penalty = jnp.zeros((), wide.dtype)
        if self.l1:  # 0 times an infinite sum would be NaN
            penalty += self.l1 * jnp.sum(_absolute(wide))
        if self.l2:
            penalty += self.l2 * jnp.sum(jnp.square(wide))
        return penalty.astype(w.dtype)


@register(registry)
class OrthogonalRegularizer(Regularizer):
    """Penalize the mean absolute cosine similarity between the rows (or columns) of a matrix, times ``factor``.

    ``factor / 2 * sum |off-diagonal of G| / (n (n - 1) / 2)``, where ``G`` is the Gram matrix of the ``n`` vectors
    scaled to norm 1. Zero vectors have cosine 0 and derivative 0. Beyond Keras: a single vector gives 0 (Keras: NaN),
    and with ``axis`` the weight may have any rank.

    Args:
        factor: finite and at least 0; ``None`` means 0.01.
        mode: ``"rows"`` or ``"columns"``: the vectors that are to be orthogonal.
        axis: ``None`` requires a matrix, as in Keras. Otherwise the axes that make up one row (int, tuple or
            ``"filter"``); the other axes enumerate the rows. ``axis="filter"`` with ``mode="rows"`` makes the filters
            of a convolution orthogonal.

    Raises:
        ValueError: for an unknown mode or an invalid factor; when called, for a weight of a rank other than 2 (with
            ``axis=None``) or without the axis.

    >>> float(OrthogonalRegularizer(0.1)(jnp.array([[1.0, 0.0], [3.0, 4.0]]))).__round__(6)
    0.06
    """

    factor: float = 0.01
    mode: str = "rows"
    axis: Axis = None

    def __post_init__(self) -> None:
        where = "OrthogonalRegularizer"
        if self.mode not in MODES:
            raise ValueError(f"{where}: unknown mode {self.mode!r}; {nearest(str(self.mode), MODES)}")
        self._set(factor=_factor(self.factor, f"{where}: factor", default=0.01))
        self._set(axis=axes.canonical(self.axis, where))

    def __call__(self, w: jax.Array) -> jax.Array:
        w = jnp.asarray(w)
        matrix = self._matrix(widen(w))  # float16 cannot represent epsilon^2
        if self.mode == "columns":
            matrix = matrix.T
        # clamp the square, not the root: the derivative of the root at 0 is infinite
        square = jnp.sum(jnp.square(matrix), axis=1, keepdims=True)
        matrix = matrix * jax.lax.rsqrt(jnp.maximum(square, EPSILON**2))
        gram = jnp.matmul(matrix, matrix.T, precision=jax.lax.Precision.HIGHEST)
        count = len(matrix)
        pairs = max(count * (count - 1) / 2, 1)
        off_diagonal = jnp.where(jnp.eye(count, dtype=bool), 0, gram)
        return (0.5 * self.factor / pairs * jnp.sum(_absolute(off_diagonal))).astype(w.dtype)

    def _matrix(self, w: jax.Array) -> jax.Array:
        if self.axis is not None:
            along = axes.indices(self.axis, w.shape, "OrthogonalRegularizer")
            others = [axis for axis in range(w.ndim) if axis not in along]
            length = math.prod(w.shape[axis] for axis in along)
            return jnp.transpose(w, (*others, *along)).reshape(-1, length)
        if w.ndim != 2:
            got = f"OrthogonalRegularizer: the weight must have rank 2; got the shape {w.shape}"
            raise ValueError(f'{got}; for the kernel of a convolution pass axis="filter"')
        return w

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that construct an equal regularizer. ``axis=None`` is omitted: Keras has no ``axis``."""
        config = super().get_config()
        return {name: value for name, value in config.items() if name != "axis" or value is not None}


def _absolute(x: jax.Array) -> jax.Array:
    return x * jax.lax.stop_gradient(jnp.sign(x))  # the derivative of jnp.abs at 0 is 1, which would move zeros


def _factor(value: Any, where: str, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where} must be a finite number that is at least 0; got {value!r}")
    return float(value)
