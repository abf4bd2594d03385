"""Models with several inputs, which are given as a dict; models with several outputs, which are rejected."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.training import evaluate, find_learning_rate, fit, predict

X = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)


def two_inputs(nested):
    a, b = jc.Input((4,), name="a"), jc.Input((4,), name="b")
    layer = jc.Model([a, b], jc.Dense(2)(a) + jc.Dense(2)(b))
    return (jc.Sequential([layer, jc.Dense(2)]) if nested else layer).init(jax.random.key(0))


@pytest.mark.parametrize("nested", [False, True])
def test_several_inputs_are_a_dict_by_their_names(nested):
    params, apply_fn = two_inputs(nested)
    x = {"b": X[1], "a": X[0]}
    expected = np.asarray(apply_fn(params, [X[0], X[1]]))
    np.testing.assert_allclose(predict(apply_fn, params, x, batch_size=4), expected, rtol=1e-5, atol=1e-6)
    batches = [{name: array[rows] for name, array in x.items()} for rows in (slice(4), slice(4, None))]
    np.testing.assert_allclose(predict(apply_fn, params, batches), expected, rtol=1e-5, atol=1e-6)
    scores = evaluate(apply_fn, params, x, Y, loss="mse")
    assert scores["loss"] == pytest.approx(np.mean((expected - Y) ** 2), rel=1e-5)
    fitted = fit(apply_fn, params, x, Y, loss="mse", validation_data=(x, Y))
    assert evaluate(apply_fn, fitted.params, [(x, Y)], loss="mse")["loss"] < scores["loss"]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("x", [[X[0], X[1]], (X[0], X[1]), X[0]])
def test_other_forms_of_several_inputs_name_the_dict(nested, x):
    params, apply_fn = two_inputs(nested)
    message = rf'{type(x).__name__}, and the model has 2 inputs.*\{{"a": \.\.\., "b": \.\.\.\}}'
    for call in (fit, evaluate, find_learning_rate):
        with pytest.raises(TypeError, match=message):
            call(apply_fn, params, x, Y, loss="mse")
        with pytest.raises(TypeError, match="x of a batch is a " + message):
            call(apply_fn, params, [(x, Y)] * 9, loss="mse")
    with pytest.raises(TypeError, match=message):
        predict(apply_fn, params, x)


@pytest.mark.parametrize("y", [Y, [Y, Y], {"first": Y, "second": Y}])
def test_several_outputs_are_rejected_before_the_targets_are_read(y):
    a = jc.Input((4,))
    params, apply_fn = jc.Model(a, [jc.Dense(2)(a), jc.Dense(2)(a)]).init(jax.random.key(0))
    for call in (fit, evaluate):
        with pytest.raises(ValueError, match=r"several outputs \(2\).*one output"):
            call(apply_fn, params, X[0], y, loss="mse")
