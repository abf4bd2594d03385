"""Noise layers: mean and deviation, shared noise, and equal results for the same key."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers
from tests.support.keras_oracle import keras

KEY = jax.random.key(0)
ALL = [
    jc.Dropout(0.3),
    jc.AlphaDropout(0.3),
    jc.GaussianDropout(0.3),
    jc.GaussianNoise(0.3),
    jc.SpatialDropout1D(0.3),
]
every_layer = pytest.mark.parametrize("layer", ALL, ids=lambda layer: type(layer).__name__)


def train(layer, x, key=KEY):
    return np.asarray(layer.apply_fn.forward({}, x, train=True, key=key)[0], np.float64)


@every_layer
def test_nothing_happens_at_inference(layer):
    x = jax.random.normal(KEY, (2, 5, 3))
    np.testing.assert_array_equal(layer.apply_fn({}, x), x)


@every_layer
def test_the_same_key_gives_the_same_numbers_and_a_seed_gives_others(layer):
    x = jnp.ones((2, 5, 30))
    np.testing.assert_array_equal(train(layer, x), train(layer, x))
    assert (train(layer, x) != train(layer, x, jax.random.key(1))).any()
    seeded = type(layer).from_config({**layer.get_config(), "seed": 5})
    assert (train(layer, x) != train(seeded, x)).any()


@every_layer
def test_training_without_a_key_raises(layer):
    with pytest.raises(ValueError, match="training draws random numbers and got no key"):
        layer.apply_fn.forward({}, jnp.ones((2, 5, 3)), train=True)


@pytest.mark.parametrize(
    "layer, mean, deviation",
    [
        # of ones: Dropout and GaussianDropout promise sqrt(rate / (1 - rate)) both
        (jc.Dropout(0.2), 1, 0.5),
        (jc.GaussianDropout(0.2), 1, 0.5),
        (jc.GaussianNoise(0.25), 1, 0.25),
        (jc.GaussianNoise(2.0), 1, 2.0),
    ],
)
def test_mean_and_deviation_are_as_promised(layer, mean, deviation):
    y = train(layer, jnp.ones((100, 400)))
    # 40,000 numbers: the mean is good to deviation / 200, which five times is never missed
    np.testing.assert_allclose([y.mean(), y.std()], [mean, deviation], atol=5 * max(deviation, 1) / 200)


def test_alpha_dropout_keeps_mean_zero_and_variance_one():
    y = train(jc.AlphaDropout(0.4), jax.random.normal(jax.random.key(1), (100, 400)))
    np.testing.assert_allclose([y.mean(), y.var()], [0, 1], atol=0.03)  # five deviations of such estimates


def test_alpha_dropout_puts_one_value_where_it_drops():
    y = train(jc.AlphaDropout(0.4, noise_shape=(None, 1)), jnp.arange(12.0).reshape(4, 3))
    limit = -1.6732632423543772 * 1.0507009873554805
    scale = ((1 - 0.4) * (1 + 0.4 * limit**2)) ** -0.5
    x = (y + scale * limit * 0.4) / scale  # undo the affine map
    for row, was in zip(x, np.arange(12.0).reshape(4, 3), strict=True):
        assert np.allclose(row, limit, atol=1e-5) or np.allclose(row, was, atol=1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank, layer", [(1, jc.SpatialDropout1D), (2, jc.SpatialDropout2D), (3, jc.SpatialDropout3D)])
def test_spatial_dropout_drops_whole_channels_of_single_samples(rank, layer, data_format):
    last = data_format == "channels_last"
    inner = (3, 4, 2)[:rank]
    y = train(layer(0.5, data_format=data_format), jnp.ones((8, *inner, 6) if last else (8, 6, *inner)))
    flat = (np.moveaxis(y, -1, 1) if last else y).reshape(8, 6, -1)
    assert (flat == flat[..., :1]).all() and set(flat.ravel()) == {0, 2}
    assert len({tuple(row) for row in flat[..., 0]}) > 1  # samples differ


@pytest.mark.parametrize("layer", [jc.Dropout(1.0), jc.SpatialDropout1D(1)])
def test_a_rate_of_one_leaves_zeros_and_no_nan(layer):
    assert (train(layer, jnp.ones((2, 3, 4))) == 0).all()


@pytest.mark.parametrize("layer", [jc.GaussianNoise(0), jc.GaussianDropout(0), jc.AlphaDropout(0.0)])
def test_zero_noise_is_the_identity(layer):
    assert (train(layer, jnp.ones((2, 3))) == 1).all()


def test_spatial_dropout_config_has_what_keras_s_layer_takes_and_nothing_else():
    config = layers.serialize(jc.SpatialDropout2D(0.5, "channels_first", 3))
    other = keras.layers.deserialize(json.loads(json.dumps(config)))
    assert (other.rate, other.data_format, other.seed) == (0.5, "channels_first", 3)
    assert "data_format" not in jc.SpatialDropout1D(0.5).get_config()
    assert jc.SpatialDropout1D(0.5, 3).seed == 3  # Keras's second argument


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jc.Dropout(1.5), "Dropout: rate=1.5 is not valid; give a number from 0 to 1"),
        (lambda: jc.Dropout("half"), "rate='half' is not valid"),
        (lambda: jc.Dropout(float("nan")), "rate=nan is not valid"),
        (lambda: jc.SpatialDropout2D(-0.1), "SpatialDropout2D: rate=-0.1 is not valid"),
        (lambda: jc.Dropout(0.5, seed=1.5), "seed=1.5 .* integer from 0 to"),
        (lambda: jc.GaussianDropout(1), "GaussianDropout: rate=1 .* from 0 to below 1"),
        (lambda: jc.AlphaDropout(1.0), "AlphaDropout: rate=1.0 .* from 0 to below 1"),
        (lambda: jc.GaussianNoise(-1), "stddev=-1 is not valid; give a number of at least 0"),
        (lambda: jc.SpatialDropout3D(0.5, "last"), "unknown data_format 'last'"),
    ],
)
def test_invalid_options_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_invalid_inputs_raise_at_init():
    with pytest.raises(ValueError, match=r"SpatialDropout2D: input of shape .* has rank 3; this layer needs rank 4"):
        jc.SpatialDropout2D(0.5).init(KEY, (None, 3, 4))
    with pytest.raises(ValueError, match=r"AlphaDropout: noise_shape=.* does not fit"):
        jc.AlphaDropout(0.5, noise_shape=(None, 2)).init(KEY, (None, 3))
