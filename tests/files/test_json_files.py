"""Architectures in JSON, as Keras's ``to_json`` writes them, with their weights in another file."""

import json
import warnings

import jax
import numpy as np
import pytest

from jaxconv.cli.command_line import main
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model, load_weights
from tests.support.fuzzing import keras_1, keras_2
from tests.support.keras_files import DENSE, DENSE_WEIGHTS, write_hdf5
from tests.support.keras_oracle import keras, keras_rules

h5py = pytest.importorskip("h5py")
L = keras.layers


def split(write, path, version):
    """Write a model, and its parts: the config in JSON and the weights alone. Return the three paths."""
    whole, text, weights = (path / name for name in ("whole.h5", "model.json", "weights.h5"))
    write(whole)
    with h5py.File(whole) as file, h5py.File(weights, "w") as other:
        text.write_text(json.dumps(json.loads(file.attrs["model_config"]) | {"keras_version": version}))
        top = file["model_weights"]
        for name in top:
            top.copy(name, other)
        for name, value in top.attrs.items():
            other.attrs[name] = value
    return whole, text, weights


@pytest.mark.parametrize("write, version", [(keras_1, "1.2.1"), (keras_2, "2.9.0")])
def test_a_model_in_two_files_is_the_one_in_one_file(write, version, tmp_path):
    whole, text, weights = split(write, tmp_path, version)
    params, apply_fn = load_model(whole)
    same, other_fn = load_model(text, weights=weights)
    assert other_fn == apply_fn
    jax.tree.map(np.testing.assert_array_equal, same, params)
    layer, shapes = load_layer(text)
    assert layer == apply_fn.layer and jax.tree.map(np.shape, shapes) == jax.tree.map(np.shape, params)
    jax.tree.map(np.testing.assert_array_equal, load_weights(weights, layer, shapes), params)


@pytest.mark.few(1)
@pytest.mark.parametrize("doubled", [False, True])
def test_the_json_of_keras_3_and_its_weights_are_read(doubled, tmp_path):
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = L.Input((6, 3))
        model = keras.Model(x, L.Dense(2)(L.LSTM(4)(L.Conv1D(4, 2)(x))))
        given = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
        want = model(given)
        model.save_weights(tmp_path / "m.weights.h5")
    text = model.to_json()
    (tmp_path / "m.json").write_text(json.dumps(text) if doubled else text)
    params, apply_fn = load_model(tmp_path / "m.json", weights=tmp_path / "m.weights.h5")
    np.testing.assert_allclose(apply_fn(params, given), want, rtol=0, atol=1e-5)


def test_the_command_converts_two_files_to_one(tmp_path, capsys):
    _, text, weights = split(keras_2, tmp_path, "2.9.0")
    new = tmp_path / "new.keras"
    assert main(["convert", str(text), str(weights), str(new)]) == 0
    printed = capsys.readouterr().out
    for fact in (str(text), str(weights), str(new), "JSON, Keras 2.9.0"):
        assert fact in printed
    jax.tree.map(np.testing.assert_array_equal, load_model(new)[0], load_model(text, weights=weights)[0])
    assert main(["info", str(text)]) == 0
    assert "Conv1D" in capsys.readouterr().out


def test_a_model_without_its_weights_is_refused_where_values_are_needed(tmp_path, capsys):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DENSE))
    with pytest.raises(FileError, match=r"model\.json.*weights=") as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert main(["predict", str(path), str(path), "--out", str(tmp_path / "y.npy")]) == 2
    assert main(["convert", str(path), str(tmp_path / "new.keras")]) == 2
    assert "weights" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DENSE))
    wrong = {"dense_1": [("dense_1/kernel:0", np.ones((4, 2))), DENSE_WEIGHTS["dense_1"][1]]}
    write_hdf5(tmp_path / "w.h5", None, wrong, "2.2.4", "tensorflow")
    with pytest.raises(FileError, match=r"dense_1/kernel.*\(4, 2\).*\(3, 2\)"):
        load_model(path, weights=tmp_path / "w.h5")


@pytest.mark.parametrize(
    "text, facts",
    [
        ("{", "damaged"),
        ("[1]", "begins with"),
        ("{}", "class_name"),
        ('"[]"', "type list"),
        ('{"class_name": "Dense", "config": {"name": "d", "units": 2}}', "'Dense'"),
        (json.dumps(DENSE).replace('"batch_input_shape"', '"input_length"'), "shape"),
        ('{"class_name": ' + "[" * 100_000, "damaged"),
        ('{"a": "' + "b" * 2**23 + '"}', "8388608"),
    ],
)
def test_a_text_that_is_not_a_model_is_refused(text, facts, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(FileError, match=facts):
        load_layer(path)


def test_a_model_too_large_for_any_machine_costs_nothing(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DENSE).replace('"units": 2', '"units": 1000000000000'))
    assert load_layer(path)[1]["dense_1"]["kernel"].shape == (3, 10**12)
