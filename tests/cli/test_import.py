"""Custom layers on the command line: a config imports a file next to it; run folders and model files do not."""

import sys

import numpy as np
import pytest

from jaxconv.app import own_layers
from jaxconv.cli.command_line import main
from jaxconv.contract import layers
from tests.support.messages import facts
from tests.support.small_run import write_small_run

MODULE = """
from typing import Any
from jaxconv.contract import POINTWISE, Effects, Layer, Weight, layers, register
from beside import POWER

@register(layers)
class OwnGate(Layer):
    gate_initializer: Any = "ones"
    def windows(self, input_shape): return (POINTWISE,) * (len(input_shape) - 1)
    def weights(self, input_shape): return {"gate": Weight((input_shape[-1],), self.gate_initializer)}
    def call(self, params, x, *, train, key, mask):
        return x * (params["gate"].astype(x.dtype) ** POWER)[(None,) * (x.ndim - 1)], Effects()
"""


def forget():
    """Make this process one that has not imported the file."""
    own_layers._import.cache_clear()
    for name in ("OwnGate", "own_gate"):
        layers._entries.pop(name, None)
    for name in ("beside", "jaxconv_import_my_layers"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    config = write_small_run(tmp_path)
    text = config.read_text().replace(
        '[[model.layers]]\nlayer = "Dropout"\nrate = 0.2', '[[model.layers]]\nlayer = "OwnGate"'
    )
    config.write_text(
        text.replace("[[model", '[model]\nimport = "code/my_layers.py"\ndtype = "mixed_bfloat16"\n[[model', 1)
    )
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "my_layers.py").write_text(MODULE)
    (tmp_path / "code" / "beside.py").write_text("POWER = 2\n")
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def test_a_config_imports_its_layers_and_its_run_does_not(folder, error_line, capsys):
    assert main(["train", "tiny.toml", "--out", "run", "--set", "train.epochs=1"]) == 0
    kept = (folder / "run" / "my_layers.py").read_text()
    assert kept == MODULE and 'import = "my_layers.py"' in (folder / "run" / "config.toml").read_text()
    assert main(["info", "tiny.toml"]) == 0 and "OwnGate" in capsys.readouterr().out
    (folder / "run" / "beside.py").write_text("POWER = 2\n")
    commands = [
        ["info", "run"],
        ["evaluate", "run"],
        ["predict", "run", "x.npy", "--out", "y.npy"],
        ["train", "--resume", "run", "--set", "train.epochs=2"],
    ]
    (folder / "run" / "my_layers.py").write_text(MODULE + "\nopen('ran', 'w')\n")
    for command in commands:
        forget()
        text = error_line(*command)
        assert "OwnGate" in text and "--import" in text and not (folder / "ran").exists()
        if command[0] != "predict":
            assert "run/my_layers.py" in text
    (folder / "run" / "my_layers.py").write_text(MODULE)
    for command in commands:
        forget()
        assert main([*command, "--import", "run/my_layers.py"]) == 0
    assert np.load("y.npy").shape == (16, 2)
    forget()
    assert (
        main(["train", "run/config.toml", "--out", "again"]) == 0
    )  # it is named on the command line, and so is its file
    assert (folder / "again" / "my_layers.py").exists()


def test_an_error_in_ones_own_layer_names_its_line(folder, error_line):
    path = folder / "code" / "my_layers.py"
    path.write_text(MODULE.replace("** POWER", "** POWRE"))
    line = 1 + MODULE[: MODULE.index("** POWER")].count("\n")
    text = error_line("train", "tiny.toml")
    assert f"my_layers.py, line {line}" in text and "NameError" in text and "bug" not in text


@pytest.mark.slow
def test_fine_tuning_keeps_the_import(folder):
    assert main(["train", "tiny.toml", "--out", "run", "--set", "train.epochs=1"]) == 0
    forget()
    assert main(["train", "tiny.toml", "--from", "run", "--freeze", "conv1d", "--out", "tuned"]) == 0
    assert (folder / "tuned" / "my_layers.py").exists()


@pytest.mark.parametrize(
    "setting, parts",
    [
        ('model.import="none.py"', ['model.import = "none.py"', "No such file"]),
        ('model.import="tiny.npz"', ['model.import = "tiny.npz"', "Python file"]),
        ("model.import=3", ["model.import = 3", "Python file"]),
        ('model.import="bad.py"', ['model.import = "bad.py"', "ZeroDivisionError"]),
        ('model.imports="my_layers.py"', ["model.imports", "'import'"]),
        ('model.dtype="bfloat17"', ['model.dtype = "bfloat17"', "'bfloat16'"]),
    ],
)
def test_a_wrong_import_is_a_line(folder, error_line, setting, parts):
    (folder / "bad.py").write_text("1 / 0\n")
    with pytest.raises(AssertionError, match=facts(*parts)):
        raise AssertionError(error_line("train", "tiny.toml", "--set", setting))
