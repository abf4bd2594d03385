"""The base class of losses, their registry, and how targets and predictions are brought to one shape and dtype.

Knows arrays only: no models, no penalties, no optimizers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxconv.registry import Entry, Registry, nearest

losses = Registry("loss", "keras.losses")
EPSILON = 1e-7  # keras.config.epsilon(): the smallest distance of a probability from 0 and 1


def resolve(registry: Registry, identifier: Any) -> Any:
    """Return the entry of ``registry`` that a config means: a name, a table with a name, or what ``get`` accepts."""
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


def align(name: str, y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return targets and predictions in one shape and one float dtype.

    As in Keras, a last axis of length 1 that only one of the two has is ignored: ``(32,)`` against ``(32, 1)`` is
    compared sample by sample. Nothing else is broadcast (Keras broadcasts ``(32, 1)`` against ``(32, 5)``).
    Half precision is computed in float32.

    Raises:
        ValueError: the shapes differ otherwise.
        TypeError: complex numbers.
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
    """Return predictions in float32, or in float64 if they are. Raises TypeError for complex numbers."""
    y_pred = jnp.asarray(y_pred)
    if jnp.issubdtype(y_pred.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: predictions have dtype {y_pred.dtype}; a loss needs real numbers")
    return y_pred if y_pred.dtype == jnp.float64 else y_pred.astype(jnp.float32)


def mean_per_sample(values: jax.Array) -> jax.Array:
    """Average over all axes but the first: ``(batch, ...) -> (batch,)``."""
    return values.mean(axis=tuple(range(1, values.ndim)))


@dataclasses.dataclass(frozen=True)
class Loss(Entry):
    """Base class: align the shapes, compute values, average over all axes but the batch.

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
