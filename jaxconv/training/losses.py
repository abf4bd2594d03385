"""Every loss by Keras's names: the distance of predictions from targets, one value per sample.

Knows arrays only: no models, no penalties, no optimizers.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.registry import register
from jaxconv.training.loss import EPSILON, Loss, full_precision, losses, mean_per_sample, resolve
from jaxconv.training.mistakes import check_argument_order


def loss(identifier: Any) -> Any:
    """Return a loss for a name, a table with a name and options, Keras's config dict, or any callable.

    Args:
        identifier: ``"mse"``, ``{"name": "huber", "delta": 0.5}``, ``{"class_name": "Huber", "config": {...}}``, or a
            callable ``(y_true, y_pred) -> values`` whose mean is minimized.

    Raises:
        ValueError: an unknown name or option; the message gives the nearest legal one.
        TypeError: anything else; a callable whose arguments are named in the opposite order, as optax's
            ``(logits, labels)``.

    >>> loss({"name": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    found = resolve(losses, identifier)
    check_argument_order(found)
    return found


# -- of numbers: squared, absolute and relative errors, counts, angles


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


# -- of classes: hinges, divergences and crossentropies


@register(losses)
class Hinge(Loss):
    """``max(0, 1 - y_true y_pred)`` for targets of -1 and 1; a target of 0 means -1.

    Keras replaces 0 by -1 only in a batch that contains nothing but 0 and 1, which is the same for legal targets. Here
    the rule applies to each target, so a sample's loss does not depend on the other samples of the batch.
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.maximum(1 - jnp.where(y_true == 0, -1.0, y_true) * y_pred, 0)


@register(losses)
class SquaredHinge(Hinge):
    """The square of :class:`Hinge`."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.square(super().values(y_true, y_pred))


@register(losses)
class CategoricalHinge(Loss):
    """``max(0, 1 + max((1 - y_true) y_pred) - sum(y_true y_pred))`` over the last axis, for one-hot targets."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        right = jnp.sum(y_true * y_pred, axis=-1)
        wrong = jnp.max((1 - y_true) * y_pred, axis=-1)
        return jnp.maximum(wrong - right + 1, 0)


@register(losses, "kld", "KLD", "kullback_leibler_divergence")
class KLDivergence(Loss):
    """``sum(y_true log(y_true / y_pred))`` over the last axis, both clipped to [1e-7, 1]."""

    of_probabilities: ClassVar[bool] = True

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = jnp.clip(y_true, EPSILON, 1.0), jnp.clip(y_pred, EPSILON, 1.0)
        return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


@register(losses, "bce", "BCE")
class BinaryCrossentropy(Loss):
    """``-y_true log(p) - (1 - y_true) log(1 - p)`` with ``p`` clipped to [1e-7, 1 - 1e-7].

    Args:
        from_logits: whether predictions are logits (``p`` is their sigmoid, computed stably) and not probabilities.
        label_smoothing: the fraction, from 0 to 1, by which targets are moved towards 0.5.
    """

    of_probabilities: ClassVar[bool] = True

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true = y_true * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            return -y_true * jax.nn.log_sigmoid(y_pred) - (1 - y_true) * jax.nn.log_sigmoid(-y_pred)
        y_pred = jnp.clip(y_pred, EPSILON, 1 - EPSILON)
        return -y_true * jnp.log(y_pred) - (1 - y_true) * jnp.log(1 - y_pred)


@register(losses)
class CategoricalCrossentropy(Loss):
    """``-sum(y_true log(p))`` over the classes of the last axis, for one-hot targets.

    Probabilities are divided by their sum, then clipped to [1e-7, 1 - 1e-7], as in Keras.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) and not probabilities.
        label_smoothing: the fraction, from 0 to 1, of each target that is distributed evenly over all classes.
    """

    of_probabilities: ClassVar[bool] = True

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self)

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        true_shape, pred_shape = jnp.shape(y_true), jnp.shape(y_pred)
        if true_shape != pred_shape and true_shape in (pred_shape[:-1], (*pred_shape[:-1], 1)):
            raise ValueError(
                f"CategoricalCrossentropy: targets have shape {true_shape} and predictions {pred_shape}; labels need "
                f"sparse_categorical_crossentropy, or one-hot targets: jax.nn.one_hot(y, {pred_shape[-1]})"
            )
        return super().__call__(y_true, y_pred)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        classes = _classes(self, y_pred)
        y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / classes
        return -jnp.sum(y_true * _log_probabilities(y_pred, self.from_logits), axis=-1)


@register(losses)
class SparseCategoricalCrossentropy(Loss):
    """``-log(p[label])`` over the classes of the last axis, for integer labels.

    A label outside ``0 .. classes - 1`` gives NaN, which stops training; in Keras on JAX its loss is 0.
    :meth:`check` finds such labels before training.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) and not probabilities.

    >>> SparseCategoricalCrossentropy()(jnp.array([1]), jnp.array([[0.5, 0.5]]))
    Array([0.6931472], dtype=float32)
    """

    of_probabilities: ClassVar[bool] = True

    from_logits: bool = False

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        name = type(self).__name__
        y_true, y_pred = jnp.asarray(y_true), full_precision(name, y_pred)
        labels = label_shape(name, y_true.shape, y_pred.shape)
        return mean_per_sample(self.values(y_true.reshape(labels), y_pred))

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        classes = _classes(self, y_pred)
        y_true = y_true.astype(jnp.int32)
        legal = (y_true >= 0) & (y_true < classes)
        # select by index: a product with one-hot targets turns the -inf of a masked logit into NaN for all other labels
        index = jnp.expand_dims(jnp.where(legal, y_true, 0), -1)
        values = -jnp.take_along_axis(_log_probabilities(y_pred, self.from_logits), index, axis=-1).squeeze(-1)
        return jnp.where(legal, values, jnp.nan)

    def check(self, y_true: np.ndarray, pred_shape: tuple[int, ...]) -> None:
        """Check labels on the host. Raises ValueError for a label that is not an integer or outside the classes."""
        if y_true.dtype.kind == "f" and np.any(y_true % 1):
            raise ValueError(
                f"{type(self).__name__}: targets such as {y_true[y_true % 1 != 0][0]} are not class labels; give "
                "integers, or use a regression loss such as mean_squared_error"
            )
        low, high, classes = np.min(y_true), np.max(y_true), pred_shape[-1]
        if low < 0 or high >= classes:
            hint = "; integers of another range become classes, floats do not: y.astype(int)"
            raise ValueError(
                f"{type(self).__name__}: labels are from {low} to {high}, but the model's output has {classes} "
                f"classes; legal: 0 to {classes - 1}{hint if y_true.dtype.kind == 'f' else ''}"
            )


def label_shape(name: str, true_shape: tuple[int, ...], pred_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of integer labels for predictions ``(batch, ..., classes)``; drop a last axis of length 1.

    Raises:
        ValueError: the shape of the targets is not that of labels for these predictions.
    """
    labels = pred_shape[:-1]
    if not labels or true_shape not in (labels, (*labels, 1)):
        hint = "; one-hot targets need categorical_crossentropy" if true_shape == pred_shape else ""
        raise ValueError(
            f"{name}: targets have shape {true_shape} and predictions {pred_shape}; integer labels of shape "
            f"{labels} are expected{hint}"
        )
    return labels


def _log_probabilities(y_pred: jax.Array, from_logits: bool) -> jax.Array:
    if from_logits:
        return jax.nn.log_softmax(y_pred, axis=-1)
    y_pred = y_pred / jnp.sum(y_pred, axis=-1, keepdims=True)
    return jnp.log(jnp.clip(y_pred, EPSILON, 1 - EPSILON))


def _classes(loss: Loss, y_pred: jax.Array) -> int:
    if y_pred.ndim < 2 or y_pred.shape[-1] < 2:
        raise ValueError(
            f"{type(loss).__name__}: predictions have shape {y_pred.shape}; a last axis of at least 2 classes is "
            "expected, a single output needs binary_crossentropy"
        )
    return y_pred.shape[-1]


def _check_smoothing(loss: BinaryCrossentropy | CategoricalCrossentropy) -> None:
    if not 0 <= loss.label_smoothing <= 1:
        raise ValueError(f"{type(loss).__name__}: label_smoothing is {loss.label_smoothing}; legal: 0 to 1")
