"""Flatten and Cropping1D, 2D, 3D."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

X = jnp.arange(24.0).reshape(2, 3, 4)


def test_flatten_keeps_the_order_and_the_batch():
    np.testing.assert_array_equal(jc.Flatten().apply_fn({}, X), X.reshape(2, 12))


def test_flatten_gives_the_same_in_both_formats():
    first = jc.Flatten("channels_first").apply_fn({}, jnp.moveaxis(X, -1, 1))
    np.testing.assert_array_equal(first, X.reshape(2, 12))


@pytest.mark.parametrize(
    "shape, want", [((3,), (3, 1)), ((None,), (None, 1)), ((None, None, 2), (None, None)), ((0, 2, 2), (0, 4))]
)
def test_flatten_of_few_or_unknown_axes(shape, want):
    assert jc.Flatten().output_shape(shape) == want


def test_flatten_needs_a_batch(key):
    with pytest.raises(ValueError, match=r"Flatten: input of shape .* has no batch axis"):
        jc.Flatten().init(key, ())


@pytest.mark.parametrize("cropping, want", [((1, 0), X[:, 1:]), ((0, 0), X), (1, X[:, 1:2]), ([0, 2], X[:, :1])])
def test_cropping_one_axis(cropping, want):
    np.testing.assert_array_equal(jc.Cropping1D(cropping).apply_fn({}, X), want)


def test_cropping_the_last_axis_where_channels_come_first():
    np.testing.assert_array_equal(jc.Cropping1D((1, 2), "channels_first").apply_fn({}, X), X[:, :, 1:2])


def test_cropping1d_is_channels_last_whatever_the_default_because_keras_s_has_no_data_format(monkeypatch):
    monkeypatch.setattr("jaxconv.data_format._default", "channels_first")
    assert jc.Cropping1D().data_format == "channels_last"
    assert jc.Cropping2D().data_format == "channels_first"
    assert "data_format" not in jc.Cropping1D().get_config()


@pytest.mark.parametrize("form", [1, (1, 1), ((1, 1), (1, 1)), [[1, 1], [1, 1]], np.array([1, 1])])
def test_forms_of_cropping(form):
    assert jc.Cropping2D(form) == jc.Cropping2D(1)


@pytest.mark.parametrize(
    "layer, cropping, kind, message",
    [
        (jc.Cropping1D, (-5, 5), ValueError, "cropping=.*-5, 5.* is not valid; give .* each at least 0"),
        (jc.Cropping1D, 1.5, ValueError, "cropping=1.5 does not consist of integers"),
        (jc.Cropping1D, None, ValueError, "cropping=None does not consist of integers"),
        (jc.Cropping2D, (1, 2, 3), ValueError, r"cropping=\(1, 2, 3\) does not fit; give 2 integer"),
        (jc.Cropping2D, "ab", TypeError, "cropping is the string 'ab'"),
        (jc.Cropping3D, ((1, 2, 3), 1, 1), ValueError, r"cropping=\(1, 2, 3\) is not valid"),
    ],
)
def test_croppings_that_are_not_valid(layer, cropping, kind, message):
    with pytest.raises(kind, match=f"{layer.__name__}: {message}"):
        layer(cropping)


def test_cropping_everything_raises(key):
    with pytest.raises(ValueError, match=r"cropping \(5, 5\).*shortest valid input is 11"):
        jc.Cropping1D((5, 5)).init(key, (2, 10, 3))
    with pytest.raises(ValueError, match=r"needs rank 4: \(batch, rows, columns, channels\)"):
        jc.Cropping2D(1).init(key, (2, 10, 3))
