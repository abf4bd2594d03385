"""``jaxconv info``: the table of layers, and the facts about runs, files and configs."""

import sys
import warnings

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main
from jaxconv.files.loading import read_model
from tests.support.keras_oracle import keras, keras_rules

pytest.importorskip("h5py")


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("runs", ["runs", "config.toml"]),
        ("tiny.npz", ["tiny.npz"]),
        ("nothing", ["nothing"]),
        ("tony.toml", ["tony.toml", "'tiny.toml'"]),
        ("text.keras", ["text.keras", "HDF5"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, path, facts):
    error = error_line("info", path)
    for fact in facts:
        assert fact in error, error


def test_a_missing_package_is_named_with_what_to_install(at_home, error_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install h5py" in error_line("info", "m.keras")


def test_a_run_is_shown_with_layers_shapes_parameters_and_results(at_home, capsys):
    assert main(["info", "runs/tiny"]) == 0
    text = capsys.readouterr().out
    rows = cells(text)
    assert rows[0] == ["tiny"]
    assert ["conv1d", "Conv1D", "(batch,", "8,", "2)", "8", "0", "48", "3"] in rows
    assert ["batch_normalization", "BatchNormalization", "(batch,", "8,", "2)", "4", "4", "0", "3"] in rows
    assert ["dense", "Dense", "(batch,", "2)", "6", "0", "4", "-"] in rows
    assert ["total", "18", "4", "52"] in rows
    assert ["epochs", "2", "of", "2"] in rows and ["classes", "no,", "yes"] in rows
    assert any(row[:3] == ["result", "test", "accuracy"] for row in rows)
    table = text.split("\n\n")[1]
    for path in ("tiny.toml", "runs/tiny/model.keras"):  # the config alone, the file alone
        assert main(["info", path]) == 0
        alone = capsys.readouterr().out
        assert table in alone and "classes no, yes" in alone
    assert "test accuracy" in alone


def test_a_file_is_shown_with_the_layers_inside_containers_and_its_origin(at_home, capsys):
    assert main(["info", "m.keras"]) == 0
    text = capsys.readouterr().out
    assert ["body", "Sequential", "(batch,", "8,", "3)", "18", "6", "72", "3"] in cells(text)
    assert "\n  conv1d" in text and ["format", ".keras,", "Keras", "3.15.1"] in cells(text)
    assert ["total", "32", "6", "124"] in cells(text)


def test_of_a_stream_delays_states_and_work_are_shown(at_home, capsys, error_line):
    assert main(["info", "m.keras", "--stream", "--pooling", "cumulative"]) == 0
    rows = cells(capsys.readouterr().out)
    # two kept steps of one channel; 9 products for each step
    assert ["body/conv1d", "Conv1D", "(batch,", "None,", "3)", "1", "2", "0", "3", "8", "9"] in rows
    assert ["total", "1", "2", "0", "-", "24", "19"] in rows
    assert "window=W" in error_line("info", "m.keras", "--stream")
    assert "--stream" in error_line("info", "m.keras", "--axis", "2")


def test_several_inputs_are_shown(at_home, capsys):
    assert main(["info", "two.keras"]) == 0
    assert "(batch, 4, 1), (batch, 4, 1)" in capsys.readouterr().out


def test_without_an_input_shape_the_layers_are_named_and_the_option_is(at_home, capsys):
    assert main(["info", "shapeless.keras"]) == 0
    text = capsys.readouterr().out
    assert "dense: Dense(" in text and "--input-shape" in text
    assert main(["info", "shapeless.keras", "--input-shape", "3"]) == 0
    text = capsys.readouterr().out
    assert ["total", "8", "0", "6"] in cells(text) and "--input-shape" not in text


@pytest.mark.parametrize("command", [["info"], ["info", "--stream"], ["tune"], ["export"], ["stream"]])
def test_a_shape_for_which_the_file_has_no_weights_is_an_error(at_home, tmp_path, error_line, command):
    net = jc.Sequential([jc.Conv1D(4, 3, padding="causal")])
    file, out = str(tmp_path / "m.keras"), str(tmp_path / "out.npy")
    jc.save_model(file, net, net.init(jax.random.key(0), (None, 9, 1))[0], input_shape=(None, None, 1))
    rest = {"export": [out], "stream": ["x.npy", "--out", out]}.get(command[0], [])
    error = error_line(command[0], file, *rest, *command[1:], "--input-shape", "9,2")
    for fact in ("--input-shape 9,2", "conv1d/kernel", "(3, 2, 4)", "(3, 1, 4)", file, "(batch, None, 1)"):
        assert fact in error, error


def test_a_shape_for_which_a_run_has_no_weights_is_an_error(at_home, error_line, capsys):
    assert "conv1d/kernel" in error_line("info", "runs/tiny", "--input-shape", "10,2")
    assert main(["info", "tiny.toml", "--input-shape", "10,2"]) == 0  # a config has no weights
    assert main(["info", "runs/tiny", "--input-shape", "12,1"]) == 0
    assert "(batch, 12, 1)" in capsys.readouterr().out


def test_an_unknown_length_is_not_called_batch(at_home, tmp_path, capsys):
    net = jc.Sequential([jc.Conv1D(2, 3), jc.GlobalMaxPooling1D()])
    params, _ = net.init(jax.random.key(0), (None, 9, 4))
    jc.save_model(tmp_path / "m.keras", net, params, input_shape=(None, None, 4))
    assert main(["info", str(tmp_path / "m.keras")]) == 0
    text = capsys.readouterr().out
    assert "(batch, None, 4)" in text and "--input-shape" in text
    assert main(["info", str(tmp_path / "m.keras"), "--input-shape", "9,4"]) == 0
    assert "(batch, 7, 2)" in capsys.readouterr().out


def test_shapes_of_several_inputs_are_given_one_by_one(at_home, tmp_path, capsys, error_line):
    left, right = jc.Input((None, 1), name="left"), jc.Input((None, 3), name="right")
    net = jc.Model([left, right], jc.Concatenate()([jc.Conv1D(2, 3)(left), jc.Conv1D(2, 2)(right)]))
    file = str(tmp_path / "m.keras")
    jc.save_model(file, net, net.init(jax.random.key(0), [(None, 9, 1), (None, 8, 3)])[0])
    assert main(["info", file]) == 0
    hint = "--input-shape 128,1 --input-shape 128,3"
    assert hint in capsys.readouterr().out
    for command in (["info", file], ["export", file, str(tmp_path / "m.jaxexport")], ["tune", file]):
        error = error_line(*command, "--input-shape", "9,1")
        assert hint in error and "left, right" in error and "2 input" in error, error
    assert hint in error_line("tune", file)
    assert main(["info", file, "--input-shape", "9,1", "--input-shape", "8,3"]) == 0
    text = capsys.readouterr().out
    assert "(batch, 9, 1), (batch, 8, 3)" in text and "(batch, 7, 4)" in text and "--input-shape" not in text


@pytest.fixture(scope="module")
def keras_home(tmp_path_factory):
    """Return a folder with files of Keras: a model with a recurrent layer, in two formats, and its weights."""
    folder = tmp_path_factory.mktemp("keras")
    layers = keras.layers
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HDF5 is a legacy format
        memory = layers.RNN([layers.LSTMCell(3)] * 2, name="memory")
        model = keras.Sequential([keras.Input((7, 4)), layers.Conv1D(3, 3, name="conv"), memory])
        model.save(folder / "recurrent.keras")
        model.save(folder / "recurrent.h5")
        model.save_weights(folder / "only.weights.h5")
    return folder


@pytest.mark.parametrize("name", ["recurrent.keras", "recurrent.h5"])
def test_of_a_refused_file_the_layers_and_the_reason_are_shown(keras_home, capsys, name):
    assert main(["info", str(keras_home / name)]) == 0
    text = capsys.readouterr().out
    assert ["conv", "Conv1D"] in cells(text) and ["memory", "RNN"] in cells(text)
    assert "123 parameters" in text and "'memory'" in text and f"Keras {keras.__version__}" in text


def test_of_a_file_of_weights_names_and_shapes_are_shown(keras_home, tmp_path, capsys):
    assert main(["info", str(keras_home / "only.weights.h5")]) == 0
    text = capsys.readouterr().out
    assert "[3, 4, 3]" in text and "123 parameters" in text and "load_weights" in text
    pytest.importorskip("safetensors")
    jc.save_params(tmp_path / "p.safetensors", {"dense": {"kernel": np.ones((3, 2))}})
    assert main(["info", str(tmp_path / "p.safetensors")]) == 0
    assert ["dense/kernel", "[3,", "2]"] in cells(capsys.readouterr().out)


def test_of_an_exported_model_inputs_and_platforms_are_shown(at_home, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    assert main(["export", "m.keras", str(tmp_path / "m.jaxexport"), "--platforms", "cpu"]) == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "m.jaxexport")]) == 0
    rows = cells(capsys.readouterr().out)
    assert ["input", "(batch,", "10,", "1)"] in rows and ["for", "cpu"] in rows


def test_equal_notes_are_one_line(at_home, capsys, monkeypatch):
    read = read_model("m.keras")._replace(notes=tuple(f"conv{i}: nb_filter is filters" for i in range(17)))
    monkeypatch.setattr("jaxconv.app.model_source.read_model", lambda path, **options: read)
    assert main(["info", "m.keras"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert len(notes) == 1 and "17 layers" in notes[0] and "conv0" in notes[0]


def test_control_characters_in_a_file_do_not_reach_the_terminal(at_home, tmp_path, capsys, error_line):
    net = jc.Sequential([jc.Dense(2)])
    params, _ = net.init(jax.random.key(0), (None, 3))
    evil = "\x1b]0;owned\x07\x9b2J\u202e"
    about = {"name": evil, "test": {"loss": 1.0, evil: 2.0}, "classes": [evil]}
    jc.save_model(tmp_path / "m.keras", net, params, input_shape=(None, 3), about=about)
    assert main(["info", str(tmp_path / "m.keras")]) == 0
    text = capsys.readouterr().out
    assert "owned" in text and all(c.isprintable() or c == "\n" for c in text)
    error = error_line("info", f"no{evil}such")
    assert "owned" in error and all(c.isprintable() or c == "\n" for c in error)


# What devices exchange


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--shard", "time"], ["--shard", "--devices"]),
        (["--devices", "1"], ["--devices 1", "2"]),
        (["--devices", "900"], ["--devices 900", "force_host_platform_device_count=900"]),
        (["--devices", "4", "--shard", "depth"], ["--shard depth", "(batch, 10, 1)", "batch, time"]),
        (["--devices", "4", "--shard", "2"], ["--shard 2", "batch, time"]),
        (["--devices", "4", "--shard", "time"], ["--shard time", "10", "8 or 12", "--input-shape"]),
        (["--devices", "4", "--batch", "2"], ["--shard batch", "2", "4 devices", "at least 4", "--batch"]),
        (["--devices", "4", "--batch", "0"], ["--batch 0"]),
        (["--devices", "4", "--stream"], ["--stream", "--devices"]),
    ],
)
def test_a_mistake_about_devices_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("info", "tiny.toml", *arguments)
    for fact in facts:
        assert fact in error, error


@pytest.mark.parametrize(
    ("shard", "conv"),
    [
        ([], ["(8,", "8,", "2)", "-", "reduce", str(3 * 2 * 4 + 2 * 4)]),
        pytest.param(["--shard", "steps"], ["(8,", "8,", "2)", "permute"], marks=pytest.mark.slow),
        pytest.param(["--shard", "1"], ["(8,", "8,", "2)", "permute"], marks=pytest.mark.slow),
    ],
)
def test_what_each_layer_makes_devices_exchange_is_shown(at_home, capsys, shard, conv):
    assert main(["info", "tiny.toml", "--devices", "2", *shard]) == 0
    rows = cells(capsys.readouterr().out)
    assert ["conv1d", "Conv1D", *conv] in [row[: 2 + len(conv)] for row in rows]
    assert ["total"] in [row[:1] for row in rows]
