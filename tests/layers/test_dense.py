"""Dense and Activation."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

PARAMS = {"kernel": jnp.array([[1.0, 0.0], [2.0, -1.0]]), "bias": jnp.array([0.5, 0.0])}


def test_values():
    np.testing.assert_array_equal(jc.Dense(2).apply_fn(PARAMS, jnp.array([[1.0, 1.0]])), [[3.5, -1]])
    np.testing.assert_array_equal(jc.Dense(2, "relu").apply_fn(PARAMS, jnp.array([[1.0, 1.0]])), [[3.5, 0]])
    bare = {"kernel": PARAMS["kernel"]}
    np.testing.assert_array_equal(jc.Dense(2, use_bias=False).apply_fn(bare, jnp.array([[1.0, 1.0]])), [[3, -1]])


def test_only_the_last_axis_is_multiplied():
    x = jnp.arange(12.0).reshape(1, 3, 2, 2)
    y = jc.Dense(2).apply_fn(PARAMS, x)
    np.testing.assert_array_equal(y, np.asarray(x) @ np.asarray(PARAMS["kernel"]) + np.asarray(PARAMS["bias"]))


@pytest.mark.parametrize("units, kind", [(0, ValueError), (2.0, ValueError), (None, ValueError), ("2", TypeError)])
def test_units_that_are_not_valid(units, kind):
    with pytest.raises(kind, match="Dense: units"):
        jc.Dense(units)


@pytest.mark.parametrize(
    "shape, message",
    [((3,), "has no channels"), ((None, 0), "has no channels"), ((None, None), "is None; .* give a number")],
)
def test_inputs_that_do_not_fit(key, shape, message):
    with pytest.raises(ValueError, match=f"Dense: .*{message}"):
        jc.Dense(2).init(key, shape)


def test_another_channel_count_is_refused():
    with pytest.raises(ValueError, match=r"Dense: input of shape \(2, 5\) needs a kernel of shape \(5, 2\)"):
        jc.Dense(2).apply_fn(PARAMS, jnp.ones((2, 5)))


def test_activation_layer(key):
    np.testing.assert_array_equal(jc.Activation("relu").apply_fn({}, jnp.array([-1.0, 2.0])[None]), [[0, 2]])
    assert jc.Activation(None).apply_fn({}, jnp.ones((1, 2))).sum() == 2
    with pytest.raises(ValueError, match="Activation: activation 'glu' halves the channels, and 3 is odd"):
        jc.Activation("glu").init(key, (None, 3))
    with pytest.raises(TypeError, match="activation"):
        jc.Activation()
