"""Rescaling and Normalization: values, the statistics of adapt, errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers
from tests.support.catalogue import inputs
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)


def apply(layer, x):
    params, apply_fn = layer.init(KEY, x)
    assert params == {}
    return apply_fn(params, x)


# -- rescaling


def test_rescaling_takes_integers_and_puts_single_numbers_on_the_channels_of_either_format():
    x = jnp.arange(24, dtype=jnp.uint8).reshape(2, 4, 3)
    last = apply(jc.Rescaling([1, 2, 3], [0, 0, 1]), x)
    first = apply(jc.Rescaling([1, 2, 3], [0, 0, 1], data_format="channels_first"), jnp.moveaxis(x, -1, 1))
    np.testing.assert_array_equal(last, np.arange(24).reshape(2, 4, 3) * [1, 2, 3] + [0, 0, 1])
    np.testing.assert_array_equal(jnp.moveaxis(first, 1, -1), last)


def test_rescaling_is_a_value():
    made = jc.Rescaling(np.float32([0.5, 2]))
    assert made == jc.Rescaling([0.5, 2.0]) and hash(made) == hash(jc.Rescaling((0.5, 2)))
    assert made.get_config()["scale"] == [0.5, 2.0] and "data_format" not in made.get_config()
    config = keras.layers.serialize(keras.layers.Rescaling(np.array([0.5, 2.0])))
    assert layers.get(json.loads(json.dumps(config))).scale == made.scale


# -- normalization


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None])
def test_adapt_measures_what_numpy_and_keras_do(axis):
    data = np.asarray(inputs((50, 4, 3))) * 3 + 100
    layer = jc.Normalization(axis).adapt(data)
    others = tuple(i for i in range(3) if i not in {-1: (2,), 1: (1,), (1, 2): (1, 2), None: ()}[axis])
    np.testing.assert_allclose(layer.mean.numpy(), data.astype(np.float64).mean(others), rtol=1e-12)
    np.testing.assert_allclose(layer.variance.numpy(), data.astype(np.float64).var(others), rtol=1e-9)
    with keras_rules():
        other = keras.layers.Normalization(axis)
        other.adapt(data)
        want = other(data[:2])
    np.testing.assert_allclose(apply(layer, data[:2]), want, rtol=1e-3, atol=1e-4)  # Keras measures in float32


def test_adapt_gives_a_new_layer_and_parts_give_what_the_whole_gives(tmp_path):
    data = np.asarray(inputs((5000, 3))) * [1, 5, 9] + 7  # more than one part
    layer = jc.Normalization()
    whole = layer.adapt(data)
    assert layer.mean is None and whole != layer and isinstance(hash(whole), int)
    np.save(tmp_path / "x.npy", data)
    for other in (
        [data[:7], data[7:7], data[7:]],
        ((part, "label") for part in np.split(data, 10)),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        jnp.asarray(data, jnp.float32),
    ):
        again = layer.adapt(other)
        np.testing.assert_allclose(again.mean.numpy(), data.mean(0), rtol=1e-6)
        np.testing.assert_allclose(again.variance.numpy(), data.var(0), rtol=1e-6)
    y = np.asarray(apply(whole, data), np.float64)
    np.testing.assert_allclose([y.mean(0), y.var(0)], [[0] * 3, [1] * 3], atol=1e-5)


def test_invert_is_the_inverse():
    data = np.asarray(inputs((50, 3))) * 4 + 2
    there = jc.Normalization().adapt(data)
    back = type(there).from_config({**there.get_config(), "invert": True})
    np.testing.assert_allclose(apply(back, apply(there, data)), data, rtol=1e-5, atol=1e-5)


def test_an_adapted_layer_goes_through_json_and_works_in_a_model():
    layer = jc.Normalization().adapt(np.asarray(inputs((9, 3))))
    assert layers.get(json.loads(json.dumps(layers.serialize(layer)))) == layer
    params, apply_fn = jc.Sequential([layer, jc.Dense(2)]).init(KEY, (None, 3))
    assert set(params) == {"dense"} and apply_fn(params, jnp.ones((1, 3))).shape == (1, 2)


def test_half_precision_subtracts_the_mean_before_it_rounds():
    layer = jc.Normalization(None, 1000, 1, dtype="mixed_float16")
    y = apply(layer, jnp.array([[1000.25, 999.75]]))  # float16 has steps of 0.5 there
    assert y.dtype == jnp.float16
    np.testing.assert_array_equal(y, [[0.25, -0.25]])


# -- bad input


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.Rescaling("big"), TypeError, "Rescaling: scale='big' is not valid; give a number, or an array"),
        (lambda: jc.Rescaling(None), TypeError, "scale=None is not valid"),
        (lambda: jc.Rescaling(1, [0, float("inf")]), ValueError, "offset=.* is not valid; give finite numbers"),
        (lambda: jc.Normalization(mean=1), ValueError, "only mean is given; give both mean and variance"),
        (lambda: jc.Normalization(-1, [1, 2], [1]), ValueError, r"mean of shape \(2,\) and variance of shape \(1,\)"),
        (lambda: jc.Normalization(None, [1], [1]), ValueError, r"do not fit axis=\(\)"),
        (lambda: jc.Normalization(-1, 1, -1), ValueError, "variance=-1.0 is negative"),
        (lambda: jc.Normalization("last"), TypeError, "Normalization: axis='last' is not"),
        (lambda: jc.Normalization().adapt(3), TypeError, "data=3 is neither an array nor"),
        (lambda: jc.Normalization().adapt(np.float32(3)), TypeError, "data is a single number"),
        (lambda: jc.Normalization().adapt([1.0, 2.0]), TypeError, "data contains 1.0, which is not an array"),
        (lambda: jc.Normalization().adapt([]), ValueError, "the data is empty"),
        (lambda: jc.Normalization().adapt(np.ones((0, 3))), ValueError, "the data is empty"),
        (lambda: jc.Normalization().adapt(np.array([[np.nan]])), ValueError, "the data: .* give finite numbers"),
        (lambda: jc.Normalization().adapt([np.ones((2, 3)), np.ones((2, 4))]), ValueError, "parts have sizes"),
        (lambda: jc.Normalization(2).adapt(np.ones((2, 3))), ValueError, "axis=.* does not name distinct axes"),
    ],
)
def test_invalid_options_and_data_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (jc.Rescaling([1, 2]), (None, 3), r"scale of shape \(2,\) does not fit input of shape \(None, 3\)"),
        (jc.Rescaling(1, [[[1]]]), (None, 3), r"offset of shape \(1, 1, 1\) does not fit"),
        (jc.Normalization(), (None, 3), "mean and variance are not known; .* adapt"),
        (jc.Normalization(-1, [1, 2], [1, 2]), (None, 3), r"mean of shape \(2,\) does not fit axis=\(-1,\)"),
    ],
)
def test_invalid_inputs_raise_at_init(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shape)
