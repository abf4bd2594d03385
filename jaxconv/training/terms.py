"""The terms of loss and metrics: samples, or steps of samples, with masks and weights; their mean and their sums."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.dtypes import widen
from jaxconv.training.metrics import Metric

Sums = dict[str, jax.Array]


class Terms(NamedTuple):
    """One term for each sample, or for each step of all samples if the output has a mask or each step has a weight.

    mask: True for each valid term, or None if all terms are valid.
    weight: the weight of each term, or None if all weights are 1.
    """

    y_true: Any
    y_pred: Any
    mask: Any
    weight: Any

    def number(self, dtype: Any) -> jax.Array:
        """Return the number of valid terms."""
        if self.mask is None:
            return jnp.asarray(self.y_pred.shape[0], dtype)
        return self.mask.sum(dtype=dtype)

    def sum(self, values: jax.Array, weighted: bool) -> jax.Array:
        """Sum the values of the valid terms, ``(terms,)`` or ``(terms, k)``; each times its weight if ``weighted``."""
        values = values if self.mask is None else _fill_masked(values, self.mask, 0)
        if weighted and self.weight is not None:
            values = values * self.weight.astype(values.dtype).reshape(-1, *(1,) * (values.ndim - 1))
        return values.sum(axis=0)


def terms(y_true: Any, y_pred: Any, mask: Any, sample_weight: Any = None) -> Terms:
    """Return the terms of a batch. Raises ValueError if output or targets lack the steps of the mask or weights."""
    weight = None if sample_weight is None else _weights(jnp.asarray(sample_weight), jnp.shape(y_pred))
    by_step = mask.shape if mask is not None else weight.shape if weight is not None and weight.ndim > 1 else None
    if by_step is None:
        return Terms(y_true, y_pred, None, weight)
    for what, array in (("output", y_pred), ("targets", y_true)):
        if jnp.shape(array)[: len(by_step)] != by_step:
            steps = f"the steps of the {'sample weights' if mask is None else 'output mask'}, {by_step}"
            remedy = "give a value or vector for each step, or reduce the sequence first, for example by pooling"
            raise ValueError(f"the {what} of shape {jnp.shape(array)} does not have {steps}; {remedy}")
    size = math.prod(by_step)
    y_true, y_pred = (jnp.asarray(v).reshape(size, *jnp.shape(v)[len(by_step) :]) for v in (y_true, y_pred))
    if weight is not None:
        weight = jnp.broadcast_to(weight.reshape(*weight.shape, *(1,) * (len(by_step) - weight.ndim)), by_step)
        weight = weight.reshape(size)
    if mask is None:
        return Terms(y_true, y_pred, None, weight)
    mask = mask.reshape(size)
    # masked targets may be NaN and masked predictions all zeros: a weight of 0 does not remove a non-finite derivative
    return Terms(_fill_masked(y_true, mask, 0), _fill_masked(y_pred, mask, 1), mask, weight)


def _weights(weight: jax.Array, pred_shape: tuple[int, ...]) -> jax.Array:
    """Return weights as ``(batch,)`` or ``(batch, steps)``. Raises ValueError for any other shape."""
    if weight.shape[:1] == pred_shape[:1] and weight.size == weight.shape[0]:
        return weight.reshape(weight.shape[0])
    if weight.ndim > max(1, len(pred_shape) - 1) or weight.shape != pred_shape[: weight.ndim]:
        allowed = f"{pred_shape[:1]}{f', or for each step, {pred_shape[:2]}' if len(pred_shape) > 2 else ''}"
        got = f"sample_weight has shape {weight.shape} and the output {pred_shape}"
        raise ValueError(f"{got}; give one weight for each sample, {allowed}")
    return weight


def _fill_masked(values: jax.Array, mask: jax.Array, value: int) -> jax.Array:
    """Replace the masked terms by a value that every loss accepts."""
    return jnp.where(mask.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.asarray(value, values.dtype))


def mean_loss(loss: Callable[[Any, Any], jax.Array], of: Terms) -> jax.Array:
    """Compute the loss, in float32 or wider: the sum of weight times value, divided by the number of valid terms.

    As in Keras, the divisor does not depend on the weights. The result is 0 if there is no valid term.
    """
    values = widen(jnp.asarray(loss(of.y_true, of.y_pred)))
    if of.mask is None and of.weight is None:
        return values.mean()
    if values.shape[:1] != of.y_pred.shape[:1]:
        got = f"the loss returns shape {values.shape} for {of.y_pred.shape[0]} terms, some masked or weighted"
        raise ValueError(f"{got}; return one value for each term")
    total = of.sum(values.reshape(values.shape[0], -1).mean(1), weighted=True)
    return total / jnp.maximum(of.number(values.dtype), 1)


def batch_sums(value: jax.Array, of: Terms, metrics: Sequence[Metric]) -> Sums:
    """Return the sums of a batch: loss, count and metrics, and the sum of the weights if a metric is weighted."""
    count = of.number(value.dtype)
    sums = {"loss": value * count, "count": count}
    if any(m.weighted for m in metrics):
        sums["weight"] = of.sum(jnp.ones(of.y_pred.shape[:1], value.dtype), weighted=True)
    return sums | {m.name: of.sum(m(of.y_true, of.y_pred), m.weighted) for m in metrics}


def metric_values(sums: Any, metrics: Sequence[Metric]) -> dict[str, float]:
    """Compute the mean loss and each metric from sums over batches.

    Args:
        sums: the ``sums`` of :func:`train_step` or :func:`eval_step`, added over batches.
        metrics: the metrics that the step computed.

    Returns:
        The mean loss under ``"loss"``, and the value of each metric under its name.

    >>> metric_values({"loss": 6.0, "count": 4.0}, ())
    {'loss': 1.5}
    """
    count = float(sums["count"])
    values = {"loss": float(sums["loss"] / count)}
    return values | {m.name: float(m.finish(sums[m.name], sums["weight"] if m.weighted else count)) for m in metrics}
