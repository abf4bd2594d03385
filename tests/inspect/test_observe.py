"""Observe: values of the layers inside, by path, and gradients with respect to them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import Effects, Layer, Window
from jaxconv.inspect import observe

X = jax.random.normal(jax.random.key(1), (2, 8, 3))


def nested():
    """Return a model with a Sequential, a Residual and a wrapper inside."""
    encoder = jc.Sequential([jc.Conv1D(4, 3), jc.ReLU()], name="encoder")
    inside = [encoder, jc.Residual([jc.Conv1D(4, 3, padding="same")]), jc.TimeDistributed(jc.Dense(2)), jc.Flatten()]
    return jc.Sequential([*inside, jc.Dense(2)])


def shared():
    """Return a model that calls one encoder twice."""
    x = jc.Input((8, 3))
    encoder = jc.Sequential([jc.Conv1D(3, 3, padding="same", activation="tanh")], name="encoder")
    return jc.Model(x, jc.Flatten()(encoder(encoder(x))))


def assert_same(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_paths_are_those_of_the_containers_and_the_layer(key):
    model = nested()
    params, apply_fn = model.init(key, X.shape)
    values = observe(model, params, X)
    assert set(values) == {row.name for row in model.summary(X.shape, print_fn=None)} - {""} | {
        "time_distributed/layer"
    }
    assert list(values)[:3] == ["encoder/conv1d", "encoder/re_lu", "encoder"]
    assert_same(values["encoder/conv1d"], jc.Conv1D(4, 3).apply_fn(params["encoder"]["conv1d"], X))
    assert_same(values["encoder"], jax.nn.relu(values["encoder/conv1d"]))
    assert values["time_distributed/layer"].shape == (2 * 6, 2)
    np.testing.assert_array_equal(observe(apply_fn, params, X, [""])[""], apply_fn(params, X))


def test_a_layer_without_layers_inside_is_observed_as_a_whole(key):
    params, apply_fn = jc.Dense(2).init(key, X)
    assert list(observe(apply_fn, params, X)) == [""]


def test_calls_of_a_shared_layer_are_counted(key):
    params, apply_fn = shared().init(key)
    values = observe(apply_fn, params, X)
    assert list(values) == ["encoder/conv1d", "encoder", "encoder#2/conv1d", "encoder#2", "flatten"]
    conv = jc.Conv1D(3, 3, padding="same", activation="tanh").apply_fn
    assert_same(values["encoder#2"], conv(params["encoder"]["conv1d"], values["encoder"]))


def test_a_layer_that_occurs_twice_in_a_sequential_is_called_twice(key):
    dense = jc.Dense(3)
    params, apply_fn = jc.Sequential([dense, jc.ReLU(), dense]).init(key, X)
    values = observe(apply_fn, params, X)
    assert list(values) == ["dense", "re_lu", "dense#2"]
    assert_same(values["dense#2"], dense.apply_fn(params["dense"], values["re_lu"]))


@pytest.mark.few(1)
@pytest.mark.parametrize("make", [pytest.param(nested, marks=pytest.mark.slow), shared])
def test_gradients_are_those_of_the_rest_of_the_model(make, key):
    # by finite differences: the output's change if a tap adds a small direction to one value
    from jaxconv.contract.tap import tap

    with jax.enable_x64(True):
        model = jc.Sequential([make()], dtype="float64")
        x = X.astype(jnp.float64)
        params, apply_fn = model.init(key, x.shape)

        def score(y):
            return jnp.sum(jnp.sin(y))

        def changed(name, change):
            with tap(lambda path, y, _: y + change if path == name else y):
                return score(apply_fn(params, x))

        for name, (value, gradient) in observe(model, params, x, gradient_of=score).items():
            change = 1e-6 * jax.random.normal(key, value.shape, value.dtype)
            want = (changed(name, change) - changed(name, -change)) / 2
            np.testing.assert_allclose(jnp.sum(gradient * change), want, rtol=1e-6, atol=1e-14)


def test_it_is_pure_under_jit_grad_and_vmap_and_leaves_the_caches_alone(key):
    model = shared()
    params, apply_fn = model.init(key)
    traces = []

    @jax.jit
    def compiled(params, x):
        traces.append(1)
        return apply_fn(params, x)

    before = compiled(params, X)

    def inside(x):
        return observe(model, params, x, ["encoder/conv1d"], lambda y: jnp.sum(y**2))["encoder/conv1d"]

    plain = inside(X)
    for got, want in zip(jax.jit(inside)(X), plain, strict=True):
        assert_same(got, want)
    per_example = jax.vmap(lambda x: inside(x[None]))(X)
    assert_same(per_example.gradient[:, 0], plain.gradient)
    # the gradient of a gradient's norm: through the perturbation twice
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(inside(x).gradient ** 2))(X)))
    with jax.checking_leaks():
        jax.jit(inside)(X)
    np.testing.assert_array_equal(compiled(params, X), before)
    assert len(traces) == 1


def test_a_compiled_layer_inside_is_left_alone(key):
    @dataclasses.dataclass(frozen=True)
    class Compiled(Layer):
        composite = True

        @property
        def children(self):
            return {"inside": jc.ReLU()}

        def windows(self, input_shape):
            return (Window(),) * (len(input_shape) - 1)

        def call(self, params, x, *, train, key, mask):
            return compiled(x), Effects()

    compiled = jax.jit(lambda x: jc.ReLU().apply_fn({}, x))
    model, params = jc.Sequential([Compiled(), jc.Flatten()]), {"compiled": {"inside": {}}}
    for _ in range(2):  # neither the first trace nor the cached one
        assert list(observe(model, params, X)) == ["compiled", "flatten"]
        got = observe(model, params, X, gradient_of=jnp.sum)["compiled"]
        np.testing.assert_array_equal(got.value, jax.nn.relu(X))
    np.testing.assert_array_equal(compiled(X), jax.nn.relu(X))


@pytest.mark.slow
def test_masks_keys_several_outputs_and_integers(key):
    model = jc.Sequential([jc.Embedding(5, 4), jc.Dropout(0.5), jc.SimpleRNN(3, return_state=True)])
    ids = jnp.array([[1, 2, 0], [3, 0, 0]])
    params, apply_fn = model.init(key, ids.shape)
    options = {"train": True, "key": key, "mask": ids != 0}
    values = observe(apply_fn, params, ids, gradient_of=lambda y: jnp.sum(y[0] ** 2), **options)
    y, _ = apply_fn.forward(params, ids, **options)
    jax.tree.map(np.testing.assert_array_equal, values["simple_rnn"].value, y)
    assert_same(values["simple_rnn"].gradient[0], 2 * y[0])
    assert not np.any(values["simple_rnn"].gradient[1])
    assert not np.any(values["embedding"].gradient[1, 1:])  # masked steps


def test_what_cannot_be_observed_is_an_error(key):
    params, apply_fn = nested().init(key, X.shape)
    with pytest.raises(ValueError, match=r"'encoder/conv'.*'encoder/conv1d'"):
        observe(apply_fn, params, X, ["encoder/conv"])
    with pytest.raises(ValueError, match=r"'encodr'.*'encoder'"):
        observe(apply_fn, params, X, ["encodr"], jnp.sum)
    with pytest.raises(ValueError, match=r"gradient_of.*\(2, 2\)"):
        observe(apply_fn, params, X, gradient_of=lambda y: y)
    with pytest.raises(TypeError, match=r"names='encoder'"):
        observe(apply_fn, params, X, "encoder")
    with pytest.raises(TypeError, match="layer"):
        observe(params, apply_fn, X)
