"""Dropout: statistics of the mask, its shape, its key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

ONES = jnp.ones((100, 200))


def dropped(layer, key, x=ONES):
    return layer.apply_fn.forward({}, x, train=True, key=key)[0]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_fraction_dropped_and_the_scale_of_the_rest(key, rate):
    y = np.asarray(dropped(jc.Dropout(rate), key))
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)  # float32
    # 20,000 draws: five standard deviations of their mean
    assert abs((y == 0).mean() - rate) < 5 * (rate * (1 - rate) / y.size) ** 0.5


@pytest.mark.parametrize("rate, want", [(0, 1.0), (1, 0.0), (False, None)])
def test_both_ends(key, rate, want):
    if want is None:
        with pytest.raises(ValueError, match="rate=False"):
            jc.Dropout(rate)
    else:
        np.testing.assert_array_equal(dropped(jc.Dropout(rate), key), want)


def test_the_derivative_at_rate_one_is_zero_and_not_nan(key):
    grad = jax.grad(lambda x: dropped(jc.Dropout(1.0), key, x).sum())(ONES[:2])
    np.testing.assert_array_equal(grad, 0)


def test_nothing_at_inference():
    assert jc.Dropout(0.5).apply_fn({}, ONES) is ONES or jnp.array_equal(jc.Dropout(0.5).apply_fn({}, ONES), ONES)


def test_same_key_same_mask_other_key_other_mask(key):
    layer = jc.Dropout(0.5)
    np.testing.assert_array_equal(dropped(layer, key), dropped(layer, key))
    assert not jnp.array_equal(dropped(layer, key), dropped(layer, jax.random.key(1)))


def test_a_seed_changes_the_mask_and_two_layers_of_a_stack_have_their_own(key):
    assert not jnp.array_equal(dropped(jc.Dropout(0.5), key), dropped(jc.Dropout(0.5, seed=1), key))
    y = dropped(jc.Sequential([jc.Dropout(0.5), jc.Dropout(0.5)]), key)
    assert abs(float((y != 0).mean()) - 0.25) < 0.02  # with one mask for both it would be 0.5


@pytest.mark.parametrize("noise_shape, constant", [((None, 1), 1), ((1, None), 0), ((1, 200), 0), ([100, 1], 1)])
def test_noise_shape_drops_along_axes_of_size_one_together(key, noise_shape, constant):
    y = np.asarray(dropped(jc.Dropout(0.5, noise_shape), key))
    assert (np.ptp(y, axis=constant) == 0).all() and len(np.unique(y)) == 2


def test_the_type_is_kept(key):
    assert dropped(jc.Dropout(0.3, dtype="bfloat16"), key).dtype == jnp.bfloat16


def test_training_without_a_key_is_refused_also_deep_inside():
    with pytest.raises(ValueError, match=r"Dropout: training draws random numbers and got no key; call forward"):
        jc.Dropout(0.5).apply_fn.forward({}, ONES, train=True)
    nested = jc.Sequential([jc.Sequential([jc.Dropout(0.5, name="drop")], name="inner")])
    with pytest.raises(ValueError, match=r"inner, given shape \(100, 200\): drop, given .*: drop: training draws"):
        nested.apply_fn.forward({}, ONES, train=True)


@pytest.mark.parametrize("bad", [0, jnp.zeros(()), jax.random.split(jax.random.key(0))])
def test_anything_but_a_key_raises(bad):
    with pytest.raises(TypeError, match=r"Dropout: the key is .* not a PRNG key"):
        dropped(jc.Dropout(0.5), bad)


@pytest.mark.parametrize("rate", [50, -0.1, 1.01, float("nan"), None, "0.5", True])
def test_rates_that_are_not_valid(rate):
    with pytest.raises(ValueError, match=r"Dropout: rate=.* is not valid; give a number from 0 to 1"):
        jc.Dropout(rate)


@pytest.mark.parametrize("seed", ["a", 1.5, True])
def test_seeds_that_are_not_valid(seed):
    with pytest.raises(ValueError, match=r"Dropout: seed=.* integer from 0 to"):
        jc.Dropout(0.5, seed=seed)


def test_a_mask_of_size_zero_is_refused():
    with pytest.raises(ValueError, match=r"Dropout: noise_shape=\(2, 0\) contains 0; sizes are at least 1"):
        jc.Dropout(0.5, noise_shape=(2, 0))


@pytest.mark.parametrize("noise_shape", [(None, 1), (None, 1, 2), (2, 5, 3)])
def test_masks_that_do_not_fit(key, noise_shape):
    with pytest.raises(ValueError, match=r"Dropout: noise_shape=.* does not fit input of shape \(2, 10, 3\)"):
        jc.Dropout(0.5, noise_shape).init(key, (2, 10, 3))


def test_an_invalid_noise_shape_raises():
    with pytest.raises(TypeError, match="noise_shape: cannot read 3 as a shape"):
        jc.Dropout(0.5, 3)
