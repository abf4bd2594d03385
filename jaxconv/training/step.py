"""The training step and the evaluation step, as pure functions that the caller jits.

Must not import layers: a model is used through its ``apply_fn`` (split, forward, penalty, project).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxconv.contract import Params, merge
from jaxconv.dtypes import widen
from jaxconv.training.metrics import MeanOf, Metric, with_threshold
from jaxconv.training.mistakes import check_argument_order, check_output
from jaxconv.training.terms import Sums, Terms, batch_sums, mean_loss, terms


class Average(NamedTuple):
    """The exponential moving average of the trainable weights, in float32 or wider, and the number of its updates."""

    weights: Params
    updates: jax.Array


class TrainState(NamedTuple):
    """The state that a training step updates.

    trainable: the weights that the optimizer updates, with None for the leaves in ``fixed``.
    fixed: running statistics and frozen weights, with None for the leaves in ``trainable``.
    opt_state: the state of the optimizer.
    average: the moving average of ``trainable``, or None if there is none.
    """

    trainable: Params
    fixed: Params
    opt_state: Any
    average: Average | None = None

    @property
    def params(self) -> Params:
        """Return all weights in the structure that ``apply_fn`` takes."""
        return merge(self.trainable, self.fixed)


def init_state(
    apply_fn: Any, params: Params, optimizer: optax.GradientTransformation, *, ema: float | None = None
) -> TrainState:
    """Return the initial state of training. As in Keras, constraints are first applied after the first update.

    Args:
        apply_fn, params: the model, as returned by ``layer.init``.
        optimizer: any optax transformation.
        ema: as for :func:`train_step`; None keeps no average.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    >>> sorted(init_state(apply_fn, params, optax.sgd(0.1)).params)
    ['bias', 'kernel']
    """
    trainable, fixed = apply_fn.split(params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(trainable)
    average = None
    if ema is not None:
        average = Average(jax.tree.map(widen, trainable), jnp.int32(0))
    return TrainState(trainable, fixed, _remove_weak_types(opt_state), average)


def averaged_params(apply_fn: Any, state: TrainState) -> Params:
    """Return the weights for evaluation: the moving average with constraints applied, or without one the weights.

    The running statistics are those of the trained weights, as in Keras: they are already moving averages.

    Args:
        apply_fn: the functions of a layer.
        state: the state of training, from :func:`init_state` or :func:`train_step`.

    Returns:
        All weights, in the structure that ``apply_fn`` takes.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    >>> state = init_state(apply_fn, params, optax.sgd(0.1), ema=0.99)
    >>> sorted(averaged_params(apply_fn, state))
    ['bias', 'kernel']
    """
    if state.average is None:
        return state.params
    weights = jax.tree.map(lambda mean, leaf: mean.astype(leaf.dtype), state.average.weights, state.trainable)
    return apply_fn.project(merge(weights, state.fixed))


def train_step(
    apply_fn: Any,
    loss: Callable[[Any, Any], jax.Array],
    optimizer: optax.GradientTransformation,
    metrics: Sequence[Metric] = (),
    *,
    ema: float | None = None,
) -> Callable[..., tuple[TrainState, Sums]]:
    """Build the training step ``(state, x, y, key, sample_weight=None) -> (state, sums)``, a pure function to jit.

    The loss is the mean of ``loss(y, prediction)`` in float32 or wider, plus ``apply_fn.penalty`` (kernel and bias
    regularizers) plus ``effects.penalty`` (activity regularizers). Its gradient is taken with respect to the trainable
    weights. After the optimizer's update the weights are projected onto the constraints, which then hold exactly; the
    running statistics are those of this forward pass. Optimizers that need ``value``, ``grad`` or ``value_fn`` (L-BFGS,
    Polyak's step size, reduction on a plateau) get them. The loss is not scaled: under ``mixed_float16`` gradients
    below 6e-8 become zero, while Keras's ``compile`` scales the loss; ``mixed_bfloat16`` needs no scaling.

    ``sums`` contains ``"loss"`` (times the number of samples), the sum over samples of each metric, by its name, and
    ``"count"``. Added over batches and passed to :func:`metric_values`, they give means over samples for any batch
    sizes.

    If the output has a mask (``effects.mask``: the model has a ``Masking``, or an ``Embedding`` with ``mask_zero``),
    loss and metrics treat each valid step as a sample, and the loss is the mean over all valid steps of the batch, as
    in Keras. ``sample_weight``, ``(batch,)`` or ``(batch, steps)``, multiplies the loss of each sample or step; as in
    Keras, the sum is divided by their number, not by the sum of the weights.

    Args:
        apply_fn: the functions of a layer.
        loss: ``(y_true, y_pred) -> (batch,)``.
        optimizer: any optax transformation.
        metrics: see ``jaxconv.training.metrics``; computed from the predictions of the training step, as in Keras. A
            metric without a threshold has that of the loss.
        ema: the share of the old average that is kept at each update of ``state.average``; as in Keras, the average
            begins with the weights after the first update.

    Returns:
        The step: ``x`` and ``y`` are batches, ``key`` is a PRNG key for dropout, or None if the model needs none.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1, use_bias=False).init(jax.random.key(0), (None, 1))
    >>> sgd, mse = optax.sgd(0.5), lambda y, p: (y - p)[:, 0] ** 2
    >>> state = init_state(apply_fn, {"kernel": jnp.ones((1, 1))}, sgd)
    >>> state, sums = train_step(apply_fn, mse, sgd)(state, jnp.ones((2, 1)), 3 * jnp.ones((2, 1)), None)
    >>> float(sums["loss"]), float(state.params["kernel"][0, 0])
    (8.0, 3.0)
    """
    metrics = _checked(apply_fn, loss, metrics)
    update = _updater(apply_fn, optimizer, ema)

    def objective(trainable: Params, fixed: Params, x: Any, y: Any, key: Any, weight: Any) -> tuple[jax.Array, Any]:
        params = merge(trainable, fixed)
        prediction, effects = apply_fn.forward(params, x, train=True, key=key)
        compared = terms(y, prediction, effects.mask, weight)
        value = _add_penalties(mean_loss(loss, compared), apply_fn.penalty(params), effects.penalty)
        return value, (compared, effects.fixed)

    def step(state: TrainState, x: Any, y: Any, key: Any, sample_weight: Any = None) -> tuple[TrainState, Sums]:
        def value_fn(trainable: Params) -> jax.Array:
            return objective(trainable, state.fixed, x, y, key, sample_weight)[0]

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (value, (compared, fixed)), grads = differentiate(state.trainable, state.fixed, x, y, key, sample_weight)
        state = update(state._replace(fixed=fixed), grads, value, value_fn)
        return state, batch_sums(value, compared, metrics)

    return step


class Gradients(NamedTuple):
    """Sums over the batches of one update.

    loss: the gradient of the loss, each batch times its number of valid terms. activity: the gradient of the activity
    regularizers, each batch times its number of samples. value, penalty: the values that have these gradients. terms,
    samples: the divisors.
    """

    loss: Params
    activity: Params
    value: jax.Array
    penalty: jax.Array
    terms: jax.Array
    samples: jax.Array


def gradient_step(
    apply_fn: Any, loss: Callable[[Any, Any], jax.Array], metrics: Sequence[Metric] = ()
) -> Callable[..., tuple[TrainState, Gradients, Sums]]:
    """Build the step ``(state, gradients, x, y, key, sample_weight) -> (state, gradients, sums)`` without an update.

    It adds the gradients of one batch to those of the previous batches (None for the first), and updates the running
    statistics. :func:`update_step` updates the weights from the sums. The result equals one step with all the batches
    together, regardless of their sizes and masks, unless the model uses batch statistics.
    """
    metrics = _checked(apply_fn, loss, metrics)

    def step(
        state: TrainState, gradients: Gradients | None, x: Any, y: Any, key: Any, sample_weight: Any = None
    ) -> tuple[TrainState, Gradients, Sums]:
        def objective(trainable: Params) -> tuple[tuple[jax.Array, jax.Array], tuple[Terms, Params]]:
            prediction, effects = apply_fn.forward(merge(trainable, state.fixed), x, train=True, key=key)
            compared = terms(y, prediction, effects.mask, sample_weight)
            mean = mean_loss(loss, compared)
            samples = jnp.asarray(prediction.shape[0], mean.dtype)
            totals = mean * compared.number(mean.dtype), effects.penalty.astype(mean.dtype) * samples
            return totals, (compared, effects.fixed)

        (value, penalty), pull, (compared, fixed) = jax.vjp(objective, state.trainable, has_aux=True)
        one, zero = jnp.ones_like(value), jnp.zeros_like(value)
        count, samples = compared.number(value.dtype), jnp.asarray(jax.tree.leaves(x)[0].shape[0], value.dtype)
        new = Gradients(pull((one, zero))[0], pull((zero, one))[0], value, penalty, count, samples)
        weights = apply_fn.penalty(state.params)
        shown = _add_penalties(value / jnp.maximum(count, 1), weights, penalty / samples)
        total = new if gradients is None else jax.tree.map(jnp.add, gradients, new)
        return state._replace(fixed=fixed), total, batch_sums(shown, compared, metrics)

    return step


def update_step(
    apply_fn: Any, optimizer: optax.GradientTransformation, *, ema: float | None = None
) -> Callable[[TrainState, Gradients], TrainState]:
    """Build the update ``(state, gradients) -> state`` from the sums of :func:`gradient_step`."""
    update = _updater(apply_fn, optimizer, ema)

    def no_value_fn(trainable: Params) -> jax.Array:
        raise ValueError("fit: this optimizer evaluates the loss during its update; give accumulate=1")

    def step(state: TrainState, gradients: Gradients) -> TrainState:
        def penalty(trainable: Params) -> jax.Array:
            return apply_fn.penalty(merge(trainable, state.fixed))

        weights, weights_gradient = jax.value_and_grad(penalty)(state.trainable)
        count = jnp.maximum(gradients.terms, 1)

        def mean(loss: jax.Array, activity: jax.Array, own: jax.Array) -> jax.Array:
            divisors = count.astype(loss.dtype), gradients.samples.astype(loss.dtype)
            return loss / divisors[0] + activity / divisors[1] + own

        grads = jax.tree.map(mean, gradients.loss, gradients.activity, weights_gradient)
        value = _add_penalties(gradients.value / count, weights, gradients.penalty / gradients.samples)
        return update(state, grads, value, no_value_fn)

    return step


def _updater(apply_fn: Any, optimizer: optax.GradientTransformation, ema: float | None) -> Callable[..., TrainState]:
    """Return the function that updates the weights from their gradient: optimizer, constraints, average."""
    transform = optax.with_extra_args_support(optimizer).update

    def update(state: TrainState, grads: Params, value: jax.Array, value_fn: Callable[..., Any]) -> TrainState:
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it: b1**count mixes float and int
            updates, opt_state = transform(grads, state.opt_state, state.trainable, **extra)
            trainable = optax.apply_updates(state.trainable, updates)
        trainable, _ = apply_fn.split(apply_fn.project(merge(trainable, state.fixed)))
        average = None if ema is None or state.average is None else _update_average(state.average, trainable, ema)
        return TrainState(trainable, state.fixed, _remove_weak_types(opt_state), average)

    return update


def _update_average(average: Average, trainable: Params, ema: float) -> Average:
    def mean(old: jax.Array, leaf: jax.Array) -> jax.Array:
        new = widen(leaf)
        kept = jnp.where(average.updates == 0, 0.0, ema).astype(new.dtype)
        return kept * old + (1 - kept) * new

    return Average(jax.tree.map(mean, average.weights, trainable), average.updates + jnp.int32(1))


def eval_step(
    apply_fn: Any, loss: Callable[[Any, Any], jax.Array], metrics: Sequence[Metric] = ()
) -> Callable[..., Sums]:
    """Build the evaluation step ``(params, x, y, sample_weight=None) -> sums``, a pure function to jit.

    It uses no random numbers. The loss includes the penalties, as Keras's ``val_loss`` does.

    Args:
        apply_fn: the functions of a layer.
        loss: ``(y_true, y_pred) -> (batch,)``.
        metrics: see ``jaxconv.training.metrics``.

    Returns:
        The step, whose ``sums`` are those of :func:`train_step`: :func:`metric_values` computes means from them.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1, kernel_initializer="ones").init(jax.random.key(0), (None, 2))
    >>> step = eval_step(apply_fn, lambda y, p: (y - p)[:, 0] ** 2)
    >>> sums = step(params, jnp.ones((3, 2)), jnp.ones((3, 1)))
    >>> float(sums["loss"]), float(sums["count"])
    (3.0, 3.0)
    """
    metrics = _checked(apply_fn, loss, metrics)

    def step(params: Params, x: Any, y: Any, sample_weight: Any = None) -> Sums:
        prediction, effects = apply_fn.forward(params, x, train=False)
        compared = terms(y, prediction, effects.mask, sample_weight)
        value = _add_penalties(mean_loss(loss, compared), apply_fn.penalty(params), effects.penalty)
        return batch_sums(value, compared, metrics)

    return step


def _checked(apply_fn: Any, loss: Any, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Check the loss and the metrics against the model, and return the metrics with the thresholds of the loss."""
    check_argument_order(loss)
    for function in (loss, *(metric.function for metric in metrics if isinstance(metric, MeanOf))):
        check_output(apply_fn, function)
    return tuple(with_threshold(metric, loss) for metric in metrics)


def _add_penalties(value: jax.Array, *penalties: jax.Array) -> jax.Array:
    """Add the penalties, in the dtype of the value."""
    return sum((penalty.astype(value.dtype) for penalty in penalties), start=value)


def _remove_weak_types(tree: Any) -> Any:
    """Remove the weak types of scalars, so that a state read from a file does not cause a second trace."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree)
