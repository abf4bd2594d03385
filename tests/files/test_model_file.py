"""Model files: a saved model is loaded unchanged, and its contents are described; the public functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import read_model

pytest.importorskip("h5py")
SHAPE = (None, 9, 2)
NET = jc.Sequential(
    [
        jc.Conv1D(3, 2, padding="causal", activation="relu", kernel_regularizer="l2", kernel_constraint="max_norm"),
        jc.BatchNormalization(name="norm"),
        jc.Dropout(0.5),
        jc.GlobalAveragePooling1D(),
        jc.Sequential([jc.Dense(4, trainable=False), jc.Dense(2, activation="softmax")]),
    ]
)


@pytest.fixture
def saved(tmp_path):
    params, _ = NET.init(jax.random.key(0), SHAPE)
    about = {"classes": ("a", "b"), "mean": np.float64(0.5)}
    jc.save_model(tmp_path / "m.keras", NET, params, input_shape=SHAPE, about=about)
    return tmp_path / "m.keras", params


def test_a_model_comes_back_with_its_weights_options_and_penalties(saved):
    path, params = saved
    loaded, apply_fn = jc.load_model(path)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    x = np.random.default_rng(0).normal(size=(4, 9, 2))
    np.testing.assert_array_equal(apply_fn(loaded, x), NET.apply_fn(params, x))
    assert apply_fn.penalty(loaded) == NET.apply_fn.penalty(params)
    jax.tree.map(np.testing.assert_array_equal, apply_fn.project(loaded), NET.apply_fn.project(params))
    assert jax.tree.structure(apply_fn.split(loaded)) == jax.tree.structure(NET.apply_fn.split(params))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_half_precision_weights_come_back_bit_for_bit(tmp_path, dtype):
    layer = jc.Dense(3, dtype=dtype)
    params, _ = layer.init(jax.random.key(0), (None, 4))
    jc.save_model(tmp_path / "m.keras", layer, params)
    loaded, apply_fn = jc.load_model(tmp_path / "m.keras")
    assert apply_fn.layer.policy == layer.policy and loaded["kernel"].dtype == params["kernel"].dtype
    assert np.asarray(loaded["kernel"]).tobytes() == np.asarray(params["kernel"]).tobytes()


def test_a_layer_alone_comes_back_alone(tmp_path):
    jc.save_model(tmp_path / "m.keras", jc.Flatten(), {})
    params, apply_fn = jc.load_model(tmp_path / "m.keras")
    assert params == {} and isinstance(apply_fn.layer, jc.Flatten)


def test_a_file_tells_what_it_holds(saved):
    info = read_model(saved[0])
    assert info.layer.names == NET.names
    assert info.input_shape == SHAPE and info.about == {"classes": ["a", "b"], "mean": 0.5}


def test_an_array_and_the_layer_s_own_shape_can_stand_for_the_input_shape(tmp_path):
    params, _ = jc.Dense(3).init(jax.random.key(0), (None, 4))
    jc.save_model(tmp_path / "a.keras", jc.Dense(3), params, input_shape=jnp.ones((5, 4)))
    assert read_model(tmp_path / "a.keras").input_shape == (5, 4)
    jc.save_model(tmp_path / "b.keras", jc.Dense(3, input_shape=(4,)), params)
    assert read_model(tmp_path / "b.keras").input_shape == (None, 4)


def test_several_inputs_have_several_shapes(tmp_path):
    jc.save_model(tmp_path / "m.keras", jc.Add(), {}, input_shape=[(None, 4), (None, 4)])
    assert read_model(tmp_path / "m.keras").input_shape == [(None, 4), (None, 4)]


def test_saving_over_a_file_replaces_it_whole(saved):
    path, params = saved
    jc.save_model(path, NET, jax.tree.map(lambda a: a + 1, params), input_shape=SHAPE)
    np.testing.assert_array_equal(jc.load_model(path)[0]["norm"]["beta"], params["norm"]["beta"] + 1)
    assert list(path.parent.iterdir()) == [path]


def test_truncated_files_are_named(saved):
    path, _ = saved
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"m\.keras"):
            read_model(path)
