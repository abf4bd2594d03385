"""Losses by Keras's names: how far predictions are from targets, one figure per sample.

Knows arrays only: no models, no penalties, no optimizers. Each loss is a frozen dataclass, hashable, called
``loss(y_true, y_pred) -> (batch,)``; its mean over the batch is Keras's ``sum_over_batch_size``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.registry import Registry, nearest

losses = Registry("loss", "keras.losses")
EPSILON = 1e-7  # keras.config.epsilon(): how close to 0 and 1 a probability may come


def loss(identifier: Any) -> Any:
    """Resolve a loss: a name, a table with a name and options, Keras's config dict, or any callable.

    Args:
        identifier: ``"mse"``, ``{"name": "huber", "delta": 0.5}``, ``{"class_name": "Huber", "config": {...}}``, or a
            callable ``(y_true, y_pred) -> values`` whose mean is to be minimised.

    Raises:
        ValueError: an unknown name or option; the message gives the nearest legal one.
        TypeError: anything else.

    >>> loss({"name": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    return resolve(losses, identifier)


def resolve(registry: Registry, identifier: Any) -> Any:
    """Resolve what a config may say about an entry of ``registry``: see :func:`loss`."""
    if isinstance(identifier, Mapping) and "class_name" not in identifier:
        options = dict(identifier)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f"{registry.kind} {dict(identifier)!r} has no 'name'; {nearest('', registry.names())}")
        identifier = {"class_name": name, "config": options}
    entry = registry.get(identifier)
    if entry is None:
        raise TypeError(f"cannot read None as {registry.kind}; give a name, a callable or a table with a name")
    return entry


def aligned(name: str, y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Bring targets and predictions to one shape and one float dtype, or refuse.

    As in Keras, a last axis of length 1 that only one of the two has is no difference: ``(32,)`` against ``(32, 1)``
    is compared sample by sample. Nothing else is broadcast (Keras lets ``(32, 1)`` meet ``(32, 5)``).
    Half precision is computed in float32.

    Raises:
        ValueError: the shapes differ otherwise.
    """
    y_true, y_pred = jnp.asarray(y_true), in_full(name, y_pred)
    if jnp.issubdtype(y_true.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: targets have dtype {y_true.dtype}; a loss needs real numbers")
    true_shape, pred_shape = y_true.shape, y_pred.shape
    if true_shape == (*pred_shape, 1) or (*true_shape, 1) == pred_shape:
        y_true = y_true.reshape(pred_shape)
    if y_true.shape != pred_shape or not pred_shape:
        raise ValueError(f"{name}: targets have shape {true_shape} and predictions {pred_shape}; they must be equal")
    return y_true.astype(y_pred.dtype), y_pred


def in_full(name: str, y_pred: Any) -> jax.Array:
    """Give predictions in float32, or in float64 where they are. Raises TypeError for anything that is not real."""
    y_pred = jnp.asarray(y_pred)
    if jnp.issubdtype(y_pred.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: predictions have dtype {y_pred.dtype}; a loss needs real numbers")
    return y_pred if y_pred.dtype == jnp.float64 else y_pred.astype(jnp.float32)


def per_sample(values: jax.Array) -> jax.Array:
    """Average over all axes but the first: ``(batch, ...) -> (batch,)``."""
    return values.mean(axis=tuple(range(1, values.ndim)))


@dataclasses.dataclass(frozen=True)
class Loss:
    """What every loss does: align the shapes, compute values, average all but the batch axis.

    A subclass gives ``values(y_true, y_pred)`` with the batch axis first.
    """

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        """Compute the loss of each sample.

        Shapes: ``y_true`` and ``y_pred`` ``(batch, ...)`` -> ``(batch,)``, float32 (float64 for float64 predictions).

        Raises:
            ValueError: shapes that do not fit each other; the message names both.
        """
        return per_sample(self.values(*aligned(type(self).__name__, y_true, y_pred)))

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        """Compute the loss of each element, or of each vector along the last axis."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Give the constructor arguments."""
        return dataclasses.asdict(self)


@losses.register("mse", "MSE")
@dataclasses.dataclass(frozen=True)
class MeanSquaredError(Loss):
    """``(y_true - y_pred)²``.

    >>> MeanSquaredError()(jnp.array([[0.0, 1.0]]), jnp.array([[2.0, 1.0]]))
    Array([2.], dtype=float32)
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.square(y_true - y_pred)


@losses.register("mae", "MAE")
@dataclasses.dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """``|y_true - y_pred|``."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.abs(y_true - y_pred)


@losses.register("mape", "MAPE")
@dataclasses.dataclass(frozen=True)
class MeanAbsolutePercentageError(Loss):
    """``100 |y_true - y_pred| / max(|y_true|, 1e-7)``."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return 100 * jnp.abs((y_true - y_pred) / jnp.maximum(jnp.abs(y_true), EPSILON))


@losses.register("msle", "MSLE")
@dataclasses.dataclass(frozen=True)
class MeanSquaredLogarithmicError(Loss):
    """``(log(1 + y_true) - log(1 + y_pred))²``; values below 1e-7 count as 1e-7."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        logs = [jnp.log(jnp.maximum(y, EPSILON) + 1) for y in (y_true, y_pred)]
        return jnp.square(logs[0] - logs[1])


@losses.register()
@dataclasses.dataclass(frozen=True)
class Huber(Loss):
    """Half the squared error ``e`` up to ``|e| = delta``, and ``delta |e| - delta² / 2`` beyond.

    Source: Huber 1964, Robust estimation of a location parameter.

    Args:
        delta: the error where the parabola turns into a line, in units of the target.
    """

    delta: float = 1.0

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        error = jnp.abs(y_pred - y_true)
        return jnp.where(error <= self.delta, 0.5 * jnp.square(error), self.delta * error - 0.5 * self.delta**2)


@losses.register("logcosh")
@dataclasses.dataclass(frozen=True)
class LogCosh(Loss):
    """``log(cosh(y_pred - y_true))``, in a form that does not overflow."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        error = y_pred - y_true
        return error + jax.nn.softplus(-2 * error) - float(np.log(2.0))


@losses.register()
@dataclasses.dataclass(frozen=True)
class Hinge(Loss):
    """``max(0, 1 - y_true y_pred)`` for targets of -1 and 1; a target of 0 means -1.

    Keras turns 0 into -1 only in a batch that holds nothing but 0 and 1, which gives the same for legal targets; here
    the rule looks at each target alone, so a sample's loss does not depend on its neighbours.
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.maximum(1 - jnp.where(y_true == 0, -1.0, y_true) * y_pred, 0)


@losses.register()
@dataclasses.dataclass(frozen=True)
class SquaredHinge(Hinge):
    """The square of :class:`Hinge`."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.square(super().values(y_true, y_pred))


@losses.register()
@dataclasses.dataclass(frozen=True)
class CategoricalHinge(Loss):
    """``max(0, 1 + max((1 - y_true) y_pred) - sum(y_true y_pred))`` over the last axis, for one-hot targets."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        right = jnp.sum(y_true * y_pred, axis=-1)
        wrong = jnp.max((1 - y_true) * y_pred, axis=-1)
        return jnp.maximum(wrong - right + 1, 0)


@losses.register("kld", "KLD", "kullback_leibler_divergence")
@dataclasses.dataclass(frozen=True)
class KLDivergence(Loss):
    """``sum(y_true log(y_true / y_pred))`` over the last axis, both clipped to [1e-7, 1]."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = jnp.clip(y_true, EPSILON, 1.0), jnp.clip(y_pred, EPSILON, 1.0)
        return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


@losses.register()
@dataclasses.dataclass(frozen=True)
class Poisson(Loss):
    """``y_pred - y_true log(y_pred + 1e-7)``: the negative log likelihood of counts, up to a constant."""

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return y_pred - y_true * jnp.log(y_pred + EPSILON)


@losses.register()
@dataclasses.dataclass(frozen=True)
class CosineSimilarity(Loss):
    """The negative cosine of the angle between targets and predictions along the last axis, from -1 (alike) to 1.

    A vector of zeros has the similarity 0 with everything.
    """

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return -cosine(y_true, y_pred)


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Compute the cosine of the angle between ``a`` and ``b`` along the last axis; 0 where one of them is zero."""

    def unit(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-12))

    return jnp.sum(unit(a) * unit(b), axis=-1)


@losses.register("bce", "BCE")
@dataclasses.dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """``-y_true log(p) - (1 - y_true) log(1 - p)`` with ``p`` clipped to [1e-7, 1 - 1e-7].

    Args:
        from_logits: whether predictions are logits (``p`` is their sigmoid, computed stably) and not probabilities.
        label_smoothing: the fraction, from 0 to 1, by which targets move towards 0.5.
    """

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


@losses.register()
@dataclasses.dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """``-sum(y_true log(p))`` over the classes of the last axis, for one-hot targets.

    Probabilities are divided by their sum, then clipped to [1e-7, 1 - 1e-7], as in Keras.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) and not probabilities.
        label_smoothing: the fraction, from 0 to 1, of each target that is spread evenly over all classes.
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self)

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        classes = _classes(self, y_pred)
        y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / classes
        return -jnp.sum(y_true * _log_probabilities(y_pred, self.from_logits), axis=-1)


@losses.register()
@dataclasses.dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """``-log(p[label])`` over the classes of the last axis, for integer labels.

    A label outside ``0 .. classes - 1`` gives NaN, so that training stops there; Keras on JAX lets it count as a loss
    of 0. :meth:`check` finds such labels before training.

    Args:
        from_logits: whether predictions are logits (``p`` is their softmax) and not probabilities.

    >>> SparseCategoricalCrossentropy()(jnp.array([1]), jnp.array([[0.5, 0.5]]))
    Array([0.6931472], dtype=float32)
    """

    from_logits: bool = False

    def __call__(self, y_true: Any, y_pred: Any) -> jax.Array:
        name = type(self).__name__
        y_true, y_pred = jnp.asarray(y_true), in_full(name, y_pred)
        labels = label_shape(name, y_true.shape, y_pred.shape)
        return per_sample(self.values(y_true.reshape(labels), y_pred))

    def values(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        classes = _classes(self, y_pred)
        y_true = y_true.astype(jnp.int32)
        legal = (y_true >= 0) & (y_true < classes)
        # picked by index: a one-hot product would turn the -inf of a masked logit into NaN for every other label
        index = jnp.expand_dims(jnp.where(legal, y_true, 0), -1)
        values = -jnp.take_along_axis(_log_probabilities(y_pred, self.from_logits), index, axis=-1).squeeze(-1)
        return jnp.where(legal, values, jnp.nan)

    def check(self, y_true: np.ndarray, pred_shape: tuple[int, ...]) -> None:
        """Check labels on the host. Raises ValueError for one that is no class of the model's output, or not whole."""
        if y_true.dtype.kind == "f" and np.any(y_true % 1):
            raise ValueError(
                f"{type(self).__name__}: targets such as {y_true[y_true % 1 != 0][0]} are no class labels; give whole "
                "numbers, or a loss for numbers such as mean_squared_error"
            )
        low, high, classes = np.min(y_true), np.max(y_true), pred_shape[-1]
        if low < 0 or high >= classes:
            raise ValueError(
                f"{type(self).__name__}: labels run from {low} to {high}, but the model's output has {classes} "
                f"classes; legal: 0 to {classes - 1}"
            )


def label_shape(name: str, true_shape: tuple[int, ...], pred_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape of integer labels for predictions ``(batch, ..., classes)``; a last axis of length 1 is dropped.

    Raises:
        ValueError: targets that are no labels for these predictions.
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
