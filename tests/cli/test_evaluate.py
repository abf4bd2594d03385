"""``jaxconv evaluate``: the metrics of the run, on its own and on the user's data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxconv.cli.command_line import main


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["runs/tony"], ["runs/tony"]),
        (["runs"], ["runs", "model.keras", "runs/tiny"]),
        (["tiny.npz"], ["tiny.npz", "config.toml"]),
        (["tiny.toml"], ["tiny.toml", "jaxconv train tiny.toml"]),
        (["runs/tiny", "--data", "runs"], ["--data 'runs'", "folder", ".npz"]),
        (["runs/tiny", "--data", "tiny.txt"], ["--data tiny.txt", "numpy.savez", "numpy.loadtxt"]),
        (["runs/tiny", "--data", "no.npz"], ["--data 'no.npz'"]),
        (["runs/tiny", "--data", "x.npy"], ["--data x.npy", "single array"]),
        (["runs/tiny", "--data", "junk.npz"], ["--data junk.npz"]),
        (["runs/tiny", "--data", "runs/tiny/model.keras"], ["'x'", "x_test and y_test"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("evaluate", *arguments)
    for fact in facts:
        assert fact in error, error


def test_it_prints_the_test_metrics_of_the_run(at_home, tmp_path, capsys):
    test = json.loads(Path("runs/tiny/results.json").read_text())["test"]
    expected = f"test accuracy {test['accuracy']:.4f}  (loss {test['loss']:.4f}), 8 samples\n"
    alone = str(shutil.copy("runs/tiny/model.keras", tmp_path))
    for arguments in (
        ["runs/tiny"],
        ["runs/tiny/model.keras"],
        ["runs/tiny", "--data", "tiny.npz"],
        [alone, "--data", "tiny.toml"],
    ):
        assert main(["evaluate", *arguments]) == 0
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize("dtype", ["U3", "S3"])
def test_own_data_has_the_labels_of_the_training_data(at_home, tmp_path, capsys, dtype):
    with np.load("tiny.npz") as arrays:
        np.savez(tmp_path / "own.npz", x=arrays["x_test"], y=arrays["y_test"].astype(dtype))
    assert main(["evaluate", "runs/tiny"]) == 0
    expected = capsys.readouterr().out
    assert main(["evaluate", "runs/tiny", "--data", str(tmp_path / "own.npz")]) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("y", "facts"),
    [
        (np.array(["maybe"] * 8), ["'maybe'", "no, yes"]),
        (np.array(["no"] * 3), ["8 samples", "3"]),
        (np.ones(8), ["float64", "no, yes"]),  # 1.0 must not count as the second class
        (np.array("no"), ["y", "()"]),
    ],
    ids=["unknown label", "length", "floats", "scalar"],
)
def test_own_data_that_does_not_fit_is_refused(at_home, tmp_path, error_line, y, facts):
    np.savez(tmp_path / "own.npz", x=np.zeros((8, 10, 1)), y=y)
    error = error_line("evaluate", "runs/tiny", "--data", str(tmp_path / "own.npz"))
    for fact in facts:
        assert fact in error, error
