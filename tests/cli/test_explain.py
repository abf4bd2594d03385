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
    command = ["explain", "three.keras", *files, "--example", "1", "--method", "gradient", "--out", "p.png"]
    assert main([*command, "--target", "1"]) == 0
    assert drawn[0][2].figure.get_suptitle() == "class 1"
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


def test_the_class_is_printed_and_is_the_title(at_home, tmp_path, capsys, monkeypatch):
    titles = []
    module = importlib.import_module("jaxconv.inspect.plot.heat")
    heats = module.heats
    monkeypatch.setattr(module, "heats", lambda *args, title: titles.append(title) or heats(*args, title=title))
    command = ["explain", "runs/tiny", "x.npy", "--example", "3", "--out", str(tmp_path / "p.png"), "--force"]
    targets = {"yes": "class 1 (yes)", "no": "class 0 (no)", "1": "class 1 (yes)", "-2": "class 0 (no)"}
    for target, what in targets.items():
        assert main([*command, "--target", target]) == 0
        assert f"example 3 of x.npy, {what}, explained by integrated" in capsys.readouterr().out
    assert titles == list(targets.values())


def test_the_highest_score_is_named(at_home, tmp_path, capsys):
    params, apply_fn = jc.load_model("runs/tiny/model.keras")
    best = int(np.argmax(apply_fn(params, np.load("x.npy")[5:6])))
    assert main(["explain", "runs/tiny", "x.npy", "--example", "5", "--out", str(tmp_path / "p.png")]) == 0
    assert f"class {best} ({['no', 'yes'][best]})" in capsys.readouterr().out


@pytest.fixture
def positions(tmp_path, monkeypatch):
    """Return the file of a model with an output at each step, with its input in ``x.npy``."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.arange(16.0).reshape(2, 8, 1))
    net = jc.Sequential([jc.Conv1D(2, 3, padding="causal")])
    jc.save_model("c.keras", net, net.init(jax.random.key(0), (None, 8, 1))[0])
    return "c.keras"


def test_an_output_at_a_step_is_explained(positions, capsys, monkeypatch):
    drawn = []
    module = importlib.import_module("jaxconv.inspect.plot.heat")
    monkeypatch.setattr(module, "heat", lambda *args, ax: drawn.append(args[0]) or module._heat_signal(*args, ax))
    command = ["explain", positions, "x.npy", "--out", "p.png", "--method", "gradient", "--target", "3,1"]
    assert main(command) == 0
    assert "output 3,1," in capsys.readouterr().out
    assert np.flatnonzero(drawn[0]).tolist() == [1, 2, 3]


def test_a_target_that_does_not_fit_the_positions_is_an_error(positions, error_line):
    command = ["explain", positions, "x.npy", "--out", "p.png", "--target"]
    for target, facts in {
        "3": ["--target 3", "(8, 2)", "2 integers", "--target 7,1"],
        "9,1": ["--target 9,1", "8 entries along axis 1"],
        "3,wave": ["--target 3,wave", "no labels", "2 classes"],
    }.items():
        error = error_line(*command, target)
        assert all(fact in error for fact in facts), error
    assert not os.path.exists("p.png")


def test_a_single_output_has_no_class(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((2, 4)))
    net = jc.Sequential([jc.Dense(1, "sigmoid")])
    params, _ = net.init(jax.random.key(0), (None, 4))
    jc.save_model("one.keras", net, params, about={"classes": ["no", "yes"]})
    assert main(["explain", "one.keras", "x.npy", "--out", "p.png", "--force"]) == 0
    assert "the only output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["runs/tiny", "x.npy", "--out", "p.png", "--target", "yse"], ["--target yse", "'yes'", "no, yes", "index"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--target", "1,1"], ["--target 1,1", "(2,)", "--target 1"]),
        (
            ["runs/tiny", "x.npy", "--out", "p.png", "--method", "gradient", "--baseline", "0"],
            ["baseline", "'gradient'", "'deeplift'"],
        ),
        (["two.keras", "two.npz", "--out", "p.png"], ["2 outputs", "total, difference"]),
        (["runs/tiny", "x.npy", "--out", "p.jpg"], ["p.jpg", ".png"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--target", "99"], ["99", "classes"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--example", "99999"], ["99999", "x.npy"]),
        (["runs/tiny", "x.npy", "--out", "p.png", "--method", "integrate"], ["integrate", "integrated"]),
        (["runs/tiny", "no.npy", "--out", "p.png"], ["no.npy"]),
        (["two.keras", "x.npy", "--out", "p.png"], ["x.npy", ".npz"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    np.savez("two.npz", left=np.ones((2, 4, 1)), right=np.ones((2, 4, 1)))
    error = error_line("explain", *arguments)
    for fact in facts:
        assert fact in error, error
    assert not os.path.exists("p.png")


def test_a_picture_is_overwritten_only_with_force(at_home, tmp_path, error_line):
    out = tmp_path / "picture.png"
    out.write_bytes(b"mine")
    assert "--force" in error_line("explain", "runs/tiny", "x.npy", "--out", str(out))
    assert out.read_bytes() == b"mine"
