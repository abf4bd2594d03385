"""One step of training and one of evaluation, as pure functions to be jitted by the caller.

Knows the contract of ``apply_fn`` (split, forward, penalty, project) and optax. No layer, no file, no loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxconv.dtypes import promote
from jaxconv.layers.layer import Params, merge
from jaxconv.training.metrics import Metric

Sums = dict[str, jax.Array]


class TrainState(NamedTuple):
    """Everything that a step changes.

    trainable: the weights that the optimizer owns, None where ``fixed`` has the leaf.
    fixed: running statistics and frozen weights, None where ``trainable`` has the leaf.
    opt_state: the optimizer's.
    """

    trainable: Params
    fixed: Params
    opt_state: Any

    @property
    def params(self) -> Params:
        """Give the weights in one piece, as ``apply_fn`` takes them."""
        return merge(self.trainable, self.fixed)


def init_state(apply_fn: Any, params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Make the state in which training starts. Constraints are not applied here: as in Keras, the first update does.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    >>> sorted(init_state(apply_fn, params, optax.sgd(0.1)).params)
    ['bias', 'kernel']
    """
    trainable, fixed = apply_fn.split(params)
    with jax.numpy_dtype_promotion("standard"):
        opt_state = optimizer.init(trainable)
    return TrainState(trainable, fixed, _strong(opt_state))


def train_step(
    apply_fn: Any,
    loss: Callable[[Any, Any], jax.Array],
    optimizer: optax.GradientTransformation,
    metrics: Sequence[Metric] = (),
) -> Callable[[TrainState, Any, Any, Any], tuple[TrainState, Sums]]:
    """Build the training step ``(state, x, y, key) -> (state, sums)``: pure, to be jitted.

    The loss is the mean of ``loss(y, prediction)`` in float32 or wider, plus ``apply_fn.penalty`` (kernel and bias
    regularizers) plus ``effects.penalty`` (activity regularizers). It is differentiated by the trainable weights; after
    the optimizer's update the constraints are projected, so they hold exactly, and the running statistics are those
    of this forward pass. Optimizers that ask for ``value``, ``grad`` or ``value_fn`` (L-BFGS, Polyak's step size,
    reduction on a plateau) get them. The loss is not scaled: under ``mixed_float16`` gradients below 6e-8 vanish, where
    Keras's ``compile`` scales it; ``mixed_bfloat16`` needs no scaling.

    ``sums`` holds ``"loss"`` (times the number of samples), the sum over samples of each metric, by its name, and
    ``"count"``. Added over batches and passed to :func:`figures` they give means over samples, for any batch sizes.

    Args:
        apply_fn: a layer's functions.
        loss: ``(y_true, y_pred) -> (batch,)``.
        optimizer: any optax transformation.
        metrics: see ``jaxconv.training.metrics``; computed from the predictions made in training, as in Keras.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1, use_bias=False).init(jax.random.key(0), (None, 1))
    >>> sgd, mse = optax.sgd(0.5), lambda y, p: (y - p)[:, 0] ** 2
    >>> state = init_state(apply_fn, {"kernel": jnp.ones((1, 1))}, sgd)
    >>> state, sums = train_step(apply_fn, mse, sgd)(state, jnp.ones((2, 1)), 3 * jnp.ones((2, 1)), None)
    >>> float(sums["loss"]), float(state.params["kernel"][0, 0])
    (8.0, 3.0)
    """
    update = optax.with_extra_args_support(optimizer).update

    def objective(trainable: Params, fixed: Params, x: Any, y: Any, key: Any) -> tuple[jax.Array, Any]:
        params = merge(trainable, fixed)
        prediction, effects = apply_fn.forward(params, x, train=True, key=key)
        value = _total(loss(y, prediction), apply_fn.penalty(params), effects.penalty)
        return value, (prediction, effects.fixed)

    def step(state: TrainState, x: Any, y: Any, key: Any) -> tuple[TrainState, Sums]:
        def value_fn(trainable: Params) -> jax.Array:
            return objective(trainable, state.fixed, x, y, key)[0]

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (value, (prediction, fixed)), grads = differentiate(state.trainable, state.fixed, x, y, key)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it: b1**count mixes float and int
            updates, opt_state = update(grads, state.opt_state, state.trainable, **extra)
            trainable = optax.apply_updates(state.trainable, updates)
        trainable, _ = apply_fn.split(apply_fn.project(merge(trainable, fixed)))
        return TrainState(trainable, fixed, _strong(opt_state)), _sums(value, y, prediction, metrics)

    return step


def eval_step(
    apply_fn: Any, loss: Callable[[Any, Any], jax.Array], metrics: Sequence[Metric] = ()
) -> Callable[[Params, Any, Any], Sums]:
    """Build the evaluation step ``(params, x, y) -> sums``: pure, to be jitted. Nothing is trained, nothing drawn.

    The loss includes the penalties, as Keras's ``val_loss`` does. Args as in :func:`train_step`.
    """

    def step(params: Params, x: Any, y: Any) -> Sums:
        prediction, effects = apply_fn.forward(params, x, train=False)
        value = _total(loss(y, prediction), apply_fn.penalty(params), effects.penalty)
        return _sums(value, y, prediction, metrics)

    return step


def figures(sums: Any, metrics: Sequence[Metric]) -> dict[str, float]:
    """Finish sums over batches: the mean loss, then each metric, by name.

    >>> figures({"loss": 6.0, "count": 4.0}, ())
    {'loss': 1.5}
    """
    count = float(sums["count"])
    return {"loss": float(sums["loss"] / count)} | {m.name: float(m.finish(sums[m.name], count)) for m in metrics}


def _total(values: Any, *penalties: jax.Array) -> jax.Array:
    """Add the mean of the values and the penalties, in float32 or wider."""
    values = jnp.asarray(values)
    dtype = promote(values.dtype, jnp.float32)
    return sum((penalty.astype(dtype) for penalty in penalties), start=values.astype(dtype).mean())


def _sums(value: jax.Array, y: Any, prediction: jax.Array, metrics: Sequence[Metric]) -> Sums:
    count = jnp.asarray(prediction.shape[0], value.dtype)
    return {"loss": value * count, "count": count} | {m.name: m(y, prediction).sum(axis=0) for m in metrics}


def _strong(tree: Any) -> Any:
    """Drop the weak types of scalars, so that a state that went through a file is traced as one that did not."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree)
