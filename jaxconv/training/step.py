"""One step of training and one of evaluation, as pure functions to be jitted by the caller.

Knows the contract of ``apply_fn`` (split, forward, penalty, project) and optax. No layer, no file, no loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxconv.contract import Params, merge
from jaxconv.dtypes import promote
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

    Where the output has a mask (``effects.mask``: the model has a ``Masking``, or an ``Embedding`` with ``mask_zero``),
    its real steps take the place of the samples: loss and metrics see each step as a case of its own, and the loss is
    the mean over all real steps of the batch, as in Keras.

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
        cases = _cases(y, prediction, effects.mask)
        value = _total(_mean(loss, cases), apply_fn.penalty(params), effects.penalty)
        return value, (cases, effects.fixed)

    def step(state: TrainState, x: Any, y: Any, key: Any) -> tuple[TrainState, Sums]:
        def value_fn(trainable: Params) -> jax.Array:
            return objective(trainable, state.fixed, x, y, key)[0]

        differentiate = jax.value_and_grad(objective, has_aux=True)
        (value, (cases, fixed)), grads = differentiate(state.trainable, state.fixed, x, y, key)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it: b1**count mixes float and int
            updates, opt_state = update(grads, state.opt_state, state.trainable, **extra)
            trainable = optax.apply_updates(state.trainable, updates)
        trainable, _ = apply_fn.split(apply_fn.project(merge(trainable, fixed)))
        return TrainState(trainable, fixed, _strong(opt_state)), _sums(value, cases, metrics)

    return step


def eval_step(
    apply_fn: Any, loss: Callable[[Any, Any], jax.Array], metrics: Sequence[Metric] = ()
) -> Callable[[Params, Any, Any], Sums]:
    """Build the evaluation step ``(params, x, y) -> sums``: pure, to be jitted. Nothing is trained, nothing drawn.

    The loss includes the penalties, as Keras's ``val_loss`` does. Args as in :func:`train_step`.
    """

    def step(params: Params, x: Any, y: Any) -> Sums:
        prediction, effects = apply_fn.forward(params, x, train=False)
        cases = _cases(y, prediction, effects.mask)
        value = _total(_mean(loss, cases), apply_fn.penalty(params), effects.penalty)
        return _sums(value, cases, metrics)

    return step


def figures(sums: Any, metrics: Sequence[Metric]) -> dict[str, float]:
    """Finish sums over batches: the mean loss, then each metric, by name.

    >>> figures({"loss": 6.0, "count": 4.0}, ())
    {'loss': 1.5}
    """
    count = float(sums["count"])
    return {"loss": float(sums["loss"] / count)} | {m.name: float(m.finish(sums[m.name], count)) for m in metrics}


class _Cases(NamedTuple):
    """What loss and metrics are averages over: the samples, or the steps of all samples where the output has a mask.

    real: which of them count; None where all do.
    """

    y: Any
    prediction: Any
    real: Any


def _cases(y: Any, prediction: Any, mask: Any) -> _Cases:
    """Give the cases. Raises ValueError for a mask over steps that targets or predictions do not have."""
    if mask is None:
        return _Cases(y, prediction, None)
    for what, array in (("output", prediction), ("targets", y)):
        if jnp.shape(array)[: mask.ndim] != mask.shape:
            raise ValueError(
                f"the {what} of shape {jnp.shape(array)} does not have the steps of the output's mask, {mask.shape}; "
                "give one value, or one vector, for each step, or end the sequence before, by pooling say"
            )
    y, prediction = (jnp.asarray(v).reshape(mask.size, *jnp.shape(v)[mask.ndim :]) for v in (y, prediction))
    real = mask.reshape(mask.size)
    # what pads may be NaN, and a prediction there all zeros: no weight of 0 undoes a derivative that is not finite
    return _Cases(_filled(y, real, 0), _filled(prediction, real, 1), real)


def _filled(values: jax.Array, real: jax.Array, value: int) -> jax.Array:
    """Put a value that every loss can take in the place of the cases that do not count."""
    return jnp.where(real.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.asarray(value, values.dtype))


def _mean(loss: Callable[[Any, Any], jax.Array], cases: _Cases) -> jax.Array:
    """Average the loss over the cases that count, in float32 or wider; 0 where none does."""
    values = jnp.asarray(loss(cases.y, cases.prediction))
    values = values.astype(promote(values.dtype, jnp.float32))
    if cases.real is None:
        return values.mean()
    if values.shape[:1] != cases.real.shape:
        raise ValueError(
            f"the loss gives values of shape {values.shape} for {cases.real.size} steps, some of them masked; "
            "give one value for each step"
        )
    return _added(values.reshape(cases.real.size, -1).mean(1), cases) / jnp.maximum(_number(cases, values.dtype), 1)


def _number(cases: _Cases, dtype: Any) -> jax.Array:
    """Count the cases that count."""
    if cases.real is None:
        return jnp.asarray(cases.prediction.shape[0], dtype)
    return cases.real.sum(dtype=dtype)


def _added(values: jax.Array, cases: _Cases) -> jax.Array:
    """Add the values of the cases that count."""
    return (values if cases.real is None else _filled(values, cases.real, 0)).sum(axis=0)


def _total(value: jax.Array, *penalties: jax.Array) -> jax.Array:
    """Add the penalties, in the type of the value."""
    return sum((penalty.astype(value.dtype) for penalty in penalties), start=value)


def _sums(value: jax.Array, cases: _Cases, metrics: Sequence[Metric]) -> Sums:
    count = _number(cases, value.dtype)
    return {"loss": value * count, "count": count} | {
        m.name: _added(m(cases.y, cases.prediction), cases) for m in metrics
    }


def _strong(tree: Any) -> Any:
    """Drop the weak types of scalars, so that a state that went through a file is traced as one that did not."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree)
