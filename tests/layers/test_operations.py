"""Operators of symbolic tensors, slices and plain functions in graphs, against Keras on the same graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(0.5, 2, (2, 10, 3)).astype("float32")
C = np.array([1.0, -2.0, 4.0], "float32")
EXPRESSIONS = {
    "number": lambda x: 3 - 2 * x + 1.5,
    "numbers on the right": lambda x: (x - 0.5) * 3 / 4 + 1,
    "arrays": lambda x: (x * C - C) / C + x,
    "negative": lambda x: -x,
    "quotient": lambda x: 2 / x + x / (x + 1) - 1 / (x * x),
    "broadcasting": lambda x: x * x[:, :1] - x[..., :1] / x,
    "slices": lambda x: x[:, 1:-2, ::-1] + x[:, :7] - x[:, -7:],
    "strides": lambda x: x[:, 1::3, 0],
    "index": lambda x: x[:, -1],
    "new axis": lambda x: x[:, None, ..., 2],
    "short": lambda x: x * x[..., 1, None],
}


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_an_expression_is_keras_one_in_values_and_in_files(kind, tmp_path):
    pytest.importorskip("h5py")
    expression = EXPRESSIONS[kind]
    x, z = jc.Input((10, 3)), keras.Input((10, 3))
    ours, theirs = jc.Model(x, expression(x)), keras.Model(z, expression(z))
    params, apply_fn = ours.init(KEY)
    with keras_rules():
        want = np.asarray(theirs(X))
    assert ours.output_shape((None, 10, 3)) == theirs.output_shape
    np.testing.assert_allclose(apply_fn(params, X), want, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(want, expression(X), rtol=2e-6, atol=1e-6)
    assert jc.Model.from_config(ours.get_config()) == ours
    jc.save_model(tmp_path / "ours.keras", ours, params)
    again, loaded = jc.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(loaded(again, X), apply_fn(params, X))
    with keras_rules():
        opened = keras.saving.load_model(tmp_path / "ours.keras", safe_mode=True)
        np.testing.assert_allclose(np.asarray(opened(X)), want, rtol=2e-6, atol=1e-6)
        theirs.save(tmp_path / "theirs.keras")
    again, loaded = jc.load_model(tmp_path / "theirs.keras")
    np.testing.assert_allclose(loaded(again, X), want, rtol=2e-6, atol=1e-6)


@pytest.mark.slow
def test_operators_stream_and_keep_masks():
    x = jc.Input((None, 3))
    model = jc.Model(x, 2 / (jc.Conv1D(3, 2, padding="causal")(x) + x * x / (x + 1) + 9)[:, 2:])
    params, apply_fn = model.init(KEY)
    np.testing.assert_allclose(jc.stream(model).run(params, X), apply_fn(params, X), atol=1e-6)
    mask = jnp.array([[True] * 10, [True] * 6 + [False] * 4])
    y, effects = apply_fn.forward(params, X, mask=mask)
    np.testing.assert_allclose(y[1, :4], apply_fn(params, X[1:, :6])[0], atol=1e-6)
    assert effects.mask.tolist() == [[True] * 8, [True] * 4 + [False] * 4]
    total = lambda x: (apply_fn.forward(params, x, mask=mask)[0] * effects.mask[..., None].astype(jnp.float32)).sum()  # noqa: E731
    grads = jax.grad(total)(jnp.zeros_like(X))
    assert jnp.isfinite(grads).all()


def test_arrays_may_stand_on_the_left():
    x = jc.Input((10, 3))
    for expression in (lambda x: C + C * x, lambda x: C - x, lambda x: C / x, lambda x: np.float32(2) / x):
        model = jc.Model(x, expression(x))
        np.testing.assert_allclose(model.apply_fn({}, X), expression(X), rtol=1e-6)


@pytest.mark.parametrize(
    "expression, error, parts",
    [
        (lambda x: x + jc.Input((3,)), ValueError, ["(None, 10, 3)", "(None, 3)", "Add()([x, y])"]),
        (lambda x: x + "a", TypeError, ["unsupported operand"]),
        (lambda x: x / 0, ValueError, ["finite"]),
        (lambda x: x[0], ValueError, ["batch"]),
        (lambda x: x[:, 10], ValueError, ["index 10", "has 10"]),
        (lambda x: x[:, 3:3], ValueError, ["empty"]),
        (lambda x: x[:, "a"], TypeError, ["'a'", "integers"]),
        (lambda x: x[:, 0, 0, 0], ValueError, ["4 indices", "rank 3"]),
        (lambda x: [*x], TypeError, ["iterable"]),
        (lambda x: x * np.ones(4), ValueError, ["(4,)", "(None, 10, 3)"]),
    ],
)
def test_what_operators_do_not_take_is_said(expression, error, parts):
    with pytest.raises(error, match=facts(*parts)):
        expression(jc.Input((10, 3)))


def square(x):
    return x * x


def test_a_function_is_a_layer(tmp_path):
    x = jc.Input((None, 3))
    first = jc.Function(square, pointwise=True, name="square")(x)
    model = jc.Model(x, jc.Function(lambda parts: parts[0] - parts[1][:, ::-1], name="both")([first, x]))
    params, apply_fn = model.init(KEY)
    assert params == {} and model.output_shape((None, 7, 3)) == (None, 7, 3)
    assert model.output_shape((None, None, 3)) == (None, None, 3)
    np.testing.assert_allclose(jax.jit(apply_fn)(params, X), X * X - X[:, ::-1], atol=1e-6)
    for call in (model.get_config, lambda: jc.save_model(tmp_path / "m.keras", model, params)):
        with pytest.raises(ValueError, match=facts("code", "register")):
            call()


def test_a_pointwise_function_streams_and_keeps_masks_and_another_ends_them():
    model = jc.Sequential([jc.Function(square, pointwise=True), jc.Conv1D(2, 3, padding="causal")])
    params, apply_fn = model.init(KEY, (None, 10, 3))
    np.testing.assert_allclose(jc.stream(model, (None, None, 3)).run(params, X), apply_fn(params, X), atol=1e-6)
    mask = jnp.array([[True] * 10, [True] * 6 + [False] * 4])
    assert apply_fn.forward(params, X, mask=mask)[1].mask.tolist() == mask.tolist()
    mixing = jc.Function(lambda x: jnp.cumsum(x, 1))
    with pytest.warns(UserWarning, match="Function"):
        assert mixing.apply_fn.forward({}, X, mask=mask)[1].mask is None
    with pytest.raises(ValueError, match="Function"):
        jc.stream(jc.Sequential([mixing]), (None, None, 3))


@pytest.mark.parametrize(
    "layer, parts",
    [
        (lambda: jc.Function(3), ["3", "not a function"]),
        (lambda: jc.Function(lambda x: x.sum()).init(KEY, (None, 3)), ["batch"]),
        (lambda: jc.Function(lambda x: x[:1]).init(KEY, (None, 3)), ["batch"]),
        (lambda: jc.Function(lambda x: x[:, 1:], pointwise=True).init(KEY, (None, 3)), ["pointwise", "(None, 2)"]),
    ],
)
def test_a_wrong_function_is_named(layer, parts):
    with pytest.raises((ValueError, TypeError), match=facts("Function", *parts)):
        layer()
