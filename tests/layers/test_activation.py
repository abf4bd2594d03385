"""Activation layers: numbers computed by hand, Keras's results, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers

# Keras warns where an axis has size 1
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning")
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "layer, want",
    [
        (jc.Identity(), [-4, -1, 0, 1, 9]),
        (jc.ReLU(), [0, 0, 0, 1, 9]),
        (jc.ReLU(6), [0, 0, 0, 1, 6]),
        (jc.ReLU(negative_slope=0.5), [-2, -0.5, 0, 1, 9]),
        (jc.ReLU(6, 0.5, 2), [-3, -1.5, -1, -0.5, 6]),
        (jc.LeakyReLU(), [-1.2, -0.3, 0, 1, 9]),
        (jc.ELU(2), [2 * np.expm1(-4), 2 * np.expm1(-1), 0, 1, 9]),
        (jc.PReLU("ones"), [-4, -1, 0, 1, 9]),
    ],
)
def test_values_by_hand(layer, want):
    x = jnp.array([[-4.0, -1, 0, 1, 9]])
    params, apply_fn = layer.init(KEY, x)
    np.testing.assert_allclose(apply_fn(params, x)[0], want, rtol=1e-6)  # one rounding


def test_prelu_shares_alpha_along_axes_counted_from_either_end():
    for axes in ([1, 2], (-3, -2)):
        params, _ = jc.PReLU(shared_axes=axes).init(KEY, (None, 5, 6, 3))
        assert params["alpha"].shape == (1, 1, 3)
    assert jc.PReLU(shared_axes=1).init(KEY, (None, None, 3))[0]["alpha"].shape == (1, 3)
    assert jc.PReLU(shared_axes=[]) == jc.PReLU()


def test_softmax_over_several_axes_sums_to_one_over_all_of_them():
    y = jc.Softmax([1, 2]).apply_fn({}, jnp.arange(12.0).reshape(2, 3, 2))
    np.testing.assert_allclose(y.sum((1, 2)), 1, rtol=1e-6)


def test_the_name_that_keras_2_gave_the_slope_is_read_from_a_config():
    assert layers.get({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}) == jc.LeakyReLU(0.1)


def test_an_activity_penalty_is_divided_by_the_batch_and_the_input_passes():
    layer, x = jc.ActivityRegularization(0.1, 0.5), jnp.array([[1.0, -3.0], [2.0, 0.0]])
    y, effects = layer.apply_fn.forward({}, x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(effects.penalty, (0.1 * 6 + 0.5 * 14) / 2, rtol=1e-6)  # rounding
    assert "activity_regularizer" not in layer.get_config()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.ReLU(-1), ValueError, "ReLU: max_value=-1 is not valid; give a number of at least 0"),
        (lambda: jc.ReLU(negative_slope=None), ValueError, "negative_slope=None is not valid"),
        (lambda: jc.ReLU(threshold=-0.5), ValueError, "threshold=-0.5 is not valid"),
        (lambda: jc.LeakyReLU(-0.1), ValueError, "LeakyReLU: negative_slope=-0.1 is not valid"),
        (lambda: jc.ELU("big"), ValueError, "ELU: alpha='big' is not valid; give a number"),
        (lambda: jc.ActivityRegularization(-1), ValueError, "ActivityRegularization: l1=-1 is not valid"),
        (lambda: jc.Softmax(1.0), TypeError, "Softmax: axis=1.0 is not"),
        (lambda: jc.PReLU(shared_axes="time"), TypeError, "PReLU: shared_axes='time' is not"),
    ],
)
def test_invalid_options_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (
            jc.Softmax(3),
            (2, 4),
            r"Softmax: axis=3 does not name distinct axes of input shape \(2, 4\); expected 0 to 1",
        ),
        (jc.PReLU(shared_axes=[0]), (2, 4), r"PReLU: shared_axes=\(0,\) does not name distinct axes"),
        (jc.PReLU(), (2, None, 4), "PReLU: axis 1 of input shape .* is None"),
        (jc.PReLU(), (2,), r"input of shape \(2,\)"),
        (jc.ActivityRegularization(), (), "has no batch axis"),
    ],
)
def test_invalid_inputs_raise_at_init(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shape)
