"""``jaxconv explain``: the picture, and one-line errors."""

import importlib
import os

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main


def test_a_picture_is_drawn(at_home, tmp_path, capsys):
    out = tmp_path / "picture.png"
    assert main(["explain", "runs/tiny", "x.npy", "--target", "0", "--method", "gradient", "--out", str(out)]) == 0
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert str(out) in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["picture.png"]


def test_each_input_is_drawn(tmp_path, error_line, monkeypatch):
    shapes = {"signal": (9, 2), "features": (4,), "image": (5, 6, 1)}
    inputs = {name: jc.Input(shape, name=name) for name, shape in shapes.items()}
    parts = [jc.GlobalAveragePooling1D()(inputs["signal"]), inputs["features"], jc.Flatten()(inputs["image"])]
    model = jc.Model(list(inputs.values()), jc.Dense(2, "sigmoid")(jc.Concatenate()(parts)))
    monkeypatch.chdir(tmp_path)
    jc.save_model("three.keras", model, model.init(jax.random.key(0))[0])
    for name, shape in shapes.items():
        np.save(f"{name}.npy", np.arange(2.0 * np.prod(shape)).reshape(2, *shape) / 9)
    files = [f"{name}.npy" for name in shapes]
    drawn = []
    module = importlib.import_module("jaxconv.inspect.plot.heat")
    monkeypatch.setattr(module, "heat", lambda *args, ax: drawn.append((*args, ax)) or ax.figure)
    assert main(["explain", "three.keras", *files, "--example", "1", "--method", "gradient", "--out", "p.png"]) == 0
    for (values, x, ax), (name, shape) in zip(drawn, shapes.items(), strict=True):
        assert values.shape == shape and ax.get_title() == name
        assert (ax.get_xlabel() == "feature") == (name == "features")
        assert x is None if name == "features" else x.max() == np.load(f"{name}.npy")[1].max().astype("f4")
    alone = jc.Dense(2)
    jc.save_model("one.keras", jc.Sequential([alone]), jc.Sequential([alone]).init(jax.random.key(0), (None, 4))[0])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "one.keras", "features.npy", "--out", "one.png", "--method", "gradient"]) == 0
    assert "three.keras takes 3 inputs" in error_line("explain", "three.keras", *files[:2], "--out", "q.png")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["runs/tiny", "x.npy", "--out", "p.jpg"], ["p.jpg", ".png"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--target", "99"], ["99", "classes"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--example", "99999"], ["99999", "x.npy"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--method", "integrate"], ["integrate", "integrated"]),
        (["runs/tiny", "no.npy", "--out", "p.png"], ["no.npy"]),
        (["two.keras", "x.npy", "--out", "p.png"], ["x.npy", ".npz"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("explain", *arguments)
    for fact in facts:
        assert fact in error, error
    assert not os.path.exists("p.png")


def test_a_picture_is_overwritten_only_with_force(at_home, tmp_path, error_line):
    out = tmp_path / "picture.png"
    out.write_bytes(b"mine")
    assert "--force" in error_line("explain", "runs/tiny", "x.npy", "--out", str(out))
    assert out.read_bytes() == b"mine"
