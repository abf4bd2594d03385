"""Parallel and Residual compared with networks written by hand; their names, configs and errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers
from tests.support.catalogue import inputs, randomised

KEY = jax.random.key(0)


def assert_close(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # sums in another order


def test_residual_adds_the_input_and_so_do_its_gradients():
    body = [jc.Conv1D(3, 3, padding="same", activation="tanh"), jc.Dense(3)]
    params, apply_fn = jc.Residual(body).init(KEY, (None, 5, 3))
    assert set(params) == {"body"} and set(params["body"]) == {"conv1d", "dense"}
    params, x = randomised(params), inputs((2, 5, 3))
    by_hand = jc.Sequential(body).apply_fn

    def ours(params, x):
        return jnp.sum(jnp.square(apply_fn(params, x)))

    def want(params, x):
        return jnp.sum(jnp.square(x + by_hand(params["body"], x)))

    assert_close(jax.value_and_grad(ours, (0, 1))(params, x), jax.value_and_grad(want, (0, 1))(params, x))


def test_an_empty_residual_doubles_its_input():
    np.testing.assert_array_equal(jc.Residual([]).apply_fn({}, jnp.ones((1, 2))), [[2.0, 2.0]])


@pytest.mark.slow
def test_residual_tcn_block_sees_no_future():
    def block(filters, rate):
        convs = [jc.Conv1D(filters, 3, padding="causal", dilation_rate=rate, activation="relu") for _ in range(2)]
        return jc.Residual([convs[0], jc.Dropout(0.1), convs[1], jc.Dropout(0.1)], shortcut=jc.Conv1D(filters, 1))

    net = jc.Sequential([block(4, 1), block(4, 2)])
    params, apply_fn = net.init(KEY, (None, 12, 2))
    assert set(params["residual_1"]) == {"body", "shortcut"}
    jacobian = jax.jacobian(lambda x: apply_fn(randomised(params), x)[0, 5].sum())(jnp.ones((1, 12, 2)))
    assert jnp.all(jacobian[0, 6:] == 0) and jnp.any(jacobian[0, 5] != 0)


def test_one_layer_twice_in_a_residual_is_shared_and_equal_ones_are_not():
    conv = jc.Conv1D(3, 1)
    shared = jc.Residual([conv, conv])
    assert set(shared.init(KEY, (None, 4, 3))[0]["body"]) == {"conv1d"}
    assert jc.Residual.from_config(shared.get_config()) == shared
    assert set(jc.Residual([conv, jc.Conv1D(3, 1)]).init(KEY, (None, 4, 3))[0]["body"]) == {"conv1d", "conv1d_1"}


def test_parallel_is_its_branches_side_by_side():
    branches = [jc.Conv1D(2, 1), [jc.MaxPooling1D(3, 1, "same"), jc.Conv1D(3, 1)], jc.Conv1D(1, 3, padding="same")]
    layer = jc.Parallel(branches)
    params, apply_fn = layer.init(KEY, (None, 6, 4))
    assert layer.names == ("conv1d", "sequential", "conv1d_1", "concatenate")
    x = inputs((2, 6, 4))
    want = [layer.children[name].apply_fn(params[name], x) for name in layer.names[:3]]
    np.testing.assert_array_equal(apply_fn(params, x), jnp.concatenate(want, -1))


@pytest.mark.parametrize("merge, want", [("add", 5.0), ("subtract", -1.0), ("multiply", 6.0), (jc.Average(), 2.5)])
def test_parallel_merges_as_it_is_told(merge, want):
    scale = [jc.Dense(1, kernel_initializer=jc.initializers.Constant(value)) for value in (2.0, 3.0)]
    params, apply_fn = jc.Parallel(scale, merge).init(KEY, (None, 1))
    np.testing.assert_allclose(apply_fn(params, jnp.ones((1, 1))), want)


def test_branches_of_several_inputs_and_outputs_fit_in():
    a, b = jc.Input((3,), name="a"), jc.Input((3,), name="b")
    both = jc.Model([a, b], [jc.Add()([a, b]), jc.Multiply()([a, b])])
    layer = jc.Parallel([both, jc.Subtract()])
    y = layer.apply_fn({}, [jnp.full((1, 3), 2.0), jnp.ones((1, 3))])
    np.testing.assert_array_equal(y, [[3, 3, 3, 2, 2, 2, 1, 1, 1]])


def test_both_update_statistics_and_use_keys():
    layer = jc.Residual([jc.BatchNormalization(), jc.Dropout(0.5)], jc.Parallel([jc.Dropout(0.5)]))
    params, apply_fn = layer.init(KEY, (None, 8))
    x = inputs((4, 8))
    with pytest.raises(ValueError, match="got no key"):
        apply_fn.forward(params, x, train=True)
    _, effects = apply_fn.forward(params, x, train=True, key=KEY)
    statistics = effects.fixed["body"]["batch_normalization"]["moving_mean"]
    np.testing.assert_allclose(statistics, 0.01 * jnp.mean(x, 0), rtol=1e-5, atol=1e-7)


def test_trainable_dtype_and_names_hold_inside():
    layer = jc.Residual([jc.Dense(3)], trainable=False, dtype="mixed_bfloat16", name="block")
    params, apply_fn = layer.init(KEY, (None, 3))
    assert jax.tree.leaves(apply_fn.split(params)[0]) == []
    assert apply_fn(params, jnp.ones((1, 3))).dtype == jnp.bfloat16
    assert jc.Sequential([layer, jc.Parallel([jc.Flatten()])]).names == ("block", "parallel")


@pytest.mark.parametrize(
    "layer",
    [
        jc.Residual([jc.Dense(3)]),
        jc.Residual([jc.Dense(3), jc.ReLU()], jc.Dense(3), name="r"),
        jc.Parallel([jc.Dense(3), [jc.Flatten(), jc.Dense(2)]], jc.Concatenate(1)),
    ],
)
def test_configs_come_back_equal(layer):
    text = json.dumps(layers.serialize(layer))
    again = layers.get(json.loads(text))
    assert again == layer and hash(again) == hash(layer) and json.loads(text)["class_name"] == type(layer).__name__


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.Residual(jc.Dense(3)), TypeError, "Residual: layers=.* is not a list"),
        (lambda: jc.Residual([3]), TypeError, "3 is not a layer"),
        (lambda: jc.Residual([jc.Dense]), TypeError, "is not a layer; call it"),
        (lambda: jc.Residual([], shortcut="dense"), TypeError, "Residual: 'dense' is not a layer"),
        (lambda: jc.Parallel(jc.Dense(3)), TypeError, "Parallel: branches=.* is not a list"),
        (lambda: jc.Parallel([]), ValueError, "got no branches"),
        (lambda: jc.Parallel([3]), TypeError, "Parallel: 3 is not a layer"),
        (
            lambda: jc.Parallel([jc.Dense(3)], "concat"),
            ValueError,
            "unknown layer 'concat'; did you mean 'concatenate'",
        ),
        (lambda: jc.Parallel([jc.Dense(3)], "dense"), TypeError, "merge='dense' is not a merging layer"),
        (lambda: jc.Parallel([jc.Dense(3)], None), TypeError, "merge=None is not a merging layer"),
        (lambda: jc.Parallel([jc.Dense(3)], jc.Dense(3)), TypeError, "merge=.*Dense.* is not a merging layer"),
        (
            lambda: jc.Parallel([jc.Dense(3, name="a"), jc.Dense(3, name="a")]),
            ValueError,
            "Parallel: 2 layers have the name 'a'",
        ),
    ],
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_outputs_that_do_not_fit_name_both_shapes():
    with pytest.raises(
        ValueError, match=r"add, given shape .*: Add: input 0 of shape \(None, 5\) and input 1 .*\(None, 3\)"
    ):
        jc.Residual([jc.Dense(5)]).init(KEY, (None, 3))
    with pytest.raises(ValueError, match=r"Dense: input of shape \(2,\) has no channels"):
        jc.Parallel([jc.Dense(5)]).init(KEY, (2,))
