"""``jaxconv predict``: the outputs of the model, one batch in memory at a time, and no files after a failure."""

import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxconv.app import prediction
from jaxconv.cli.command_line import main
from jaxconv.files.loading import load_model
from jaxconv.training import evaluation


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["runs/tiny", "x.npy", "--out", "x.npy"], ["x.npy", "--force"]),
        (["runs/tiny", "x.npy", "--out", "x.npy", "--force"], ["--out x.npy"]),
        (["runs/tiny", "x.npy", "--out", "y.csv"], ["y.csv", ".npy"]),
        (["runs/tiny", "x.npy", "--out", "no/y.npy"], ["no/y.npy"]),
        (["runs/tiny", "x.npy", "--out", "y.npy", "--batch", "0"], ["--batch 0", "at least 1"]),
        (["runs/tiny", "no.npy", "--out", "y.npy"], ["no.npy"]),
        (["runs/tiny", "tiny.toml", "--out", "y.npy"], ["tiny.toml", ".npy"]),
        (["tiny.npz", "x.npy", "--out", "y.npy"], ["tiny.npz"]),
        (["two.keras", "x.npy", "--out", "y.npz"], ["two.keras takes 2 inputs: left, right", "got x.npy", ".npz"]),
        (["two.keras", "tiny.npz", "--out", "y.npz"], ["'left'", "x_train"]),
        (
            ["two.keras", *["x.npy"] * 3, "--out", "y.npz"],
            ["2 inputs: left, right", "3 files", "in this order"],
        ),
        (["two.keras", "x.npy", "x.npy", "--out", "y.npy"], ["(total, difference)", ".npz"]),
        (["two.keras", "x.npy", "x.npy", "--out", "y.npz"], ["(16, 10, 1)", "(batch, 4, 1)"]),
        (["m.keras", "x.npy", "x.npy", "--out", "y.npy"], ["one input", "2 files", "one .npy file"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("predict", *arguments)
    for fact in facts:
        assert fact in error, error


@pytest.mark.parametrize(
    ("x", "facts"),
    [
        (np.zeros((3, 10), "float32"), ["(3, 10)", "(batch, 10, 1)"]),
        (np.zeros((3, 10, 2), "float32"), ["(3, 10, 2)", "(batch, 10, 1)"]),
        (np.zeros((3, 10, 1), "complex64"), ["complex64"]),
        (np.zeros((0, 10, 1), "float32"), ["(0, 10, 1)", "at least one"]),
        (np.zeros((3, 0, 1), "float32"), ["(3, 0, 1)", "at least one"]),
    ],
    ids=["rank", "channels", "complex", "no examples", "no steps"],
)
def test_an_input_that_does_not_fit_is_refused(at_home, tmp_path, error_line, x, facts):
    np.save(tmp_path / "x.npy", x)
    error = error_line("predict", "runs/tiny", str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy"))
    for fact in facts:
        assert fact in error, error
    assert os.listdir(tmp_path) == ["x.npy"]


def test_predictions_are_those_of_the_model_for_every_batch_size(at_home, tmp_path, capsys):
    params, apply_fn = load_model("runs/tiny/model.keras")
    expected = np.asarray(apply_fn(params, np.load("x.npy")))
    for batch in ("7", "16", "100"):
        out = str(tmp_path / f"y{batch}.npy")
        assert main(["predict", "runs/tiny", "x.npy", "--out", out, "--batch", batch]) == 0
        printed = capsys.readouterr().out
        assert "16" in printed and "(2,)" in printed and out in printed
        # sums of another batch size may be rounded differently, by a few units in the last place of float32
        np.testing.assert_allclose(np.load(out), expected, rtol=1e-5)
        assert np.load(out).dtype == np.float32


def test_numbers_of_every_type_and_byte_order_are_converted(at_home, tmp_path):
    x = np.arange(30).reshape(3, 10, 1) * 200_000_000  # beyond int32
    types = ("int64", ">i8", ">f4", "float64")
    for dtype in types:
        np.save(tmp_path / f"{dtype}.npy", x.astype(dtype))
        out = str(tmp_path / f"{dtype}_y.npy")
        assert main(["predict", "runs/tiny", str(tmp_path / f"{dtype}.npy"), "--out", out]) == 0
    for dtype in types[:-1]:
        np.testing.assert_array_equal(np.load(tmp_path / f"{dtype}_y.npy"), np.load(tmp_path / "float64_y.npy"))


def test_the_input_stays_on_disk_and_the_output_appears_when_complete(at_home, tmp_path, monkeypatch):
    batches, out = [], tmp_path / "y.npy"

    def observed(apply_fn, params, x, batch_size, **options):
        assert isinstance(x, np.memmap)
        for rows in evaluation.predict_batches(apply_fn, params, x, batch_size, **options):
            batches.append(len(rows))
            assert not out.exists()
            yield rows

    monkeypatch.setattr(prediction, "predict_batches", observed)
    assert main(["predict", "runs/tiny", "x.npy", "--out", str(out), "--batch", "8"]) == 0
    assert batches == [8, 8] and np.load(out).shape == (16, 2)


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "name"),
    [
        ("runs/tiny", ["x.npy"], np.zeros((8, 2), "float32"), "y.npy"),
        ("two.keras", ["four.npy", "four.npy"], [np.zeros((2, 4, 1), "float32")] * 2, "y.npz"),
    ],
)
def test_an_interrupted_prediction_leaves_no_file(at_home, tmp_path, monkeypatch, model, inputs, outputs, name):
    np.save("four.npy", np.zeros((5, 4, 1)))

    def interrupted(*args, **options):
        yield outputs
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_batches", interrupted)
    assert main(["predict", model, *inputs, "--out", str(tmp_path / name)]) == 130
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_overwritten_only_with_force(at_home, tmp_path, error_line):
    out = tmp_path / "y.npy"
    out.write_bytes(b"mine")
    assert "--force" in error_line("predict", "runs/tiny", "x.npy", "--out", str(out))
    assert out.read_bytes() == b"mine"
    assert main(["predict", "runs/tiny", "x.npy", "--out", str(out), "--force"]) == 0
    assert np.load(out).shape == (16, 2)


def test_a_folder_may_have_any_name(at_home, tmp_path):
    folder = tmp_path / "it has version 9 of the jaxconv exported model format"
    folder.mkdir()
    model = shutil.copy("runs/tiny/model.keras", folder)
    assert main(["predict", str(model), "x.npy", "--out", str(tmp_path / "y.npy")]) == 0


@pytest.mark.parametrize(
    ("model", "inputs", "name"), [("runs/tiny", ["x.npy"], "y.npy"), ("two.keras", ["four.npy", "four.npy"], "y.npz")]
)
def test_a_full_disk_is_named_and_leaves_no_file(at_home, tmp_path, capsys, model, inputs, name):
    np.save("four.npy", np.zeros((5, 4, 1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))  # no file can be larger
    try:
        assert main(["predict", model, *inputs, "--out", str(tmp_path / name)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path / name) in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir(tmp_path) == []


def test_several_inputs_and_outputs(at_home, tmp_path, monkeypatch, capsys, error_line):
    model = str(Path("two.keras").resolve())
    monkeypatch.chdir(tmp_path)
    left, right = np.arange(20.0).reshape(5, 4, 1), np.ones((5, 4, 1))
    np.save("left.npy", left), np.save("right.npy", right), np.save("short.npy", right[:3])
    np.savez("both.npz", right=right, left=left)
    for out, files in (("a.npz", ["left.npy", "right.npy"]), ("b.npz", ["both.npz"])):
        assert main(["predict", model, *files, "--out", out, "--batch", "2"]) == 0
        with np.load(out) as y:
            np.testing.assert_array_equal(y["total"], left + right)
            np.testing.assert_array_equal(y["difference"], left - right)
    capsys.readouterr()
    error = error_line("predict", model, "left.npy", "short.npy", "--out", "c.npz")
    assert "left has 5, right has 3" in error
