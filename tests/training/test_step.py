"""The training step: losses computed by hand, constraints, statistics, Keras's results, least squares."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from jaxconv.contract import merge
from jaxconv.layers.conv import Conv1D
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.global_pooling import GlobalAveragePooling1D
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.models import Sequential
from jaxconv.training.losses import loss
from jaxconv.training.metrics import metrics
from jaxconv.training.optimizers import optimizer
from jaxconv.training.step import eval_step, init_state, train_step
from jaxconv.training.terms import metric_values

RNG = np.random.default_rng(5)
MSE = loss("mse")


def start(layer, shape, made, seed=0, chosen=(), of=MSE):
    params, apply_fn = layer.init(jax.random.key(seed), shape)
    return init_state(apply_fn, params, made), jax.jit(train_step(apply_fn, of, made, chosen)), apply_fn


def test_all_penalties_are_in_the_loss_with_hand_computed_numbers():
    layer = Dense(
        1,
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer={"class_name": "L2", "config": {"l2": 0.5}},
        bias_regularizer={"class_name": "L1", "config": {"l1": 0.25}},
        activity_regularizer={"class_name": "L1", "config": {"l1": 0.1}},
    )
    state, step, apply_fn = start(layer, (None, 2), optax.sgd(0.1))
    x, y = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([[4.0], [6.0]], np.float32)
    # predictions 4 and 8: squared errors 0 and 4, mean 2; kernel 0.5·2 = 1; bias 0.25; activity 0.1·12/2 = 0.6
    after, sums = step(state, x, y, None)
    assert float(sums["loss"] / sums["count"]) == pytest.approx(3.85, rel=1e-6)
    # d/dk = mean(2·e·x) + 2·0.5·k + 0.1·mean(x) = [6+1+0.2, 8+1+0.3]; d/db = 2 + 0.25 + 0.1
    np.testing.assert_allclose(after.trainable["kernel"][:, 0], 1 - 0.1 * np.array([7.2, 9.3]), rtol=1e-5)
    np.testing.assert_allclose(after.trainable["bias"], 1 - 0.1 * 2.35, rtol=1e-5)
    evaluated = jax.jit(eval_step(apply_fn, MSE))(state.params, x, y)
    assert float(evaluated["loss"] / evaluated["count"]) == pytest.approx(3.85, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_constraints_hold_exactly_after_each_step(name):
    layer = Conv1D(
        7,
        3,
        kernel_constraint={"class_name": "MaxNorm", "config": {"max_value": 0.3, "axis": [0, 1]}},
        bias_constraint="non_neg",
    )
    made = optimizer({"name": name, "learning_rate": 0.3})
    state, step, _ = start(layer, (None, 12, 5), made)
    for _ in range(5):
        x, y = RNG.normal(size=(4, 12, 5)), 30 * RNG.normal(size=(4, 10, 7))
        state, _ = step(state, x, y, None)
        norms = np.sqrt(np.square(np.float64(state.params["kernel"])).sum((0, 1)))
        assert norms.max() <= 0.3 * (1 + 2**-22)  # the rounding of a division in float32
        assert np.asarray(state.params["bias"]).min() >= 0
    assert norms.max() > 0.299  # the constraint is active


def test_a_step_is_projected_gradient_descent_to_the_last_bit():
    layer = Conv1D(3, 2, kernel_constraint="unit_norm", kernel_regularizer="l2")
    state, step, apply_fn = start(layer, (None, 6, 2), optax.sgd(0.1))
    x, y = jnp.asarray(RNG.normal(size=(4, 6, 2)), jnp.float32), jnp.asarray(RNG.normal(size=(4, 5, 3)), jnp.float32)

    @jax.jit
    def by_hand(params):
        grads = jax.grad(lambda p: MSE(y, apply_fn(p, x)).mean() + apply_fn.penalty(p))(params)
        return apply_fn.project(jax.tree.map(lambda p, g: p + -0.1 * g, params, grads))

    for mine, expected in zip(
        jax.tree.leaves(step(state, x, y, None)[0].params), jax.tree.leaves(by_hand(state.params)), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)


def test_running_statistics_move_and_frozen_weights_do_not():
    layer = Sequential([Dense(3, trainable=False, kernel_constraint="unit_norm"), BatchNormalization(), Dense(1)])
    made = optimizer({"name": "adamw", "weight_decay": 0.5})
    state, step, apply_fn = start(layer, (None, 2), made)
    x = RNG.normal(size=(8, 2)).astype(np.float32)
    after, _ = step(state, x, np.zeros((8, 1)), None)
    frozen = state.params["dense"]["kernel"]
    np.testing.assert_array_equal(after.params["dense"]["kernel"], frozen)
    expected = 0.01 * (np.float64(x) @ np.float64(frozen)).mean(0)  # momentum 0.99, from 0
    np.testing.assert_allclose(after.params["batch_normalization"]["moving_mean"], expected, rtol=1e-5, atol=1e-8)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    evaluated = eval_step(apply_fn, MSE)(after.params, x, np.zeros((8, 1)))
    np.testing.assert_allclose(
        evaluated["loss"] / 8, np.square(apply_fn(after.params, x)).mean(), rtol=1e-6
    )  # at inference: by the running statistics


def test_dropout_follows_the_key():
    state, step, _ = start(Sequential([Dropout(0.5), Dense(1)]), (None, 9), optax.sgd(0.1))
    x, y = np.ones((4, 9), np.float32), np.zeros((4, 1), np.float32)
    one, two, other = (step(state, x, y, jax.random.key(seed))[1]["loss"] for seed in (1, 1, 2))
    assert one == two != other


def test_sums_over_uneven_batches_are_the_means_over_all_samples():
    layer, chosen = Dense(3, activation="softmax"), metrics(["accuracy", "sparse_categorical_crossentropy"])
    params, apply_fn = layer.init(jax.random.key(0), (None, 4))
    x, y = RNG.normal(size=(10, 4)).astype(np.float32), RNG.integers(0, 3, 10)
    step = eval_step(apply_fn, loss("sparse_categorical_crossentropy"), chosen)
    parts = [step(params, x[i : i + 4], y[i : i + 4]) for i in range(0, 10, 4)]
    found = metric_values(jax.tree.map(lambda *v: np.sum(np.float64(v)), *parts), chosen)
    probabilities = np.float64(apply_fn(params, x))
    expected = -np.log(probabilities[np.arange(10), y]).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-6) == found["sparse_categorical_crossentropy"]
    assert found["accuracy"] == pytest.approx((probabilities.argmax(1) == y).mean(), rel=1e-12)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", *(pytest.param(p, marks=pytest.mark.slow) for p in ("bfloat16", "float16"))]
)
def test_half_precision_models_have_a_float32_loss_and_keep_their_dtypes(policy):
    layer = Sequential(
        [Conv1D(4, 3, activation="relu"), BatchNormalization(), GlobalAveragePooling1D(), Dense(1)], dtype=policy
    )
    state, step, _ = start(layer, (None, 8, 2), optimizer("adam"), chosen=metrics("mae"))
    after, sums = step(state, RNG.normal(size=(4, 8, 2)), np.zeros((4, 1)), None)
    assert sums["loss"].dtype == sums["mae"].dtype == jnp.float32
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)


@pytest.mark.parametrize("policy", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_training_keeps_its_dtypes_where_64_bit_types_are_on(policy, x64):
    layer = Sequential([Conv1D(4, 3, kernel_regularizer="l2"), GlobalAveragePooling1D(), Dense(2)], dtype=policy)
    of = loss({"name": "sparse_categorical_crossentropy", "from_logits": True})
    state, step, _ = start(layer, (None, 8, 2), optimizer("adam"), chosen=metrics("accuracy"), of=of)
    after, sums = step(state, RNG.normal(size=(4, 8, 2)), np.array([0, 1, 0, 1]), None)
    assert sums["loss"].dtype == jnp.dtype(policy)
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(lambda a: a.dtype, state)


def test_a_custom_loss_may_be_in_half_precision():
    def squares(y_true, y_pred):
        return jnp.square(y_true.astype(y_pred.dtype) - y_pred)

    state, step, _ = start(Dense(1, dtype="bfloat16"), (None, 2), optax.sgd(0.1), of=squares)
    assert step(state, np.ones((4, 2), "f4"), np.ones((4, 1), "f4"), None)[1]["loss"].dtype == jnp.float32


def test_linear_regression_learns_the_least_squares_solution():
    x = RNG.normal(size=(64, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 + 0.1 * RNG.normal(size=(64, 1))).astype(np.float32)
    state, step, _ = start(Dense(1), (None, 3), optax.sgd(0.1))
    for _ in range(300):
        state, _ = step(state, x, y, None)
    best, *_ = np.linalg.lstsq(np.c_[x, np.ones(64)].astype(np.float64), y, rcond=None)
    found = np.r_[state.params["kernel"], state.params["bias"][None]]
    np.testing.assert_allclose(found, best, atol=1e-5)  # float32


def test_lbfgs_with_its_line_search_solves_least_squares_in_few_steps():
    x = RNG.normal(size=(64, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]])).astype(np.float32)
    state, step, _ = start(Dense(1, use_bias=False), (None, 3), optimizer("lbfgs"))
    for _ in range(8):
        state, _ = step(state, x, y, None)
    assert step._cache_size() == 1  # the state is traced once: it has no weak types
    np.testing.assert_allclose(state.params["kernel"][:, 0], [1, -2, 0.5], atol=1e-4)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(
            {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
            keras.optimizers.SGD(0.1, momentum=0.9),
            marks=pytest.mark.slow,
        ),
        ({"name": "adam", "learning_rate": 0.01, "epsilon": 1e-7}, keras.optimizers.Adam(0.01)),
    ],
)
def test_three_steps_equal_keras(ours, theirs):
    options = {"kernel_constraint": "max_norm", "kernel_regularizer": "l2", "activity_regularizer": "l1"}
    layer = Sequential(
        [Conv1D(4, 3, activation="relu", **options), BatchNormalization(), GlobalAveragePooling1D(), Dense(1)]
    )
    params, apply_fn = layer.init(jax.random.key(0), (None, 8, 2))
    params = jax.tree.map(np.array, params)  # Keras donates its arrays
    params["conv1d"]["kernel"] *= 3  # so that the constraint is active
    made, chosen = optimizer(ours), metrics("mae")
    state, step = init_state(apply_fn, params, made), jax.jit(train_step(apply_fn, MSE, made, chosen))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 8, 2)).astype(np.float32), rng.normal(size=(6, 1)).astype(np.float32)
    L = keras.layers
    model = keras.Sequential(
        [L.Conv1D(4, 3, activation="relu", **options), L.BatchNormalization(), L.GlobalAveragePooling1D(), L.Dense(1)]
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model.build((None, 8, 2))
        for index, name in ((0, "conv1d"), (3, "dense")):
            model.layers[index].set_weights([params[name]["kernel"], params[name]["bias"]])
        model.compile(theirs, loss="mse", metrics=["mae"])
        reports = []
        for _ in range(3):
            model.reset_metrics()
            reports.append(model.train_on_batch(x, y, return_dict=True))
    for report in reports:
        state, sums = step(state, x, y, None)
        assert metric_values(sums, chosen) == pytest.approx(report, rel=1e-5)
    names = [
        ("conv1d", ("kernel", "bias")),
        ("batch_normalization", ("gamma", "beta", "moving_mean", "moving_variance")),
    ]
    for index, (name, leaves) in zip((0, 1, 3), [*names, ("dense", ("kernel", "bias"))], strict=True):
        for leaf, variable in zip(leaves, model.layers[index].weights, strict=True):
            # float32; the bias before the batch norm has a gradient near 0, which Adam blows up to a step of 0.01
            atol = 1e-3 if (ours["name"], name, leaf) == ("adam", "conv1d", "bias") else 5e-5
            np.testing.assert_allclose(state.params[name][leaf], variable.value, rtol=2e-4, atol=atol)


def test_the_step_is_pure():
    state, step, _ = start(Dense(1), (None, 2), optax.adam(0.1))
    x, y = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)
    first, second = step(state, x, y, None), step(state, x, y, None)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_targets_of_another_shape_are_refused():
    state, step, _ = start(Dense(1), (None, 2), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 1\)"):
        step(state, np.ones((3, 2)), np.zeros((3, 5)), None)


def test_params_of_a_state_are_the_params_given():
    layer = Sequential([Dense(2), BatchNormalization()])
    params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    state = init_state(apply_fn, params, optax.sgd(0.1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state.params, params))
    assert merge(state.trainable, state.fixed).keys() == params.keys()
