"""``jaxconv tune``: its results, its output, --forget, and errors."""

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.cli.command_line import main
from tests.support.tuning import LAYER

CONFIG = """
name = "tiny"
[data]
source = "npz"
path = "tiny.npz"
[[model.layers]]
layer = "Conv1D"
filters = 4
kernel_size = 3
[[model.layers]]
layer = "GlobalAveragePooling1D"
[[model.layers]]
layer = "Dense"
units = 1
[train]
loss = "mean_squared_error"
epochs = 1
batch_size = 8
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Make a folder with a config, its data, and a model file with and without the shape of its input."""
    folder = tmp_path_factory.mktemp("models")
    x = np.ones((16, 10, 3), "float32")
    np.savez(folder / "tiny.npz", x_train=x, y_train=x[:, 0, :1], x_test=x, y_test=x[:, 0, :1])
    (folder / "tiny.toml").write_text(CONFIG)
    params, _ = LAYER.init(jax.random.key(0), (None, 12, 3))
    jaxconv.save_model(folder / "shapeless.keras", LAYER, params)
    jaxconv.save_model(folder / "model.keras", LAYER, params, input_shape=(None, 12, 3))
    return folder


@pytest.fixture
def home(models, file, monkeypatch):
    """Go to that folder."""
    monkeypatch.chdir(models)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["tiny.toml"], ["8x10x3 to 8x4, k3", "2 convolutions"]),
        (["tiny.toml", "--batch", "2", "--inference"], ["2x10x3 to 8x4, k3", "1 convolution:"]),
        (["model.keras"], ["32x12x3 to 12x4, k3", "2 convolutions"]),
        (["shapeless.keras", "--input-shape", "9,3"], ["32x9x3 to 9x4, k3"]),
        (["model.keras", "--forget"], ["no winners forgotten", "32x12x3 to 12x4, k3"]),
    ],
)
def test_the_command_tunes_configs_and_model_files(home, clock, capsys, words, lines):
    assert main(["tune", *words]) == 0
    said = capsys.readouterr()
    assert all(line in said.out for line in lines)
    assert said.err.startswith("convolution ")  # the progress


def test_help_names_an_example_and_the_variable(capsys):
    assert main(["tune", "--help"]) == 0
    said = capsys.readouterr().out
    assert "  jaxconv tune configs/gunpoint_fcn.toml" in said and "JAXCONV_TUNED=FILE" in said


@pytest.mark.slow
def test_forget_removes_the_winners(home, clock, capsys, file):
    assert main(["tune", "model.keras"]) == 0
    capsys.readouterr()
    assert main(["tune", "--forget"]) == 0
    assert capsys.readouterr().out == f"2 winners forgotten: {file}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "jaxconv tune needs a run folder, a model file or a config (or --forget, --table)"),
        (["nowhere"], "nowhere: no such run folder"),
        (["."], ". is not a run folder: it has no config.toml"),
        (["tiny.npz"], "tiny.npz"),
        (["shapeless.keras"], "--input-shape 128,16"),
        (["model.keras", "--input-shape", "12x3"], "--input-shape 12x3"),
        (["model.keras", "--input-shape", "12,0"], "--input-shape 12,0"),
        (["model.keras", "--input-shape", "12,3,1"], "Conv1D"),
        (["model.keras", "--batch", "0"], "--batch 0: expected at least 1"),
        (["model.keras", "--seconds", "-1"], "--seconds -1.0: expected 0 or more"),
        (["model.keras", "--dtype", "number"], "dtype='number'"),
    ],
)
def test_errors_are_one_line(home, clock, capsys, words, message):
    assert main(["tune", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_an_interrupted_command_reports_what_is_remembered(home, clock, capsys, monkeypatch):
    def run(programs, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    assert main(["tune", "model.keras"]) == 130
    assert "jaxconv: interrupted; 0 of 2 convolutions remembered in" in capsys.readouterr().err
