"""Padding, upsampling and rearranging: values by hand, against Keras on random options, and every message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

KEY = jax.random.key(0)
FIRST = "channels_first"


def test_bilinear_upsampling_by_hand():
    # samples at -1/4, 1/4, 3/4, 5/4 of the distance between two steps; beyond the ends the end itself
    layer = jc.UpSampling1D(2, interpolation="bilinear")
    y = layer.apply_fn({}, jnp.array([[[0.0], [4.0]]]))
    np.testing.assert_allclose(y[0, :, 0], [0.0, 1.0, 3.0, 4.0], rtol=1e-6)
    # in two dimensions it is the one-dimensional one along each axis
    x = jax.random.normal(KEY, (1, 3, 4, 1))
    rows = layer.apply_fn({}, x[:, :, :, 0])
    both = jc.UpSampling1D(2, FIRST, "bilinear").apply_fn({}, rows)
    np.testing.assert_allclose(
        jc.UpSampling2D(2, interpolation="bilinear").apply_fn({}, x)[..., 0], both, rtol=1e-5, atol=1e-6
    )


def test_interpolation_keeps_a_constant_and_half_precision():
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos3"):
        layer = jc.UpSampling3D((2, 1, 3), interpolation=interpolation, dtype="bfloat16")
        y = layer.apply_fn({}, jnp.full((1, 3, 2, 2, 1), 0.7))
        assert y.dtype == jnp.bfloat16 and y.shape == (1, 6, 2, 6, 1)
        np.testing.assert_array_equal(y, np.full(y.shape, jnp.bfloat16(0.7)))


def test_padding_then_cropping_gives_the_input_back():
    x = jax.random.normal(KEY, (2, 3, 4, 5, 2))
    padded = jc.ZeroPadding3D(((1, 2), (0, 3), (2, 0))).apply_fn({}, x)
    assert padded.shape == (2, 6, 7, 7, 2)
    np.testing.assert_array_equal(jc.Cropping3D(((1, 2), (0, 3), (2, 0))).apply_fn({}, padded), x)
    assert jnp.sum(jnp.abs(padded)) == pytest.approx(float(jnp.sum(jnp.abs(x))), rel=1e-6)


def test_causal_convolution_is_padding_and_a_valid_one():
    x = jax.random.normal(KEY, (2, 7, 3))
    params, apply_fn = jc.Sequential([jc.ZeroPadding1D((4, 0)), jc.Conv1D(2, 3, dilation_rate=2, name="c")]).init(
        KEY, x
    )
    causal = jc.Conv1D(2, 3, padding="causal", dilation_rate=2).apply_fn(params["c"], x)
    np.testing.assert_allclose(apply_fn(params, x), causal, rtol=1e-6, atol=1e-6)


def test_reshape_keeps_the_order_and_infers_one_size():
    x = jnp.arange(12.0).reshape(1, 3, 4)
    np.testing.assert_array_equal(jc.Reshape((2, -1)).apply_fn({}, x)[0, 1], [6, 7, 8, 9, 10, 11])
    assert jc.Reshape((-1, 2)).output_shape((None, 3, 4)) == (None, 6, 2)
    assert jc.Reshape((-1, 2)).output_shape((5, None, 4)) == (5, None, 2)
    assert jc.Reshape([12]) == jc.Reshape((np.int64(12),))


def test_permute_swaps_time_and_channels():
    x = jnp.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(jc.Permute((2, 1)).apply_fn({}, x)[0], [[0, 3], [1, 4], [2, 5]])


def test_configs_have_keras_s_form():
    assert jc.ZeroPadding1D(2).get_config()["padding"] == [2, 2]
    assert jc.ZeroPadding2D((1, 2)).get_config()["padding"] == [[1, 1], [2, 2]]
    assert jc.UpSampling1D(3).get_config() == {"name": None, "trainable": True, "dtype": None, "size": 3}
    assert jc.UpSampling2D().get_config()["interpolation"] == "nearest"
    assert "interpolation" not in jc.UpSampling3D().get_config()
    assert jc.UpSampling3D(interpolation="bilinear").get_config()["interpolation"] == "bilinear"


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.ZeroPadding2D((1, 2, 3)), ValueError, r"padding=\(1, 2, 3\) does not fit; give 2"),
        (lambda: jc.ZeroPadding1D(-1), ValueError, "padding=-1 is not valid"),
        (lambda: jc.ZeroPadding1D((1, 2, 3)), ValueError, "does not fit; give 1"),
        (lambda: jc.ZeroPadding3D("same"), TypeError, "padding is the string 'same'"),
        (lambda: jc.ZeroPadding1D(1, "NHWC"), ValueError, "unknown data_format 'NHWC'"),
        (lambda: jc.UpSampling2D(0), ValueError, "size=0 is not valid"),
        (lambda: jc.UpSampling2D((1, 2, 3)), ValueError, "size=.* is not valid"),
        (lambda: jc.UpSampling1D(2.5), ValueError, "size=2.5 does not consist of integers"),
        (lambda: jc.UpSampling1D(True), TypeError, "UpSampling1D: size=True is a bool; give a positive integer"),
        (lambda: jc.RepeatVector(True), TypeError, "RepeatVector: n=True is a bool; give a positive integer"),
        (lambda: jc.UpSampling2D(interpolation="linear"), ValueError, "unknown interpolation 'linear'; did you mean"),
        (lambda: jc.UpSampling2D(interpolation=None), ValueError, "unknown interpolation None"),
        (lambda: jc.Reshape((-1, -1)), ValueError, "at most one -1"),
        (lambda: jc.Reshape((-2, 3)), ValueError, "give sizes of at least 0"),
        (lambda: jc.Reshape(3), TypeError, "target_shape=3 is not a tuple of integers"),
        (lambda: jc.Reshape((2.0, 3)), TypeError, "is not a tuple of integers"),
        (lambda: jc.Permute((0, 1)), ValueError, "is not a permutation; give each of 1 to 2 once"),
        (lambda: jc.Permute((1, 3)), ValueError, "is not a permutation"),
        (lambda: jc.Permute(2), TypeError, "dims=2 is not a tuple"),
        (lambda: jc.RepeatVector(0), ValueError, "n=0 is not positive"),
        (lambda: jc.RepeatVector(1.5), ValueError, "n=1.5 is not an integer"),
    ],
)
def test_invalid_options_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (jc.ZeroPadding1D(), (2, 3), r"ZeroPadding1D: input of shape \(2, 3\) has rank 2; this layer needs rank 3"),
        (jc.UpSampling2D(), (2, 3, 4), r"needs rank 4: \(batch, rows, columns, channels\)"),
        (jc.UpSampling2D(interpolation="bilinear"), (2, 0, 4, 1), "length 0 along axis 1"),
        (jc.Reshape((5, 2)), (3, 4, 3), r"has 12 entries.*; target_shape=\(5, 2\) needs 10"),
        (jc.Reshape((5, -1)), (3, 4, 3), r"target_shape=\(5, -1\) needs a multiple of 5"),
        (jc.Reshape((2,)), (), "has no batch axis"),
        (jc.Flatten(), (), "has no batch axis"),
        (jc.Permute((2, 1)), (3, 4), r"has rank 2; dims=\(2, 1\) needs 3"),
        (jc.RepeatVector(2), (3, 4, 5), r"has rank 3; give \(batch, channels\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_at_init(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shape)
