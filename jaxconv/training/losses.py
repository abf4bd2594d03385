"""Losses under Keras's names, and their base class. A loss maps targets and predictions to one value per sample.

Penalties are not included; the training step adds them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.registry import Entry, Registry, nearest, register
from jaxconv.training.mistakes import check_argument_order

losses = Registry("loss", "keras.losses")
EPSILON = 1e-7  # keras.config.epsilon(): the smallest distance of a probability from 0 and 1


def loss(identifier: Any) -> Any:
    """Return the loss for a name, a table with a name and options, Keras's config dict, or any callable.

    Args:
        identifier: ``"mse"``, ``{"name": "huber", "delta": 0.5}``, ``{"class_name": "Huber", "config": {...}}``, or a
            callable ``(y_true, y_pred) -> values`` whose mean is minimized.

    Raises:
        ValueError: an unknown name or option; the message names the nearest valid one.
        TypeError: an identifier of another type; a callable whose arguments are named in the opposite order, such as
            optax's ``(logits, labels)``.

    >>> loss({"name": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    found = resolve(losses, identifier)
    check_argument_order(found)
    return found


def resolve(registry: Registry, identifier: Any) -> Any:
    """Return the entry of ``registry`` for a name, a table with a name, or anything else that ``get`` accepts."""
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        options = dict(identifier)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f"{registry.kind} {dict(identifier)!r} has no 'name'; {nearest('', registry.names())}")
        identifier = {"class_name": name, "config": options}
    entry = registry.get(identifier)
    if entry is None:
        raise TypeError(f"the {registry.kind} is None; give a name, a callable or a table with a name")
    return entry


def align(name: str, y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return targets and predictions in one shape and one float dtype.

    As in Keras, a last axis of length 1 that only one of the two has is ignored: ``(32,)`` and ``(32, 1)`` are compared
    sample by sample. Nothing else is broadcast (Keras broadcasts ``(32, 1)`` to ``(32, 5)``). Predictions in 16-bit
    floats become float32. Raises ValueError if the shapes differ otherwise, TypeError for complex numbers.
    """
    y_true, y_pred = jnp.asarray(y_true), full_precision(name, y_pred)
    if jnp.issubdtype(y_true.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: targets have dtype {y_true.dtype}; a loss needs real numbers")
    true_shape, pred_shape = y_true.shape, y_pred.shape
    if true_shape == (*pred_shape, 1) or (*true_shape, 1) == pred_shape:
        y_true = y_true.reshape(pred_shape)
    if y_true.shape != pred_shape or not pred_shape:
        raise ValueError(f"{name}: targets have shape {true_shape} and predictions {pred_shape}; they must be equal")
    return y_true.astype(y_pred.dtype), y_pred


def full_precision(name: str, y_pred: Any) -> jax.Array:
    """Return float64 predictions unchanged, and others in float32. Raises TypeError for complex numbers."""
    y_pred = jnp.asarray(y_pred)
    if jnp.issubdtype(y_pred.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: predictions have dtype {y_pred.dtype}; a loss needs real numbers")
    return y_pred if y_pred.dtype == jnp.float64 else y_pred.astype(jnp.float32)


def mean_per_sample(values: jax.Array) -> jax.Array:
    """Average over all axes except the first: ``(batch, ...) -> (batch,)``."""
    return values.mean(axis=tuple(range(1, values.ndim)))


@dataclasses.dataclass(frozen=True)
class Loss(Entry):
    """The base class of losses: align the shapes, compute values, and average them over all axes except the batch.

    A loss is a frozen, hashable dataclass, called ``loss(y_true, y_pred) -> (batch,)``; its mean over the batch is
    Keras's ``sum_over_batch_size``. A subclass implements ``values(y_true, y_pred)``, batch axis first.
    """

    of_probabilities: ClassVar[bool] = False  # predictions are probabilities; with from_logits=True they are logits

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Compute the loss of each sample.

        Shapes: ``y_true`` and ``y_pred`` ``(batch, ...)`` -> ``(batch,)``, float32 (float64 for float64 predictions).

        Raises:
            ValueError: the shapes do not match; the message names both.
        """
        return mean_per_sample(self.values(*align(type(self).__name__, y_true, y_pred)))

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        """Compute the loss of each element, or of each vector along the last axis."""
        raise NotImplementedError


# -- losses of numbers: squared, absolute and relative errors, counts, angles


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
        delta: the error beyond which the loss is linear, in units of the target.
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


# -- losses of classes: hinges, divergences and crossentropies


@register(losses)
class Hinge(Loss):
    """``max(0, 1 - y_true y_pred)`` for targets of -1 and 1; a target of 0 means -1.

    Keras replaces 0 by -1 only in a batch that contains only 0 and 1, which is the same for valid targets. Here the
    rule applies to each target, so a sample's loss does not depend on the other samples of the batch.
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


@dataclasses.dataclass(frozen=True)
class _Crossentropy(Loss):
    """The base class of losses of probabilities, or of logits if ``from_logits``."""

    of_probabilities: ClassVar[bool] = True

    from_logits: bool = False

    def log_probabilities(self, y_pred: jax.Array) -> jax.Array:
        """Compute the logarithms of the probabilities of the classes, as in Keras: divided by their sum, clipped."""
        if y_pred.ndim < 2 or y_pred.shape[-1] < 2:
            got = f"{type(self).__name__}: predictions have shape {y_pred.shape}"
            raise ValueError(f"{got}; give a last axis of 2 classes or more, or use binary_crossentropy")
        if self.from_logits:
            return jax.nn.log_softmax(y_pred, axis=-1)
        y_pred = y_pred / jnp.sum(y_pred, axis=-1, keepdims=True)
        return jnp.log(jnp.clip(y_pred, EPSILON, 1 - EPSILON))


@dataclasses.dataclass(frozen=True)
class _Smoothed(_Crossentropy):
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"{type(self).__name__}: label_smoothing is {self.label_smoothing}; expected 0 to 1")


@register(losses, "bce", "BCE")
class BinaryCrossentropy(_Smoothed):
    """``-y_true log(p) - (1 - y_true) log(1 - p)`` with ``p`` clipped to [1e-7, 1 - 1e-7].

    Args:
        from_logits: whether predictions are logits (``p`` is their sigmoid, computed stably) instead of probabilities.
        label_smoothing: the fraction, from 0 to 1, by which targets are moved towards 0.5.
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true = y_true * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        if self.from_logits:
            return -y_true * jax.nn.log_sigmoid(y_pred) - (1 - y_true) * jax.nn.log_sigmoid(-y_pred)
        y_pred = jnp.clip(y_pred, EPSILON, 1 - EPSILON)
        return -y_true * jnp.log(y_pred) - (1 - y_true) * jnp.log(1 - y_pred)


@register(losses)
class CategoricalCrossentropy(_Smoothed):
    """``-sum(y_true log(p))`` over the classes of the last axis, for one-hot targets.

    Probabilities are divided by their sum, then clipped to [1e-7, 1 - 1e-7], as in Keras.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) instead of probabilities.
        label_smoothing: the fraction, from 0 to 1, of each target that is distributed evenly over all classes.
    """

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        true_shape, pred_shape = jnp.shape(y_true), jnp.shape(y_pred)
        if true_shape != pred_shape and true_shape in (pred_shape[:-1], (*pred_shape[:-1], 1)):
            got = f"CategoricalCrossentropy: targets have shape {true_shape} and predictions {pred_shape}"
            raise ValueError(f"{got}; give jax.nn.one_hot(y, {pred_shape[-1]}), or use sparse_categorical_crossentropy")
        return super().__call__(y_true, y_pred)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        logs = self.log_probabilities(y_pred)
        return -jnp.sum((y_true * (1 - self.label_smoothing) + self.label_smoothing / logs.shape[-1]) * logs, axis=-1)


@register(losses)
class SparseCategoricalCrossentropy(_Crossentropy):
    """``-log(p[label])`` over the classes of the last axis, for integer labels.

    A label outside ``0 .. classes - 1`` gives NaN, which stops training; in Keras on JAX its loss is 0.
    :meth:`check` finds such labels before training.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) instead of probabilities.

    >>> SparseCategoricalCrossentropy()(jnp.array([1]), jnp.array([[0.5, 0.5]]))
    Array([0.6931472], dtype=float32)
    """

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        name = type(self).__name__
        y_true, y_pred = jnp.asarray(y_true), full_precision(name, y_pred)
        labels = label_shape(name, y_true.shape, y_pred.shape)
        return mean_per_sample(self.values(y_true.reshape(labels), y_pred))

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        logs, y_true = self.log_probabilities(y_pred), y_true.astype(jnp.int32)
        allowed = (y_true >= 0) & (y_true < logs.shape[-1])
        # select by index: a product with one-hot targets turns the -inf of a masked logit into NaN for all other labels
        index = jnp.expand_dims(jnp.where(allowed, y_true, 0), -1)
        return jnp.where(allowed, -jnp.take_along_axis(logs, index, axis=-1).squeeze(-1), jnp.nan)

    def check(self, y_true: np.ndarray, pred_shape: tuple[int, ...]) -> None:
        """Check labels on the host. Raises ValueError for a label that is not an integer or outside the classes."""
        where, floats = type(self).__name__, y_true.dtype.kind == "f"
        if floats and np.any(y_true % 1):
            got = f"{where}: the target {y_true[y_true % 1 != 0][0]} is not a class label"
            raise ValueError(f"{got}; give integers, or a loss of numbers such as mean_squared_error")
        low, high, classes = np.min(y_true), np.max(y_true), pred_shape[-1]
        if low < 0 or high >= classes:
            hint = "; integers of another range become classes, floats do not: y.astype(int)" if floats else ""
            got = f"{where}: labels are from {low} to {high}, and the model's output has {classes} classes"
            raise ValueError(f"{got}; expected 0 to {classes - 1}{hint}")


def label_shape(name: str, true_shape: tuple[int, ...], pred_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of integer labels for predictions ``(batch, ..., classes)``, without a last axis of length 1.

    Raises ValueError if the shape of the targets is not that of labels for these predictions.
    """
    labels = pred_shape[:-1]
    if not labels or true_shape not in (labels, (*labels, 1)):
        hint = "; one-hot targets need categorical_crossentropy" if true_shape == pred_shape else ""
        got = f"{name}: targets have shape {true_shape} and predictions {pred_shape}"
        raise ValueError(f"{got}; integer labels of shape {labels} are expected{hint}")
    return labels
