"""Model files: what was saved comes back, whatever the dtype; every broken file is named with its reason."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.files.archive import write_archive
from jaxconv.files.model import FileError, load_model, model_info, save_model
from jaxconv.layers.conv import Conv1D
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.global_pooling import GlobalAveragePooling1D
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.layers.reshaping import Flatten
from jaxconv.models import Sequential

SHAPE = (None, 9, 2)
NET = Sequential(
    [
        Conv1D(3, 2, padding="causal", activation="relu", kernel_regularizer="l2", kernel_constraint="max_norm"),
        BatchNormalization(name="norm"),
        Dropout(0.5),
        GlobalAveragePooling1D(),
        Sequential([Dense(4, trainable=False), Dense(2, activation="softmax")]),
    ]
)


@pytest.fixture
def saved(tmp_path):
    params, _ = NET.init(jax.random.key(0), SHAPE)
    save_model(
        tmp_path / "m.npz", NET, params, input_shape=SHAPE, about={"classes": ("a", "b"), "mean": np.float64(0.5)}
    )
    return tmp_path / "m.npz", params


def test_a_model_comes_back_as_it_was(saved):
    path, params = saved
    loaded, apply_fn = load_model(path)
    assert apply_fn.layer == NET and apply_fn == NET.apply_fn
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    x = np.random.default_rng(0).normal(size=(4, 9, 2))
    np.testing.assert_array_equal(apply_fn(loaded, x), NET.apply_fn(params, x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_half_precision_weights_come_back_bit_for_bit(tmp_path, dtype):
    layer = Dense(3, dtype=dtype)
    params, _ = layer.init(jax.random.key(0), (None, 4))
    save_model(tmp_path / "m.npz", layer, params)
    loaded, apply_fn = load_model(tmp_path / "m.npz")
    assert apply_fn.layer == layer and loaded["kernel"].dtype == params["kernel"].dtype
    assert np.asarray(loaded["kernel"]).tobytes() == np.asarray(params["kernel"]).tobytes()


def test_a_layer_without_weights_can_be_saved(tmp_path):
    save_model(tmp_path / "m.npz", Flatten(), {})
    assert load_model(tmp_path / "m.npz") == ({}, Flatten().apply_fn)


def test_a_file_tells_what_it_holds_without_reading_weights(saved):
    info = model_info(saved[0])
    assert (
        info["layer"] == NET and info["input_shape"] == SHAPE and info["about"] == {"classes": ["a", "b"], "mean": 0.5}
    )
    assert info["arrays"]["conv1d/kernel"] == {"shape": [2, 2, 3], "dtype": "float32"}


def test_numpy_opens_the_file_and_finds_the_weights_by_path(saved):
    path, params = saved
    with np.load(path, allow_pickle=False) as content:
        np.testing.assert_array_equal(content["sequential/dense_1/bias"], params["sequential"]["dense_1"]["bias"])


def test_the_layer_s_own_input_shape_is_used(tmp_path):
    layer = Dense(3, input_shape=(4,))
    params, _ = layer.init(jax.random.key(0))
    save_model(tmp_path / "m.npz", layer, params)
    assert model_info(tmp_path / "m.npz")["input_shape"] == (None, 4)


def test_an_array_can_stand_for_the_input_shape(tmp_path):
    params, _ = Dense(3).init(jax.random.key(0), (None, 4))
    save_model(tmp_path / "m.npz", Dense(3), params, input_shape=jnp.ones((5, 4)))
    assert model_info(tmp_path / "m.npz")["input_shape"] == (5, 4)


def test_weights_of_another_layer_are_not_saved(tmp_path):
    params, _ = Dense(3).init(jax.random.key(0), (None, 4))
    with pytest.raises(FileError, match=r"weight bias has shape \(3,\); its layer needs \(5,\)"):
        save_model(tmp_path / "m.npz", Dense(5), params, input_shape=(None, 4))
    with pytest.raises(FileError, match=r"the layer has no weight bias"):
        save_model(tmp_path / "m.npz", Dense(3, use_bias=False), params, input_shape=(None, 4))
    assert not list(tmp_path.iterdir())


def test_a_function_without_a_name_is_not_saved(tmp_path):
    layer = Dense(3, activation=lambda x: x)
    params, _ = layer.init(jax.random.key(0), (None, 4))
    with pytest.raises(ValueError, match="cannot be written to a config"):
        save_model(tmp_path / "m.npz", layer, params)
    assert not list(tmp_path.iterdir())


def rewrite(path, change, drop):
    """Write the archive again with another header, and without some entries."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist() if name not in drop}
    header = json.loads(entries["header.json"])
    change(header)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, json.dumps(header) if name == "header.json" else content)


def first_layer(header):
    return header["layer"]["config"]["layers"][0]


BROKEN = {
    r"is truncated or damaged: .*conv1d/kernel.npy": lambda h: None,
    r"weight conv1d/bias of shape \(3,\) is missing": lambda h: h["arrays"].pop("conv1d/bias"),
    r"entry 'norm/beta' .*shape \(3,\).*header says .*\(4,\)": lambda h: h["arrays"]["norm/beta"].update(shape=[4]),
    r"conv1d/bias has shape \(3,\); its layer needs \(7,\)": lambda h: first_layer(h)["config"].update(filters=7),
    r"layer cannot be built: unknown layer 'Konv1D'; did you": lambda h: first_layer(h).update(class_name="Konv1D"),
    r"its layer cannot be built: 'layer'": lambda h: h.pop("layer"),
    r"holds no layer, but None": lambda h: h.update(layer=None),
    r"its layer does not take input of shape \[None, 4\]: .* has rank 2": lambda h: h.update(input_shape=[None, 4]),
    r"has version 9 of the jaxconv model format .* install a newer jaxconv": lambda h: h.update(version=9),
    r"is not a jaxconv model: its header says 'checkpoint'": lambda h: h.update(format="checkpoint"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_file_that_was_tampered_with_is_named_with_the_reason(saved, message):
    path, _ = saved
    rewrite(path, BROKEN[message], drop=["conv1d/kernel.npy"] if "truncated" in message else [])
    with pytest.raises(FileError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_truncated_empty_missing_and_foreign_files_are_named(saved, tmp_path):
    path, _ = saved
    whole = path.read_bytes()
    for content, message in [
        (whole[: len(whole) // 2], "truncated or damaged"),
        (b"", "is empty"),
        (b"<html>", "it is no .npz file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(FileError, match=message):
            load_model(path)
    np.savez(path, kernel=np.zeros(3))
    with pytest.raises(FileError, match=r"without header.json"):
        load_model(path)
    with pytest.raises(FileError, match="no such file"):
        load_model(tmp_path / "other.npz")
    with pytest.raises(FileError, match="cannot be written: No such file or directory"):
        save_model(tmp_path / "no" / "m.npz", Flatten(), {})


def test_sixty_four_bit_weights_are_not_cut_to_thirty_two_in_silence(tmp_path):
    write_archive(
        tmp_path / "m.npz",
        {"format": "jaxconv model", "version": 1, "layer": {"class_name": "Flatten", "config": {}}},
        {"kernel": np.zeros(3)},
    )
    with pytest.raises(FileError, match=r"kernel is float64, which needs .*jax_enable_x64"):
        load_model(tmp_path / "m.npz")


def test_saving_over_a_file_replaces_it_whole(saved):
    path, params = saved
    save_model(path, NET, jax.tree.map(lambda a: a + 1, params), input_shape=SHAPE)
    np.testing.assert_array_equal(load_model(path)[0]["norm"]["beta"], params["norm"]["beta"] + 1)
    assert list(path.parent.iterdir()) == [path]
