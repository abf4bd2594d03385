"""Singular values against dense decompositions, and frequency responses against formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.inspect import linear_maps, singular_values, spectrum


def dense_values(layer, params, shape):
    """Return the singular values of the Jacobian."""
    size = shape[1:]
    jacobian = jax.jacobian(lambda x: layer.apply_fn(params, x[None])[0].ravel())(jnp.zeros(size))
    matrix = np.asarray(jacobian, np.float64).reshape(jacobian.shape[0], -1)
    return np.linalg.svd(matrix, compute_uv=False)


CIRCULAR = {"padding": "same", "padding_mode": "circular"}
CASES = {  # the first and the sixth run by default
    "groups, dilation": (jc.Conv2D(4, (3, 2), groups=2, dilation_rate=(2, 1), **CIRCULAR), (1, 6, 4, 4), True),
    "circular": (jc.Conv1D(3, 3, **CIRCULAR), (1, 8, 2), True),
    "even kernel, stride, first": (jc.Conv1D(3, 4, 2, data_format="channels_first", **CIRCULAR), (1, 2, 8), True),
    "stride 2 x 3, longer kernel": (jc.Conv2D(2, (3, 5), strides=(2, 3), **CIRCULAR), (1, 4, 6, 3), True),
    "depthwise": (jc.DepthwiseConv2D(3, depth_multiplier=2, **CIRCULAR), (1, 4, 5, 2), True),
    "zeros": (jc.Conv2D(3, 3, padding="same", activation="relu"), (1, 5, 4, 2), False),
    "volume": (jc.Conv3D(2, 2, **CIRCULAR), (1, 3, 4, 2, 2), True),
    "pointwise": (jc.Conv2D(3, 1, activation="relu"), (1, 3, 4, 2), True),
    "stride that does not divide": (jc.Conv1D(3, 3, 2, **CIRCULAR), (1, 7, 2), False),
    "transposed": (jc.Conv1DTranspose(3, 4, 2, padding="same"), (1, 5, 2), False),
    "a model": (jc.Sequential([jc.Conv1D(3, 3), jc.AveragePooling1D(2), jc.Flatten(), jc.Dense(4)]), (1, 9, 2), False),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "_"))
def test_singular_values_are_those_of_the_matrix(case, key):
    layer, shape, fourier = CASES[case]
    params, _ = layer.init(key, shape)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases
    got = singular_values(layer, params, shape)
    if getattr(layer, "activation", None):
        layer = dataclasses.replace(layer, activation=None)
    want = dense_values(layer, params, shape)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * want[0])
    assert (linear_maps._Map(layer, params, shape).circular_strides() is not None) == fourier


@pytest.mark.slow
def test_the_largest_ones_by_lanczos_with_their_multiplicity(monkeypatch, key):
    monkeypatch.setattr(linear_maps, "DENSE", 0)
    layer, shape, _ = CASES["zeros"]
    params, _ = layer.init(key, shape)
    got = singular_values(layer, params, shape, top=3)
    np.testing.assert_allclose(got, dense_values(jc.Conv2D(3, 3, padding="same"), params, shape)[:3], rtol=1e-6)
    twice = jc.DepthwiseConv1D(3, padding="same")  # two equal channels: every singular value twice
    kernel = {"kernel": jnp.ones((3, 2, 1)), "bias": jnp.zeros(2)}
    assert set(twice.init(key, (1, 12, 2))[0]) == set(kernel)
    want = dense_values(twice, kernel, (1, 12, 2))[:4]
    np.testing.assert_allclose(singular_values(twice, kernel, (1, 12, 2), top=4), want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"60 x 40.*top"):
        singular_values(layer, params, shape)


def test_circular_largest_value_is_the_largest_response():
    kernel = jnp.array([0.2, -0.7, 0.4])
    layer = jc.Conv1D(1, 3, use_bias=False, dilation_rate=2, **CIRCULAR)
    values = singular_values(layer, {"kernel": kernel[:, None, None]}, (1, 32, 1), top=1)
    np.testing.assert_allclose(values, spectrum(kernel, 17, dilation=2).magnitudes.max(), rtol=1e-6)


def test_responses_are_those_of_the_formulas(key):
    frequencies, magnitudes = spectrum(np.array([[1, 1], [1, -1]]) / [2, 1], 9)
    w = 2 * np.pi * frequencies
    np.testing.assert_allclose(magnitudes, np.stack([abs(np.cos(w / 2)), 2 * np.sin(w / 2)], 1), atol=1e-12)
    kernel = jax.random.normal(key, (5, 2, 3))
    assert spectrum(kernel).magnitudes.shape == (257, 2, 3)
    once, thrice = spectrum(kernel, 25).magnitudes, spectrum(kernel, 25, dilation=3).magnitudes
    # a spectrum from 0 to 0.5 and back, three times as fast
    np.testing.assert_allclose(thrice, once[[*range(0, 25, 3), *range(21, -1, -3), *range(3, 25, 3)]], atol=1e-10)


def test_what_has_no_singular_values_or_response_is_an_error(key):
    layer = jc.Conv1D(2, 3)
    params, _ = layer.init(key, (1, 8, 2))
    for top in (0, 13, True, 1.5):
        with pytest.raises(ValueError, match=rf"top={top}.*12"):
            singular_values(layer, params, (1, 8, 2), top)
    with pytest.raises(ValueError, match=r"None"):
        singular_values(layer, params, (1, None, 2))
    with pytest.raises(ValueError, match=r"Sequential is not linear"):
        singular_values(jc.Sequential([jc.ReLU()]), {}, (1, 8, 2))
    for kernel, n, dilation in (
        (jnp.ones(()), 3, 1),
        (jnp.ones(3), 1, 1),
        (jnp.ones(3), 3, 0),
        (np.ones(3) * 1j, 3, 1),
    ):
        with pytest.raises(ValueError, match=r"kernel|n=1|dilation=0"):
            spectrum(kernel, n, dilation)
