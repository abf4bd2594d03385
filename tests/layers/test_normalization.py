"""BatchNormalization: batch statistics in training and running statistics at inference, computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

X = jnp.array([[0.0, 10.0], [2.0, 30.0]])


def made(key, shape=(2, 2), **options):
    layer = jc.BatchNormalization(**options)
    return *layer.init(key, shape), layer


def test_first_values(key):
    params, apply_fn, _ = made(key, (None, 5, 3))
    assert {k: (v.shape, float(v[0])) for k, v in params.items()} == {
        "gamma": ((3,), 1.0),
        "beta": ((3,), 0.0),
        "moving_mean": ((3,), 0.0),
        "moving_variance": ((3,), 1.0),
    }
    trainable, fixed = apply_fn.split(params)
    assert [k for k, v in trainable.items() if v is not None] == ["gamma", "beta"]
    assert [k for k, v in fixed.items() if v is not None] == ["moving_mean", "moving_variance"]


def test_training_normalizes_by_the_batch_and_moves_the_statistics(key):
    params, apply_fn, _ = made(key, momentum=0.9, epsilon=0.0)
    y, effects = apply_fn.forward(params, X, train=True)
    np.testing.assert_allclose(y, [[-1, -1], [1, 1]], rtol=1e-6)  # float32
    # 0.9 * old + 0.1 * batch; the batch's variances are 1 and 100 (biased)
    np.testing.assert_allclose(effects.fixed["moving_mean"], [0.1, 2.0], rtol=1e-6)
    np.testing.assert_allclose(effects.fixed["moving_variance"], [1.0, 10.9], rtol=1e-6)
    assert effects.fixed["gamma"] is None


def test_inference_uses_the_running_statistics_and_moves_nothing(key):
    params, apply_fn, _ = made(key, epsilon=0.0)
    params |= {"moving_mean": jnp.array([1.0, 10.0]), "moving_variance": jnp.array([4.0, 100.0])}
    params |= {"gamma": jnp.array([2.0, 1.0]), "beta": jnp.array([0.5, 0.0])}
    y, effects = apply_fn.forward(params, X)
    np.testing.assert_allclose(y, [[-0.5, 0], [1.5, 2]], rtol=1e-6)  # float32
    assert effects.fixed["moving_mean"] is params["moving_mean"]


def test_not_trainable_means_inference_in_training_too(key):
    params, apply_fn, _ = made(key, trainable=False)
    y, effects = apply_fn.forward(params, X, train=True)
    np.testing.assert_array_equal(y, apply_fn(params, X))
    assert effects.fixed == params


@pytest.mark.parametrize(
    "axis, shape, channels", [(-1, (2, 3, 4), 4), (1, (2, 3, 4), 3), (2, (2, 3, 4), 4), (-2, (2, 3, 4), 3)]
)
def test_every_axis_but_the_channels_is_averaged(key, axis, shape, channels):
    params, apply_fn, _ = made(key, shape, axis=axis, epsilon=0.0)
    assert params["gamma"].shape == (channels,)
    x = jax.random.normal(key, shape) * 3 + 5
    y, _ = apply_fn.forward(params, x, train=True)
    others = tuple(i for i in range(3) if i != axis % 3)
    np.testing.assert_allclose(y.mean(others), 0, atol=1e-5)  # float32, mean of terms of order 1
    np.testing.assert_allclose(y.std(others), 1, rtol=1e-4)


def test_a_large_mean_does_not_cancel_the_digits(key):
    params, apply_fn, _ = made(key, (4, 1), epsilon=0.0)
    x = 20000.0 + jnp.array([[-1.0], [1.0], [-1.0], [1.0]])
    np.testing.assert_array_equal(apply_fn.forward(params, x, train=True)[0], x - 20000.0)
    params |= {"moving_mean": jnp.array([20000.0])}
    np.testing.assert_array_equal(apply_fn(params, x), x - 20000.0)


def test_statistics_are_not_differentiated(key):
    params, apply_fn, _ = made(key)

    def moved(x):
        return apply_fn.forward(params, x, train=True)[1].fixed["moving_mean"].sum()

    np.testing.assert_array_equal(jax.grad(moved)(X), 0)


def by_definition(x, gamma, beta, there):
    count = there.sum(axis=(0, 1), keepdims=True)
    mean = (x * there).sum(axis=(0, 1), keepdims=True) / count
    variance = (jnp.square(x - mean) * there).sum(axis=(0, 1), keepdims=True) / count
    return (x - mean) / jnp.sqrt(variance + 1e-3) * gamma + beta


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_of_both_orders_and_modes_are_those_of_the_definition(key, x64, masked):
    params, apply_fn, _ = made(key, (4, 5, 3), dtype="float64")
    x, towards, weights = (jax.random.normal(k, (4, 5, 3), jnp.float64) for k in jax.random.split(key, 3))
    gamma, beta = jnp.array([0.5, 2.0, -1.0]), jnp.array([1.0, 0.0, 3.0])
    mask = jnp.arange(5)[None] < jnp.array([[5], [2], [3], [1]]) if masked else None
    there = jnp.ones((4, 5, 1)) if mask is None else mask[..., None].astype(float)

    def ours(x, gamma, beta):
        return apply_fn.forward(params | {"gamma": gamma, "beta": beta}, x, train=True, mask=mask)[0]

    def theirs(x, gamma, beta):
        return by_definition(x, gamma[None, None], beta[None, None], there)

    def derivatives(f):
        def slope(x, gamma, beta):
            return jnp.sum(weights * there * jnp.sin(f(x, gamma, beta)))

        arguments, tangents = (x, gamma, beta), (towards, beta, gamma)
        first = jax.grad(slope, (0, 1, 2))
        return (
            f(*arguments) * there,
            first(*arguments),
            jax.jvp(f, arguments, tangents)[1] * there,
            jax.jvp(first, arguments, tangents)[1],
        )

    for got, want in zip(jax.tree.leaves(derivatives(ours)), jax.tree.leaves(derivatives(theirs)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)  # float64 against float64


def test_training_keeps_one_array_of_the_input_s_size_for_each_normalization():
    layers = [layer for _ in range(4) for layer in (jc.BatchNormalization(), jc.Activation("tanh"))]
    params, apply_fn = jc.Sequential(layers).init(jax.random.key(0), (None, 64, 64, 16))

    def loss(params, x):
        return apply_fn.forward(params, x, train=True)[0].sum()

    x = jax.ShapeDtypeStruct((4, 64, 64, 16), jnp.float32)
    memory = jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 8.5 * x.size * 4  # for each: z and its tanh


def test_statistics_stay_float32_under_mixed_policies(key):
    params, apply_fn, _ = made(key, dtype="mixed_bfloat16")
    y, effects = apply_fn.forward(params, X, train=True)
    assert y.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves((params, effects.fixed))} == {jnp.dtype("float32")}


def test_keras_2_s_list_of_one_axis_is_read():
    assert jc.BatchNormalization([3]) == jc.BatchNormalization(3)


def test_keras_s_config_is_read_with_all_its_arguments():
    config = {"synchronized": False, "renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99, "axis": 1}
    assert jc.BatchNormalization.from_config(config) == jc.BatchNormalization(1)
    assert jc.BatchNormalization.from_config({**config, "renorm": True}).renorm


@pytest.mark.parametrize(
    "options, shape, message",
    [
        ({"axis": 1.5}, None, "axis=1.5 is not an integer"),
        ({"axis": [1, 2]}, None, r"axis=\[1, 2\] is not an integer"),
        ({"momentum": 1.5}, None, "momentum=1.5 is not valid; give a number from 0 to 1"),
        ({"momentum": "0.9"}, None, "momentum='0.9' is not valid"),
        ({"epsilon": -1e-3}, None, "epsilon=-0.001 is not valid"),
        ({"epsilon": None}, None, "epsilon=None is not valid"),
        ({"axis": 64}, (2, 10, 3), r"axis=64 .* input shape \(2, 10, 3\); expected 1 to 2, or -1"),
        ({"axis": 0}, (2, 10, 3), "axis=0 .* expected 1 to"),
        ({}, (3,), r"input of shape \(3,\) has no channels"),
        ({}, (None, 10, None), r"axis 2 of input shape \(None, 10, None\) is None; .* give a number"),
    ],
)
def test_invalid_options_raise(key, options, shape, message):
    with pytest.raises(ValueError, match=f"BatchNormalization: {message}"):
        jc.BatchNormalization(**options).init(key, shape)


def test_an_empty_batch_has_no_statistics_to_train_on(key):
    params, apply_fn, _ = made(key)
    assert apply_fn(params, X[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"input of shape \(0, 2\) is empty and has no statistics to train on"):
        apply_fn.forward(params, X[:0], train=True)


def test_another_channel_count_is_refused(key):
    params, apply_fn, _ = made(key)
    with pytest.raises(ValueError, match=r"needs a gamma of shape \(3,\); these params hold one of shape \(2,\)"):
        apply_fn(params, jnp.ones((2, 3)))
