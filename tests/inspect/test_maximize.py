"""Activation maximization for problems with a known best input, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.inspect import maximize


def edge_detector(data_format):
    """Return a model that responds to a step from dark to bright, and its params."""
    model = jc.Sequential([jc.Conv2D(2, (1, 4), use_bias=False, data_format=data_format, name="edges")])
    kernel = jnp.zeros((1, 4, 1, 2)).at[0, :, 0, 1].set(jnp.array([-1.0, -1, 1, 1]))
    return model, {"edges": {"kernel": kernel}}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_an_edge_detector_finds_an_edge_where_it_looks(data_format):
    model, params = edge_detector(data_format)
    shape, unit = ((1, 4, 8, 1), (2, 3, 1)) if data_format == "channels_last" else ((1, 1, 4, 8), (1, 2, 3))
    x, history = maximize(model, params, "edges", unit, jax.random.key(0), shape=shape, steps=100, jitter=0)
    assert x.shape == shape and history.shape == (100,)
    assert x.min() >= 0 and x.max() <= 1
    np.testing.assert_allclose(x.reshape(4, 8)[2, 3:7], [0, 0, 1, 1], atol=0.1)
    assert history[-1] > 1.8  # of at most 2


@pytest.mark.slow
def test_a_matched_filter_finds_its_own_shape_in_a_signal():
    wave = jnp.sin(2 * jnp.pi * jnp.arange(16.0) / 8)
    model = jc.Sequential([jc.Conv1D(1, 16, use_bias=False), jc.Dense(1, use_bias=False)])
    params = {"conv1d": {"kernel": wave[:, None, None]}, "dense": {"kernel": jnp.ones((1, 1))}}
    options = {"shape": (1, 16, 1), "steps": 60, "bounds": (-1, 1)}
    x, history = maximize(model, params, "", (0, 0), jax.random.key(0), jitter=0, smoothness=0, **options)
    assert np.corrcoef(x[0, :, 0], wave)[0, 1] > 0.9
    assert history[-1] > 0.9 * np.abs(wave).sum()
    again = maximize(model, params, "", 0, jax.random.key(0), jitter=0, smoothness=0, **options)
    np.testing.assert_array_equal(again.x, x)  # one place: its mean is itself
    smooth = maximize(model, params, "", 0, jax.random.key(0), jitter=2, smoothness=50, **options)
    assert jnp.abs(jnp.diff(smooth.x, axis=1)).mean() < 0.5 * jnp.abs(jnp.diff(x, axis=1)).mean()
    other = maximize(model, params, "", 0, jax.random.key(1), jitter=2, **options)
    assert not np.array_equal(other.x, smooth.x)


def test_bad_units_paths_and_sizes_are_named():
    model, params = edge_detector("channels_last")
    key = jax.random.key(0)
    for at, unit, options, facts in (
        ("edges", 2, {}, "unit=2.*2 channels"),
        ("edges", (0, 0), {}, r"\(0, 0\).*\(4, 5, 2\)"),
        ("edge", 0, {}, "edges"),
        ("edges", 0, {"shape": (1, None, 8, 1)}, "unknown"),
        ("edges", 0, {"shape": None}, "shape="),
        ("edges", 0, {"steps": 0}, "steps=0"),
        ("edges", 0, {"bounds": (1, 0)}, r"\(1, 0\)"),
    ):
        with pytest.raises(ValueError, match=facts):
            maximize(model, params, at, unit, key, **{"shape": (1, 4, 8, 1), **options})
    with pytest.raises(TypeError, match="key"):
        maximize(model, params, "edges", 0, 3, shape=(1, 4, 8, 1))
    words = jc.Sequential([jc.Sequential([jc.Embedding(5, 2)]), jc.Conv1D(2, 3)])
    with pytest.raises(TypeError, match=r"integers.*embedding"):
        maximize(words, words.init(key, (None, 9))[0], "conv1d", 0, key, shape=(1, 9))
