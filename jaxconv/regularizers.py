"""Keras's regularizers: functions from an array to a scalar penalty in the array's dtype.

They know nothing of layers or losses; a layer decides which weights they see and adds the results.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv import axes
from jaxconv.axes import Axis
from jaxconv.registry import Registry, nearest

EPSILON = 1e-7  # Keras's default: the shortest vector that is normalised to length 1
MODES = ("rows", "columns")

registry = Registry("regularizer", "keras.regularizers")
serialize = registry.serialize


def get(identifier: Any, filter_axes: tuple[int, ...] | None = None) -> Callable[[jax.Array], jax.Array] | None:
    """Find a regularizer by name, config dict, class, instance or callable; ``None`` stays ``None``.

    The string ``"l1_l2"`` has TF 2's meaning, both factors 0.01 (Keras 3 refuses it). ``"l1l2"`` is Keras 3's: the
    class with its defaults 0 and 0, which penalises nothing.

    Args:
        identifier: ``"l2"``, ``L2(1e-4)``, ``{"class_name": "L2", "config": {"l2": 1e-4}}``, any ``w -> scalar``.
        filter_axes: what ``axis="filter"`` stands for in the weight at hand, when the caller knows.

    Raises:
        ValueError: for an unknown name, naming the nearest legal one.
        TypeError: for anything that cannot be called.

    >>> get("l1_l2")
    L1L2(l1=0.01, l2=0.01)
    """
    if isinstance(identifier, str) and identifier == "l1_l2":
        return L1L2(0.01, 0.01)
    return axes.resolve(registry.get(identifier), filter_axes)


@dataclass(frozen=True)
class Regularizer:
    """Be the base of the regularizers; give no penalty by itself and have no name."""

    def __call__(self, w: jax.Array) -> jax.Array:
        """Give the penalty of ``w``: a scalar in its dtype."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Give the arguments that make an equal regularizer."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@registry.register()
@dataclass(frozen=True)
class L1(Regularizer):
    """Penalise ``l1 * sum(|w|)``. The derivative at 0 is 0, as in TF (Keras on JAX: ``l1``), so zeros stay.

    Args:
        l1: finite and at least 0; ``None`` means 0.01. Unlike Keras, numpy's numbers are accepted, and the config
            records the number itself rather than its float32 neighbour.

    >>> float(L1(0.5)(jnp.array([1.0, -3.0])))
    2.0
    """

    l1: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "l1", _factor(self.l1, "L1: l1", default=0.01))

    def __call__(self, w: jax.Array) -> jax.Array:
        return self.l1 * jnp.sum(_absolute(w))


@registry.register()
@dataclass(frozen=True)
class L2(Regularizer):
    """Penalise ``l2 * sum(w^2)``; there is no factor one half.

    Args:
        l2: finite and at least 0; ``None`` means 0.01.

    >>> float(L2(0.5)(jnp.array([1.0, -3.0])))
    5.0
    """

    l2: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "l2", _factor(self.l2, "L2: l2", default=0.01))

    def __call__(self, w: jax.Array) -> jax.Array:
        return self.l2 * jnp.sum(jnp.square(w))


@registry.register("l1_l2")
@dataclass(frozen=True)
class L1L2(Regularizer):
    """Penalise ``l1 * sum(|w|) + l2 * sum(w^2)``.

    Args:
        l1: finite and at least 0; ``None`` means 0.
        l2: finite and at least 0; ``None`` means 0.

    >>> float(L1L2(l1=0.5, l2=0.5)(jnp.array([1.0, -3.0])))
    7.0
    """

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "l1", _factor(self.l1, "L1L2: l1", default=0.0))
        object.__setattr__(self, "l2", _factor(self.l2, "L1L2: l2", default=0.0))

    def __call__(self, w: jax.Array) -> jax.Array:
        penalty = jnp.zeros((), w.dtype)
        if self.l1:  # a factor of 0 must also keep an infinite sum out
            penalty += self.l1 * jnp.sum(_absolute(w))
        if self.l2:
            penalty += self.l2 * jnp.sum(jnp.square(w))
        return penalty


@registry.register()
@dataclass(frozen=True)
class OrthogonalRegularizer(Regularizer):
    """Penalise the mean absolute cosine between the rows (or the columns) of a matrix, times ``factor``.

    ``factor / 2 * sum |off-diagonal of G| / (n (n - 1) / 2)`` with ``G`` the Gram matrix of the ``n`` vectors scaled to
    length 1. Zero vectors have cosine 0 and derivative 0. Beyond Keras: a single vector gives 0 (Keras: NaN),
    and with ``axis`` the weight may have any rank.

    Args:
        factor: finite and at least 0; ``None`` means 0.01.
        mode: ``"rows"`` or ``"columns"``: which vectors are to be orthogonal.
        axis: ``None``: the weight is a matrix, as in Keras. Otherwise the axes that one row runs along (int, tuple or
            ``"filter"``), with a row for each place on the other axes: ``axis="filter"`` with ``mode="rows"`` makes the
            filters of a convolution orthogonal.

    Raises:
        ValueError: for another mode or a bad factor; on the call, for a weight of another rank than 2 (with
            ``axis=None``) or without that axis.

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
        object.__setattr__(self, "factor", _factor(self.factor, f"{where}: factor", default=0.01))
        object.__setattr__(self, "axis", axes.canonical(self.axis, where))

    def __call__(self, w: jax.Array) -> jax.Array:
        w = jnp.asarray(w)
        matrix = self._matrix(w)
        if self.mode == "columns":
            matrix = matrix.T
        if jnp.finfo(w.dtype).bits < 32:
            matrix = matrix.astype(jnp.float32)  # float16 cannot hold epsilon^2
        # The square is clamped, not the root: a root of 0 has an infinite derivative.
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
            raise ValueError(
                f"OrthogonalRegularizer: the weight must be a matrix; got the shape {w.shape}; "
                'give axis="filter" for the kernel of a convolution'
            )
        return w

    def get_config(self) -> dict[str, Any]:
        """Give the arguments that make an equal regularizer; ``axis`` only where it is used: Keras has none."""
        config = super().get_config()
        return {name: value for name, value in config.items() if name != "axis" or value is not None}


def _absolute(x: jax.Array) -> jax.Array:
    return x * jax.lax.stop_gradient(jnp.sign(x))  # JAX gives |x| the derivative 1 at 0, which would push zeros away


def _factor(value: Any, where: str, default: float) -> float:
    if value is None:
        return default
    if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{where} must be a finite number that is at least 0; got {value!r}")
    return float(value)
