"""Receptive fields compared with formulas, and with the inputs that change a unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.inspect import receptive_field


def test_ten_uniform_layers_use_a_part_of_their_field(key):
    for taps, count in ((3, 10), (5, 4)):
        model = jc.Sequential([jc.Conv1D(1, taps, padding="same", kernel_initializer="ones")] * count)
        params, apply_fn = model.init(key, (None, 61, 1))
        field = receptive_field(apply_fn, params, (None, 61, 1))
        assert field.size == (count * (taps - 1) + 1,) and field.unit == (30,)
        np.testing.assert_allclose(field.deviation, np.sqrt(count * (taps**2 - 1) / 12), rtol=1e-4)
    assert receptive_field(jc.Sequential([jc.Conv1D(1, 3)] * 10), {}, (1, 41, 1), effective=False).size == (21,)


@pytest.mark.few(1)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("at", ["encoder#2/conv2d", "", "encoder", "encoder/conv2d_1", "encoder#2"])
def test_the_field_is_what_the_gradient_reaches(at, data_format, key):
    first = data_format == "channels_first"
    shape = (1, 2, 23, 17) if first else (1, 23, 17, 2)
    x = jc.Input(shape[1:])
    inside = [
        jc.Conv2D(2, (3, 2), strides=(2, 1), data_format=data_format),
        jc.Conv2D(2, (2, 3), dilation_rate=2, data_format=data_format),
    ]
    encoder = jc.Sequential(inside, name="encoder")
    model = jc.Model(x, jc.Activation("tanh")(encoder(encoder(x))))
    params, apply_fn = model.init(key)
    field = receptive_field(apply_fn, params, shape, at)
    assert field.gradient.shape == (23, 17)
    nonzero = np.argwhere(np.asarray(field.gradient) > 0)
    assert (field.first, field.last) == (tuple(nonzero.min(0)), tuple(nonzero.max(0)))


@pytest.mark.slow
def test_heads_read_everything_and_permuted_axes_are_followed(key):
    model = jc.Sequential([jc.Permute((2, 1, 3)), jc.Conv2D(2, (3, 1), name="conv"), jc.Flatten(), jc.Dense(2)])
    params, apply_fn = model.init(key, (None, 6, 9, 1))
    field = receptive_field(apply_fn, params, jax.random.normal(key, (3, 6, 9, 1)), "conv")
    assert (field.size, field.first) == ((1, 3), (3, 3))
    head = receptive_field(apply_fn, params, (None, 6, 9, 1))
    assert (head.unit, head.size) == ((None, None), (6, 9)) and np.all(np.asarray(head.gradient) > 0)


def test_what_has_no_field_is_an_error(key):
    model = jc.Sequential([jc.Embedding(5, 2), jc.Conv1D(2, 3)])
    params, apply_fn = model.init(key, (None, 9))
    assert receptive_field(apply_fn, params, (None, 9), effective=False).size == (3,)
    for given in (jnp.zeros((1, 9), jnp.int32), (None, 9)):
        with pytest.raises(TypeError, match="int32"):
            receptive_field(apply_fn, params, given)
    with pytest.raises(ValueError, match=r"'conv'.*'conv1d'"):
        receptive_field(apply_fn, params, (None, 9), "conv")
    with pytest.raises(ValueError, match=r" 3;.*conv1d"):  # not a position
        receptive_field(apply_fn, params, (None, 9), 3)
    with pytest.raises(ValueError, match="None"):
        receptive_field(apply_fn, params, (None, None))
