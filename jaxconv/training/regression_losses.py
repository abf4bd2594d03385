"""Losses for numbers, by Keras's names: squared, absolute and relative errors, counts, angles.

Knows arrays only.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.registry import register
from jaxconv.training.loss import EPSILON, Loss, losses


@register(losses, "mse", "MSE")
class MeanSquaredError(Loss):
    """``(y_true - y_pred)²``.

    >>> MeanSquaredError()(jnp.array([[0.0, 1.0]]), jnp.array([[2.0, 1.0]]))
    Array([2.], dtype=float32)
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.square(y_true - y_pred)


@register(losses, "mae", "MAE")
class MeanAbsoluteError(Loss):
    """``|y_true - y_pred|``."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.abs(y_true - y_pred)


@register(losses, "mape", "MAPE")
class MeanAbsolutePercentageError(Loss):
    """``100 |y_true - y_pred| / max(|y_true|, 1e-7)``."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return 100 * jnp.abs((y_true - y_pred) / jnp.maximum(jnp.abs(y_true), EPSILON))


@register(losses, "msle", "MSLE")
class MeanSquaredLogarithmicError(Loss):
    """``(log(1 + y_true) - log(1 + y_pred))²``; values below 1e-7 count as 1e-7."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        logs = [jnp.log(jnp.maximum(y, EPSILON) + 1) for y in (y_true, y_pred)]
        return jnp.square(logs[0] - logs[1])


@register(losses)
class Huber(Loss):
    """Half the squared error ``e`` up to ``|e| = delta``, and ``delta |e| - delta² / 2`` beyond.

    Source: Huber 1964, Robust estimation of a location parameter.

    Args:
        delta: the error at which the parabola becomes a line, in units of the target.
    """

    delta: float = 1.0

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        error = jnp.abs(y_pred - y_true)
        return jnp.where(error <= self.delta, 0.5 * jnp.square(error), self.delta * error - 0.5 * self.delta**2)


@register(losses, "logcosh")
class LogCosh(Loss):
    """``log(cosh(y_pred - y_true))``, computed without overflow."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        error = y_pred - y_true
        return error + jax.nn.softplus(-2 * error) - float(np.log(2.0))


@register(losses)
class Poisson(Loss):
    """``y_pred - y_true log(y_pred + 1e-7)``: the negative log likelihood of counts, up to a constant."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return y_pred - y_true * jnp.log(y_pred + EPSILON)


@register(losses)
class CosineSimilarity(Loss):
    """The negative cosine of the angle between targets and predictions along the last axis, from -1 (same direction).

    A vector of zeros has similarity 0 with every vector.
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return -cosine(y_true, y_pred)


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute the cosine of the angle between ``a`` and ``b`` along the last axis; 0 if one of them is zero."""

    def unit(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))

    return jnp.sum(unit(a) * unit(b), axis=-1)
