"""Metrics under Keras's names.

Values per sample are summed over batches, and ``finish(total, count)`` computes the metric, so the value of an epoch
does not depend on the batch size.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.dtypes import widen
from jaxconv.registry import Entry, Registry, nearest, register, snake_case
from jaxconv.training.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    align,
    cosine,
    full_precision,
    label_shape,
    losses,
    mean_per_sample,
    resolve,
)

registry = Registry("metric", "keras.metrics")


@dataclasses.dataclass(frozen=True)
class Metric(Entry):
    """The base class of metrics: a name for the log, values per sample, and a value computed from their sum.

    Args:
        name: the name in the log; by default the name of the class in snake_case.
        weighted: whether the values are multiplied by the sample weights, as Keras's ``weighted_metrics`` are.
    """

    name: str = dataclasses.field(default="", kw_only=True)
    weighted: bool = dataclasses.field(default=False, kw_only=True)
    higher_is_better = False

    def __post_init__(self) -> None:
        self._set(name=self.name or snake_case(type(self).__name__))

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        """Compute the terms to be summed: ``(batch,)``, or ``(batch, k)`` if the metric needs several sums."""
        raise NotImplementedError

    def finish(self, total: np.ndarray, count: float) -> float:
        """Compute the metric from the sum over all samples and their number."""
        return float(total / count)


def metric(identifier: Any) -> Metric:
    """Return the metric for a name, a table with a name and options, Keras's config dict, a Metric, or any callable.

    The name of a loss means the average of the loss over the samples. The log has the given name, as in Keras:
    ``"acc"`` is logged as ``acc``.

    Args:
        identifier: ``"accuracy"``, ``"mse"``, ``{"name": "top_k_categorical_accuracy", "k": 3}``, or a callable
            ``(y_true, y_pred) -> (batch,)``.

    Raises:
        ValueError: an unknown name or option; the message names the nearest valid one.
        TypeError: an identifier of another type.

    >>> metric("mae").name
    'mae'
    """
    name = identifier if isinstance(identifier, str) else None
    own_names = registry.names()
    found = name or (identifier.get("class_name", identifier.get("name")) if isinstance(identifier, dict) else None)
    if isinstance(found, str) and found not in own_names:
        if found not in losses.names():
            raise ValueError(f"unknown metric {found!r}; {nearest(found, {*own_names, *losses.names()})}")
        return MeanOf(resolve(losses, identifier), name=found)
    entry = resolve(registry, identifier)
    if not isinstance(entry, Metric):
        return MeanOf(entry, name=getattr(entry, "__name__", "") or snake_case(type(entry).__name__))
    return dataclasses.replace(entry, name=name) if name else entry


def metrics(identifiers: Any, weighted: Any = ()) -> tuple[Metric, ...]:
    """Return the metrics for a list of identifiers, or for a single one.

    Args:
        identifiers: metrics that ignore sample weights, each as for :func:`metric`.
        weighted: metrics that use sample weights; as in Keras, the log has ``weighted_accuracy`` if ``accuracy`` is in
            both.

    Raises:
        ValueError: two metrics with the same name, or an invalid identifier as for :func:`metric`.

    >>> [m.name for m in metrics(["accuracy", "mse"], ["accuracy"])]
    ['accuracy', 'mse', 'weighted_accuracy']
    """
    plain, others = (tuple(metric(one) for one in _as_list(given)) for given in (identifiers, weighted))
    taken = {m.name for m in plain}
    prefixes = ["weighted_" * (m.name in taken) for m in others]
    pairs = zip(prefixes, others, strict=True)
    resolved = (*plain, *(dataclasses.replace(m, weighted=True, name=prefix + m.name) for prefix, m in pairs))
    names = ["loss", "count", "weight", *(m.name for m in resolved)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two metrics have the name {name!r} in the log; give one of them another name")
    return resolved


def default_metrics(loss: Any) -> tuple[Metric, ...]:
    """Return the default metrics of a loss: the accuracy for a crossentropy, otherwise none.

    >>> [m.name for m in default_metrics(resolve(losses, "binary_crossentropy"))]
    ['accuracy']
    """
    if isinstance(loss, BinaryCrossentropy):
        return (BinaryAccuracy(name="accuracy"),)
    return (Accuracy(),) if isinstance(loss, CategoricalCrossentropy | SparseCategoricalCrossentropy) else ()


def with_threshold(metric: Metric, loss: Any) -> Metric:
    """Return the metric with the threshold of the loss if its own is None: 0 for logits of ``BinaryCrossentropy``.

    Raises ValueError for logits of several classes, for which no threshold corresponds to a probability of 0.5.

    >>> with_threshold(Precision(), BinaryCrossentropy(from_logits=True)).threshold
    0.0
    """
    if not isinstance(metric, Accuracy | BinaryAccuracy | _Detection) or metric.threshold is not None:
        return metric
    if not getattr(loss, "from_logits", False):
        return metric
    if isinstance(loss, BinaryCrossentropy):
        return dataclasses.replace(metric, threshold=0.0)
    if isinstance(metric, Accuracy):  # with several classes it uses no threshold
        return metric
    got = f"{metric.name}: no threshold is given, and the loss is {type(loss).__name__} with from_logits=True"
    raise ValueError(f"{got}; give the threshold of the logits, or a model and a loss of probabilities")


def _above(y_pred: jax.Array, threshold: float | None) -> jax.Array:
    """Return which outputs are above the threshold, by default 0.5."""
    return y_pred > (0.5 if threshold is None else threshold)


def _as_list(identifiers: Any) -> list[Any]:
    single = isinstance(identifiers, str | dict) or not isinstance(identifiers, Iterable)
    return [identifiers] if single else list(identifiers)


@dataclasses.dataclass(frozen=True)
class MeanOf(Metric):
    """The mean over all samples of a function ``(y_true, y_pred) -> (batch, ...)``, such as a loss.

    If the function returns one number for a batch, this is the value of each sample in the batch.
    """

    function: Any = None

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        values = widen(jnp.asarray(self.function(y_true, y_pred)))  # sums of 16-bit floats stagnate
        return mean_per_sample(values) if values.ndim else jnp.broadcast_to(values, y_pred.shape[:1])


@register(registry)
class RootMeanSquaredError(Metric):
    """The square root of the mean squared error over all samples and outputs."""

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return mean_per_sample(jnp.square(y_true - y_pred))

    def finish(self, total: np.ndarray, count: float) -> float:
        return float(np.sqrt(total / count))


@register(registry)
class CosineSimilarity(Metric):
    """The cosine of the angle between targets and predictions along the last axis; 1 for the same direction."""

    higher_is_better = True

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return mean_per_sample(cosine(*align(self.name, y_true, y_pred)))


@dataclasses.dataclass(frozen=True)
class _Accuracy(Metric):
    higher_is_better = True

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return mean_per_sample(self.correct(jnp.asarray(y_true), full_precision(self.name, y_pred)).astype(jnp.float32))

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        raise NotImplementedError


@register(registry, "acc")
class Accuracy(_Accuracy):
    """The fraction of correct predictions; the kind follows from the shapes, as in Keras's ``"accuracy"``.

    One output per sample: :class:`BinaryAccuracy`. Fewer axes in the targets than in the predictions, or a last axis
    of length 1: :class:`SparseCategoricalAccuracy`. Otherwise: :class:`CategoricalAccuracy`.

    Args:
        threshold: that of :class:`BinaryAccuracy`.

    >>> Accuracy()(jnp.array([1, 0]), jnp.array([[0.1, 0.9], [0.2, 0.8]]))
    Array([1., 0.], dtype=float32)
    """

    threshold: float | None = None

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        if y_pred.ndim < 2 or y_pred.shape[-1] == 1:
            return BinaryAccuracy(self.threshold, name=self.name).correct(y_true, y_pred)
        if y_true.ndim < y_pred.ndim or y_true.shape[-1] == 1:
            return SparseCategoricalAccuracy(name=self.name).correct(y_true, y_pred)
        return CategoricalAccuracy(name=self.name).correct(y_true, y_pred)


@register(registry)
class BinaryAccuracy(_Accuracy):
    """The fraction of outputs on the correct side of ``threshold``.

    Args:
        threshold: an output above it means 1. None means the threshold of the loss: 0 for ``BinaryCrossentropy`` with
            ``from_logits=True``, otherwise 0.5.
    """

    threshold: float | None = None

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return _above(y_pred, self.threshold).astype(y_true.dtype) == y_true


@register(registry)
class CategoricalAccuracy(_Accuracy):
    """The fraction of samples whose largest output is at the index of the 1 in the one-hot target."""

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return jnp.argmax(y_true, axis=-1) == jnp.argmax(y_pred, axis=-1)


@register(registry)
class SparseCategoricalAccuracy(_Accuracy):
    """The fraction of samples whose largest output is at the index of the integer label."""

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        labels = y_true.reshape(label_shape(self.name, y_true.shape, y_pred.shape))
        return jnp.argmax(y_pred, axis=-1).astype(jnp.int32) == labels.astype(jnp.int32)


@register(registry)
class SparseTopKCategoricalAccuracy(_Accuracy):
    """The fraction of samples whose integer label is among the ``k`` largest outputs, ties included."""

    k: int = 5

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        labels = y_true.reshape(label_shape(self.name, y_true.shape, y_pred.shape))
        index = jnp.expand_dims(labels.astype(jnp.int32), -1)
        own = jnp.take_along_axis(y_pred, index, axis=-1, mode="fill", fill_value=-jnp.inf)
        own = jnp.where(jnp.isnan(own), -jnp.inf, own)  # NaN does not count as a large probability
        return jnp.sum(y_pred > own, axis=-1) < self.k


@register(registry)
class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """The fraction of samples whose one-hot target is among the ``k`` largest outputs, ties included."""

    def correct(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        return super().correct(jnp.argmax(y_true, axis=-1), y_pred)


@dataclasses.dataclass(frozen=True)
class _Detection(Metric):
    """Sums of true positives, predicted positives and actual positives, over all outputs."""

    threshold: float | None = None
    higher_is_better = True

    def __call__(self, y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        y_true, y_pred = align(self.name, y_true, y_pred)
        predicted, actual = _above(y_pred, self.threshold), y_true > 0
        counted = (predicted & actual, predicted, actual)
        sums = [x.astype(jnp.float32).reshape(x.shape[0], -1).sum(axis=1) for x in counted]
        return jnp.stack(sums, axis=-1)


@register(registry)
class Precision(_Detection):
    """The fraction of outputs above ``threshold`` whose target is 1; 0 if no output is above it.

    Args:
        threshold: as for :class:`BinaryAccuracy`.
    """

    def finish(self, total: np.ndarray, count: float) -> float:
        true_positives, predicted, _ = total
        return float(true_positives / predicted) if predicted else 0.0


@register(registry)
class Recall(_Detection):
    """The fraction of targets of 1 whose output is above ``threshold``; 0 if there is no such target.

    Args:
        threshold: as for :class:`BinaryAccuracy`.
    """

    def finish(self, total: np.ndarray, count: float) -> float:
        true_positives, _, actual = total
        return float(true_positives / actual) if actual else 0.0
