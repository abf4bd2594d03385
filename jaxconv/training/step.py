"""The training step and the evaluation step, as pure functions for the caller to jit.

Knows the contract of ``apply_fn`` (split, forward, penalty, project) and optax; no layers, no files, no loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxconv.contract import Params, merge
from jaxconv.dtypes import promote
from jaxconv.training.metrics import Metric
from jaxconv.training.mistakes import check_argument_order, check_output

Sums = dict[str, jax.Array]


class TrainState(NamedTuple):
    """Everything that a step changes.

    trainable: the weights that the optimizer updates, None where ``fixed`` has the leaf.
    fixed: running statistics and frozen weights, None where ``trainable`` has the leaf.
    opt_state: the state of the optimizer.
    """

    trainable: Params
    fixed: Params
    opt_state: Any

    @property
    def params(self) -> Params:
        """Return all weights, as ``apply_fn`` takes them."""
        return merge(self.trainable, self.fixed)


def init_state(apply_fn: Any, params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the initial state of training. As in Keras, constraints are first applied after the first update.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    >>> sorted(init_state(apply_fn, params, optax.sgd(0.1)).params)
    ['bias', 'kernel']
    """
    trainable, fixed = apply_fn.split(params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(trainable)
    return TrainState(trainable, fixed, _remove_weak_types(opt_state))


def train_step(
    apply_fn: Any,
    loss: Callable[[Any, Any], jax.Array],
    optimizer: optax.GradientTransformation,
    metrics: Sequence[Metric] = (),
) -> Callable[[TrainState, Any, Any, Any], tuple[TrainState, Sums]]:
    """Build the training step ``(state, x, y, key) -> (state, sums)``: pure, to be jitted.

    The loss is the mean of ``loss(y, prediction)`` in float32 or wider, plus ``apply_fn.penalty`` (kernel and bias
    regularizers) plus ``effects.penalty`` (activity regularizers). The gradient is that of the trainable weights. After
    the optimizer's update the constraints are projected, so they hold exactly; the running statistics are those of this
    forward pass. Optimizers that need ``value``, ``grad`` or ``value_fn`` (L-BFGS, Polyak's step size, reduction on a
    plateau) get them. The loss is not scaled: under ``mixed_float16`` gradients below 6e-8 become zero, while Keras's
    ``compile`` scales the loss; ``mixed_bfloat16`` needs no scaling.

    ``sums`` contains ``"loss"`` (times the number of samples), the sum over samples of each metric, by its name, and
    ``"count"``. Added over batches and passed to :func:`metric_values`, they give means over samples for any batch
    sizes.

    If the output has a mask (``effects.mask``: the model has a ``Masking``, or an ``Embedding`` with ``mask_zero``),
    loss and metrics treat each valid step as a sample, and the loss is the mean over all valid steps of the batch, as
    in Keras.

    Args:
        apply_fn: the functions of a layer.
        loss: ``(y_true, y_pred) -> (batch,)``.
        optimizer: any optax transformation.
        metrics: see ``jaxconv.training.metrics``; computed from the predictions of the training step, as in Keras.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1, use_bias=False).init(jax.random.key(0), (None, 1))
    >>> sgd, mse = optax.sgd(0.5), lambda y, p: (y - p)[:, 0] ** 2
    >>> state = init_state(apply_fn, {"kernel": jnp.ones((1, 1))}, sgd)
    >>> state, sums = train_step(apply_fn, mse, sgd)(state, jnp.ones((2, 1)), 3 * jnp.ones((2, 1)), None)
    >>> float(sums["loss"]), float(state.params["kernel"][0, 0])
    (8.0, 3.0)
    """
    check_output(apply_fn, loss)
    check_argument_order(loss)
    update = optax.with_extra_args_support(optimizer).update

    def objective(trainable: Params, fixed: Params, x: Any, y: Any, key: Any) -> tuple[jax.Array, Any]:
        params = merge(trainable, fixed)
        prediction, effects = apply_fn.forward(params, x, train=True, key=key)
        terms = _compare(y, prediction, effects.mask)
        value = _add_penalties(_mean(loss, terms), apply_fn.penalty(params), effects.penalty)
        return value, (terms, effects.fixed)

    def step(state: TrainState, x: Any, y: Any, key: Any) -> tuple[TrainState, Sums]:
        def value_fn(trainable: Params) -> jax.Array:
            return objective(trainable, state.fixed, x, y, key)[0]

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (value, (terms, fixed)), grads = differentiate(state.trainable, state.fixed, x, y, key)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it: b1**count mixes float and int
            updates, opt_state = update(grads, state.opt_state, state.trainable, **extra)
            trainable = optax.apply_updates(state.trainable, updates)
        trainable, _ = apply_fn.split(apply_fn.project(merge(trainable, fixed)))
        return TrainState(trainable, fixed, _remove_weak_types(opt_state)), _sums(value, terms, metrics)

    return step


def eval_step(
    apply_fn: Any, loss: Callable[[Any, Any], jax.Array], metrics: Sequence[Metric] = ()
) -> Callable[[Params, Any, Any], Sums]:
    """Build the evaluation step ``(params, x, y) -> sums``: pure, to be jitted. It uses no random numbers.

    The loss includes the penalties, as Keras's ``val_loss`` does. Args as in :func:`train_step`.
    """
    check_output(apply_fn, loss)
    check_argument_order(loss)

    def step(params: Params, x: Any, y: Any) -> Sums:
        prediction, effects = apply_fn.forward(params, x, train=False)
        terms = _compare(y, prediction, effects.mask)
        value = _add_penalties(_mean(loss, terms), apply_fn.penalty(params), effects.penalty)
        return _sums(value, terms, metrics)

    return step


def metric_values(sums: Any, metrics: Sequence[Metric]) -> dict[str, float]:
    """Compute the mean loss and each metric from sums over batches, by name.

    >>> metric_values({"loss": 6.0, "count": 4.0}, ())
    {'loss': 1.5}
    """
    count = float(sums["count"])
    return {"loss": float(sums["loss"] / count)} | {m.name: float(m.finish(sums[m.name], count)) for m in metrics}


class _Comparison(NamedTuple):
    """The terms of loss and metrics: one for each sample, or for each step of all samples if the output has a mask.

    mask: which terms count; None if all do.
    """

    y_true: Any
    y_pred: Any
    mask: Any


def _compare(y_true: Any, y_pred: Any, mask: Any) -> _Comparison:
    """Return the terms. Raises ValueError for a mask over steps that targets or predictions do not have."""
    if mask is None:
        return _Comparison(y_true, y_pred, None)
    for what, array in (("output", y_pred), ("targets", y_true)):
        if jnp.shape(array)[: mask.ndim] != mask.shape:
            raise ValueError(
                f"the {what} of shape {jnp.shape(array)} does not have the steps of the output's mask, {mask.shape}; "
                "give one value, or one vector, for each step, or reduce the sequence before, for example by pooling"
            )
    y_true, y_pred = (jnp.asarray(v).reshape(mask.size, *jnp.shape(v)[mask.ndim :]) for v in (y_true, y_pred))
    mask = mask.reshape(mask.size)
    # masked targets may be NaN and masked predictions all zeros: a weight of 0 does not remove a non-finite derivative
    return _Comparison(_fill_masked(y_true, mask, 0), _fill_masked(y_pred, mask, 1), mask)


def _fill_masked(values: jax.Array, mask: jax.Array, value: int) -> jax.Array:
    """Replace the masked terms by a value that every loss accepts."""
    return jnp.where(mask.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.asarray(value, values.dtype))


def _mean(loss: Callable[[Any, Any], jax.Array], terms: _Comparison) -> jax.Array:
    """Average the loss over the valid terms, in float32 or wider; 0 if there is none."""
    values = jnp.asarray(loss(terms.y_true, terms.y_pred))
    values = values.astype(promote(values.dtype, jnp.float32))
    if terms.mask is None:
        return values.mean()
    if values.shape[:1] != terms.mask.shape:
        raise ValueError(
            f"the loss returns values of shape {values.shape} for {terms.mask.size} steps, some of them masked; "
            "return one value for each step"
        )
    return _sum(values.reshape(terms.mask.size, -1).mean(1), terms) / jnp.maximum(_count(terms, values.dtype), 1)


def _count(terms: _Comparison, dtype: Any) -> jax.Array:
    """Return the number of valid terms."""
    if terms.mask is None:
        return jnp.asarray(terms.y_pred.shape[0], dtype)
    return terms.mask.sum(dtype=dtype)


def _sum(values: jax.Array, terms: _Comparison) -> jax.Array:
    """Add the values of the valid terms."""
    return (values if terms.mask is None else _fill_masked(values, terms.mask, 0)).sum(axis=0)


def _add_penalties(value: jax.Array, *penalties: jax.Array) -> jax.Array:
    """Add the penalties, in the dtype of the value."""
    return sum((penalty.astype(value.dtype) for penalty in penalties), start=value)


def _sums(value: jax.Array, terms: _Comparison, metrics: Sequence[Metric]) -> Sums:
    count = _count(terms, value.dtype)
    return {"loss": value * count, "count": count} | {
        m.name: _sum(m(terms.y_true, terms.y_pred), terms) for m in metrics
    }


def _remove_weak_types(tree: Any) -> Any:
    """Remove the weak types of scalars, so that a state read from a file does not cause a second trace."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree)
