"""Sample and class weights, averages and accumulated gradients, with Keras and one large batch as oracles."""

import jax
import keras
import numpy as np
import pytest

from jaxconv.layers.conv import Conv1D
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.masking import Masking
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.models import Sequential
from jaxconv.training.evaluation import evaluate
from jaxconv.training.fit import fit
from jaxconv.training.optimizers import optimizer

RNG = np.random.default_rng(8)
X = RNG.normal(size=(10, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 10)
WEIGHT = RNG.uniform(0, 3, 10).astype(np.float32)
SGD = {"name": "sgd", "learning_rate": 0.3}
L = keras.layers


def pair(options=None):
    """Return a classifier of jaxconv and the same of Keras."""
    layer = Sequential([Dense(5, activation="tanh", **(options or {})), Dense(3, activation="softmax")])
    params, apply_fn = layer.init(jax.random.key(0), (None, 4))
    other = keras.Sequential([L.Dense(5, activation="tanh", **(options or {})), L.Dense(3, activation="softmax")])
    copy_to_keras(other, (None, 4), [params["dense"], params["dense_1"]])
    return apply_fn, params, other


def copy_to_keras(model, shape, params):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model.build(shape)
        layers = [layer for layer in model.layers if layer.weights]
        for layer, own in zip(layers, params, strict=True):
            layer.set_weights([np.array(own["kernel"]), np.array(own["bias"])])


def keras_fit(model, x, y, optimizer, evaluated=None, compiled=None, **options):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model.compile(optimizer, **(compiled or {}))
        history = model.fit(x, y, shuffle=False, verbose=0, **options).history
        weights = [[np.asarray(v.value) for v in layer.weights] for layer in model.layers if layer.weights]
    return {name: values[-1] for name, values in history.items()}, weights


def assert_equal_weights(params, weights):
    own = [leaf for layer in params.values() if layer for leaf in (layer["kernel"], layer["bias"])]
    for mine, theirs in zip(own, (leaf for layer in weights for leaf in layer), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("batch_size", [10, 4])  # one step, and an epoch of three uneven ones
@pytest.mark.parametrize("kind", ["sample_weight", "class_weight"])
def test_weights_mean_what_they_mean_in_keras(batch_size, kind):
    apply_fn, params, other = pair({"kernel_regularizer": "l2"})
    options = {kind: WEIGHT if kind == "sample_weight" else {0: 0.5, 2: 3.0}, "batch_size": batch_size}
    named = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
    loss = "sparse_categorical_crossentropy"
    log, weights = keras_fit(other, X, LABELS, keras.optimizers.SGD(0.3), compiled={"loss": loss, **named}, **options)
    fitted = fit(apply_fn, params, X, LABELS, loss=loss, optimizer=SGD, shuffle=False, **named, **options)
    found = {name: value for name, value in fitted.history[0].items() if name in log}
    assert set(found) == {"loss", "accuracy", "weighted_accuracy"} and found == pytest.approx(log, rel=1e-5)
    assert_equal_weights(fitted.params, weights)
    weight = WEIGHT if kind == "sample_weight" else np.array([0.5, 1.0, 3.0], np.float32)[LABELS]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = other.evaluate(X, LABELS, sample_weight=weight, verbose=0, return_dict=True)
    own = evaluate(apply_fn, fitted.params, X, LABELS, loss=loss, **named, sample_weight=weight, batch_size=3)
    assert own == pytest.approx(theirs, rel=1e-5)


def masked(steps=6):
    x = RNG.normal(size=(10, steps, 2)).astype(np.float32)
    for row, length in enumerate([6, 1, 3, 5, 2, 4, 6, 2, 3, 1]):
        x[row, length:] = 0
    y = RNG.normal(size=(10, steps, 1)).astype(np.float32)
    return x, y, RNG.uniform(0, 3, (10, steps)).astype(np.float32)


def test_weights_of_steps_beside_a_mask_are_those_of_keras():
    x, y, weight = masked()
    layer = Sequential([Masking(), Dense(4, activation="tanh"), Dense(1)])
    params, apply_fn = layer.init(jax.random.key(0), (None, 6, 2))
    other = keras.Sequential([L.Masking(), L.Dense(4, activation="tanh"), L.Dense(1)])
    copy_to_keras(other, (None, 6, 2), [params["dense"], params["dense_1"]])
    compiled = {"loss": "mse", "weighted_metrics": ["mae"]}
    log, weights = keras_fit(
        other, x, y, keras.optimizers.SGD(0.3), compiled=compiled, sample_weight=weight, batch_size=10
    )
    options = {"loss": "mse", "optimizer": SGD, "weighted_metrics": ["mae"], "batch_size": 10, "shuffle": False}
    fitted = fit(apply_fn, params, x, y, sample_weight=weight, **options)
    assert fitted.history[0]["loss"] == pytest.approx(log["loss"], rel=1e-5)
    real = np.any(x != 0, axis=-1)
    error = np.abs(np.float64(apply_fn(params, x)) - y)[..., 0]
    assert fitted.history[0]["mae"] == pytest.approx((error * weight)[real].sum() / weight[real].sum(), rel=1e-5)
    assert log["mae"] == pytest.approx((error * weight).sum() / weight.sum(), rel=1e-5)  # fit of Keras loses the mask
    assert_equal_weights(fitted.params, weights)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = other.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)  # and evaluate keeps it
    own = evaluate(apply_fn, fitted.params, x, y, sample_weight=weight, loss="mse", weighted_metrics=["mae"])
    assert own == pytest.approx(theirs, rel=1e-5)
    by_sample = fit(apply_fn, params, x, y, sample_weight=WEIGHT, **options)
    repeated = fit(apply_fn, params, x, y, sample_weight=np.repeat(WEIGHT[:, None], 6, 1), **options)
    assert by_sample.history == repeated.history


def test_accumulated_batches_equal_one_large_batch():
    """Unequal batches, masks and weights, all regularizers, clipping: to 1e-6."""
    x, y, weight = masked()
    layer = Sequential(
        [Masking(), Dense(4, activation="tanh", activity_regularizer="l2"), Dense(1, kernel_regularizer="l1")]
    )
    params, apply_fn = layer.init(jax.random.key(0), (None, 6, 2))
    options = {"loss": "mse", "optimizer": SGD, "metrics": "mae", "shuffle": False, "clip_norm": 0.5, "epochs": 3}
    whole = fit(apply_fn, params, x, y, sample_weight=weight, batch_size=10, **options)
    parts = fit(apply_fn, params, x, y, sample_weight=weight, batch_size=3, accumulate=4, **options)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert [row["mae"] for row in whole.history] == pytest.approx([row["mae"] for row in parts.history], rel=1e-6)


def test_the_last_step_of_an_epoch_has_the_rest_of_the_batches():
    apply_fn, params, _ = pair()
    options = {"loss": "sparse_categorical_crossentropy", "optimizer": SGD, "shuffle": False}
    parts = fit(apply_fn, params, X, LABELS, batch_size=2, accumulate=3, **options)
    batches = [(X[:6], LABELS[:6]), (X[6:], LABELS[6:])]
    whole = fit(apply_fn, params, batches, **options)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_an_optimizer_that_evaluates_the_loss_needs_whole_batches():
    apply_fn, params, _ = pair()
    with pytest.raises(ValueError, match="accumulate"):
        fit(apply_fn, params, X, LABELS, loss="sparse_categorical_crossentropy", optimizer="lbfgs", accumulate=2)


def test_clip_norm_is_the_optimizers_global_clipnorm():
    apply_fn, params, _ = pair()
    options = {"loss": "sparse_categorical_crossentropy", "batch_size": 4}
    ours = fit(apply_fn, params, X, LABELS, optimizer=SGD, clip_norm=0.1, **options)
    theirs = fit(apply_fn, params, X, LABELS, optimizer=SGD | {"global_clipnorm": 0.1}, **options)
    assert ours.history == theirs.history
    assert ours.history != fit(apply_fn, params, X, LABELS, optimizer=SGD, **options).history
    assert optimizer(SGD, clip_norm=0.1) is optimizer(SGD, clip_norm=0.1)


@pytest.mark.slow
def test_the_average_is_that_of_keras_and_is_validated():
    apply_fn, params, other = pair()
    loss = "sparse_categorical_crossentropy"
    rule = keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.8)
    _, weights = keras_fit(other, X, LABELS, rule, compiled={"loss": loss}, epochs=3, batch_size=4)
    fitted = fit(
        apply_fn, params, X, LABELS, loss=loss, optimizer=SGD, shuffle=False, epochs=3, batch_size=4, ema=0.8,
        validation_data=(X, LABELS),
    )  # fmt: skip
    assert_equal_weights(fitted.params, weights)  # Keras overwrites the weights by the average at the end of fit
    found = evaluate(apply_fn, fitted.params, X, LABELS, loss=loss, batch_size=4)
    assert fitted.history[-1]["val_loss"] == pytest.approx(found["loss"], rel=1e-6)


def test_the_average_of_half_precision_weights_is_in_float32_and_constraints_hold():
    layer = Dense(1, dtype="bfloat16", kernel_constraint="unit_norm")
    params, apply_fn = layer.init(jax.random.key(0), (None, 4))
    fitted = fit(apply_fn, params, X, X[:, :1], loss="mse", optimizer=SGD, epochs=4, batch_size=4, ema=0.9)
    assert fitted.params["kernel"].dtype == params["kernel"].dtype
    assert np.square(np.float64(fitted.params["kernel"])).sum() == pytest.approx(1, abs=0.02)  # bfloat16


@pytest.mark.few(1)
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_with_all_options_resumes_bit_for_bit(tmp_path, step):
    layer = Sequential([Conv1D(3, 2), BatchNormalization(), Dropout(0.4), Dense(1)])
    x, y, weight = masked()
    y = y[:, 1:]
    params, apply_fn = layer.init(jax.random.key(0), (None, 6, 2))
    options = {
        "loss": "mse", "weighted_metrics": "mae", "epochs": 2, "batch_size": 2, "accumulate": 2, "clip_norm": 0.3,
        "ema": 0.7, "best_weights": "val_loss", "validation_split": 0.2, "sample_weight": weight[:, 1:],
    }  # fmt: skip
    whole = fit(apply_fn, params, x, y, **options)
    seen = []

    def interrupt(event):
        seen.append(event)
        return len([e for e in seen if hasattr(e, "step")]) == step and hasattr(event, "step")

    fit(apply_fn, params, x, y, **options, checkpoint=tmp_path, checkpoint_every=9, callbacks=[interrupt])
    again = fit(apply_fn, params, x, y, **options, checkpoint=tmp_path, resume=True)
    assert again.history == whole.history and again.best_epoch == whole.best_epoch
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": "balanced"}, "class_weight is 'balanced'.*dict"),
        ({"callbacks": print}, r"fit: callbacks is a builtin.*callbacks=\[...\]"),
        ({"best_weights": "val_loss"}, "'val_loss'.*validation_split"),
        ({"sample_weight": WEIGHT[:3]}, "x has 10 .*sample_weight has 3"),
        ({"sample_weight": np.ones((10, 3))}, r"sample_weight has shape \(10, 3\).*\(10,\)"),
        ({"class_weight": {7: 1.0}}, "class 7.*0, 1, 2"),
        ({"class_weight": {0: -1.0}}, "of 0 is -1.0"),
        ({"class_weight": {0: 1.0}, "sample_weight": WEIGHT}, "sample_weight and class_weight"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
    ],
)
def test_invalid_weights_and_options_are_refused(options, message):
    apply_fn, params, _ = pair()
    with pytest.raises((ValueError, TypeError), match=message):
        fit(apply_fn, params, X, LABELS, loss="sparse_categorical_crossentropy", **options)
