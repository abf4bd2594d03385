"""The command line at work on model files: info, predict, convert, export, and training that begins with one."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main
from jaxconv.files.loading import load_layer, load_model

pytest.importorskip("h5py")

COMMANDS = ("info", "convert", "export", "predict", "train")
CONFIG = """
[data]
source = "npz"
path = "{path}"
[train]
loss = "sparse_categorical_crossentropy"
optimizer = {{name = "sgd", learning_rate = 0.5}}
epochs = 3
batch_size = 8
checkpoint_every = 1
"""


def tower():
    """Give a small classifier with a nested part and a normalization, as a graph."""
    x = jc.Input((10, 1), name="signal")
    body = jc.Sequential(
        [jc.Conv1D(3, 3, kernel_constraint="max_norm"), jc.BatchNormalization(), jc.ReLU()], name="body"
    )
    y = jc.Conv1D(2, 1, name="conv_head", activation="relu")(body(x))
    return jc.Model(x, jc.Dense(2, activation="softmax", name="out")(jc.GlobalMaxPooling1D()(y)))


def two_ways():
    """Give a model of two inputs and two outputs."""
    left, right = jc.Input((4, 1), name="left"), jc.Input((4, 1), name="right")
    total = jc.Add(name="total")([left, right])
    return jc.Model([left, right], [total, jc.Subtract(name="difference")([left, right])])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 10, 1)).astype("float32"), np.arange(24) % 2
    np.savez(home / "d.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    np.save(home / "x.npy", x)
    (home / "d.toml").write_text(CONFIG.format(path=home / "d.npz"))
    for name, model in (("m", tower()), ("two", two_ways())):
        jc.save_model(home / f"{name}.keras", model, model.init(jax.random.key(1))[0])
    (home / "text.keras").write_text("hello")
    dense, _ = jc.Dense(2).init(jax.random.key(0), (None, 3))
    jc.save_model(home / "shapeless.keras", jc.Sequential([jc.Dense(2)]), {"dense": dense})
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def refused(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count("\n") == 1
    return error.removeprefix("jaxconv: error: ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["info", "text.keras"], ["text.keras", "neither a .keras archive nor HDF5"]),
        (["convert", "m.keras", "new.h5"], ["new.h5", ".keras, .safetensors"]),
        (["convert", "m.keras", "two.keras"], ["two.keras exists already", "--force"]),
        (["convert", "m.keras", "m.keras", "--force"], ["m.keras is the file to read"]),
        (["convert", "m.keras", "n.keras", "--until", "bdy"], ["bdy", "body"]),
        (["convert", "text.keras", "n.keras"], ["text.keras"]),
        (["convert", "no.h5", "n.keras"], ["no.h5: there is no such run folder or model file"]),
        (["convert", "m.keras", "no/n.keras"], ["no/n.keras"]),
        (["export", "m.keras", "m.jaxexport", "--platforms", "cpu,gpu"], ["gpu", "cpu, cuda, tpu"]),
        (["export", "m.keras", "two.keras"], ["two.keras exists already", "--force"]),
        (["export", "shapeless.keras", "n.jaxexport"], ["shapeless.keras does not say", "--input-shape 48,48,1"]),
        (["export", "shapeless.keras", "n.jaxexport", "--input-shape", "a"], ["--input-shape a", "48,48,1"]),
        (["predict", "two.keras", "x.npy", "--out", "y.npz"], ["x.npy is a single array", "left, right"]),
        (["predict", "two.keras", "d.npz", "--out", "y.npz"], ["holds no 'left'", "x_train"]),
        (["predict", "two.keras", *["x.npy"] * 3, "--out", "y.npz"], ["takes 2 inputs: left, right; got 3 files"]),
        (["predict", "two.keras", "x.npy", "x.npy", "--out", "y.npy"], ["(total, difference)", "ends in .npz"]),
        (["predict", "two.keras", "x.npy", "x.npy", "--out", "y.npz"], ["(24, 10, 1)", "(batch, 4, 1)"]),
        (["predict", "m.keras", "x.npy", "x.npy", "--out", "y.npy"], ["takes one input; got 2 files"]),
        (["train", "d.toml"], ["d.toml", "model"]),
        (["train", "d.toml", "--freeze", "conv*"], ["--freeze conv*", "--from MODEL"]),
        (["train", "--resume", "r", "--from", "m.keras"], ["--resume", "--from"]),
        (["train", "d.toml", "--from", "no.keras"], ["no.keras: there is no such run folder or model file"]),
        (["train", "d.toml", "--from", "m.keras", "--freeze", "dense*"], ["--freeze dense*", "body/conv1d", "out"]),
        (["train", "d.toml", "--from", "m.keras", "--freeze", "*"], ["--freeze * leaves no weights to train"]),
        (["train", "d.toml", "--from", "m.keras", "--set", "model.freeze=[]"], ["--set model.freeze", "m.keras"]),
        (["train", "d.toml", "--from", "two.keras"], ["two.keras does not take the data, of shape (None, 10, 1)"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in COMMANDS else None,
)
def test_a_mistake_gets_one_line(at_home, capsys, arguments, parts):
    said = refused(capsys, *arguments)
    for part in parts:
        assert part in said, said


def test_a_missing_package_is_named_with_what_to_install(at_home, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'jaxconv[" in refused(capsys, "info", "m.keras")


def test_info_of_a_file_shows_what_is_inside_containers_and_where_it_came_from(at_home, capsys):
    assert main(["info", "m.keras"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines]
    assert ["body", "Sequential", "(batch,", "8,", "3)", "18", "6", "72", "3"] in cells
    assert "  conv1d" in [line[:8] for line in lines] and ["format", ".keras,", "Keras", "3.15.1"] in cells
    assert ["total", "32", "6", "124"] in cells


def test_info_of_several_inputs_and_outputs(at_home, capsys):
    assert main(["info", "two.keras"]) == 0
    assert "(batch, 4, 1), (batch, 4, 1)" in capsys.readouterr().out


def test_several_inputs_and_outputs_are_predicted_from_files_and_from_an_archive(at_home, capsys):
    left, right = np.arange(20.0).reshape(5, 4, 1), np.ones((5, 4, 1))
    np.save("left.npy", left), np.save("right.npy", right)
    np.savez("both.npz", right=right, left=left)
    for given in (["left.npy", "right.npy"], ["both.npz"]):
        assert main(["predict", "two.keras", *given, "--out", "y.npz", "--batch", "2"]) == 0
        assert "5 predictions of shape (4, 1), (4, 1) in y.npz" in capsys.readouterr().out
        with np.load("y.npz") as y:
            np.testing.assert_array_equal(y["total"], left + right)
            np.testing.assert_array_equal(y["difference"], left - right)
    np.save("short.npy", right[:3])
    said = refused(capsys, "predict", "two.keras", "left.npy", "short.npy", "--out", "y2.npz")
    assert "left has 5, right has 3" in said


def test_an_interrupted_prediction_of_several_outputs_leaves_nothing(at_home, monkeypatch):
    from jaxconv.app import prediction

    def failing(*args):
        yield [np.zeros((2, 4, 1), "float32")] * 2
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_batches", failing)
    np.savez("both2.npz", left=np.zeros((5, 4, 1)), right=np.zeros((5, 4, 1)))
    before = sorted(os.listdir())
    assert main(["predict", "two.keras", "both2.npz", "--out", "y3.npz"]) == 130
    assert sorted(os.listdir()) == before


def test_convert_writes_the_same_model_and_says_what_was_unusual(at_home, capsys):
    assert main(["convert", "m.keras", "again.keras"]) == 0
    assert "m.keras (.keras, Keras 3.15.1): the model with its 38 parameters in again.keras" in capsys.readouterr().out
    (layer, params), (other, same) = load_layer("m.keras"), load_layer("again.keras")
    assert layer == other
    jax.tree.map(np.testing.assert_array_equal, params, same)
    assert main(["convert", "m.keras", "again.keras", "--force", "--until", "body"]) == 0
    assert load_layer("again.keras")[0].output_shape((None, 10, 1)) == (None, 8, 3)


def test_convert_prints_the_notes_of_the_reader(at_home, capsys, monkeypatch):
    from jaxconv.files import conversion

    read = conversion.read_model("m.keras")._replace(notes=("conv: nb_filter is filters",))
    monkeypatch.setattr(conversion, "read_model", lambda *args, **options: read)
    assert main(["convert", "m.keras", "noted.keras"]) == 0
    assert "note: conv: nb_filter is filters\n" in capsys.readouterr().out


def test_convert_writes_params_alone(at_home):
    pytest.importorskip("safetensors")
    assert main(["convert", "m.keras", "m.safetensors"]) == 0
    jax.tree.map(np.testing.assert_array_equal, load_model("m.keras")[0], jc.load_params("m.safetensors"))


def test_an_exported_model_predicts_the_same(at_home, capsys):
    pytest.importorskip("flatbuffers")
    params, apply_fn = load_model("m.keras")
    expected = np.asarray(apply_fn(params, np.load("x.npy")))
    for options in ([], ["--optimize", "--platforms", "cpu", "--force"]):
        assert main(["export", "m.keras", "m.jaxexport", *options]) == 0
        assert main(["predict", "m.jaxexport", "x.npy", "--out", "e.npy", "--batch", "7"]) == 0
        # folding moves the values by a few roundings of float32
        np.testing.assert_allclose(np.load("e.npy"), expected, atol=1e-5)
    capsys.readouterr()
    np.save("wide.npy", np.zeros((3, 10, 2), "float32"))
    said = refused(capsys, "predict", "m.jaxexport", "wide.npy", "--out", "w.npy")
    assert "(3, 10, 2)" in said and "(batch, 10, 1)" in said


def test_an_exported_model_of_several_inputs_predicts(at_home):
    pytest.importorskip("flatbuffers")
    np.save("ones.npy", np.ones((5, 4, 1)))
    assert main(["export", "two.keras", "two.jaxexport", "--platforms", "cpu"]) == 0
    assert main(["predict", "two.jaxexport", "ones.npy", "ones.npy", "--out", "e2.npz"]) == 0
    with np.load("e2.npz") as y:
        np.testing.assert_array_equal(y["output_0"], np.full((5, 4, 1), 2.0))


def test_export_takes_the_input_shape_that_the_file_does_not_say(at_home):
    pytest.importorskip("flatbuffers")
    assert main(["export", "shapeless.keras", "s.jaxexport", "--input-shape", "3", "--platforms", "cpu"]) == 0
    assert jc.load_exported("s.jaxexport")(np.ones((2, 3), "float32")).shape == (2, 2)


def weights(path):
    return {jax.tree_util.keystr(at): np.asarray(leaf) for at, leaf in jax.tree_util.tree_leaves_with_path(path)}


def test_fine_tuning_leaves_frozen_layers_as_they_are_bit_for_bit(at_home, capsys):
    assert main(["train", "d.toml", "--from", "m.keras", "--freeze", "body/conv*", "--freeze", "batch*"]) == 0
    before, after = weights(load_model("m.keras")[0]), weights(load_model("runs/d/model.keras")[0])
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert same == {name for name in before if "body" in name}  # moving statistics too
    assert len(same) == 6 and len(before) == 10
    layer = load_layer("runs/d/model.keras")[0]
    assert not layer.children["body"].children["conv1d"].trainable and layer.children["out"].trainable
    assert main(["evaluate", "runs/d"]) == 0 and main(["predict", "runs/d", "x.npy", "--out", "t.npy"]) == 0
    assert main(["info", "runs/d"]) == 0
    assert json.loads(Path("runs/d/results.json").read_text())["epochs"] == 3


def test_a_fine_tuned_run_resumes_without_the_file_that_it_began_with(at_home, tmp_path):
    arguments = ["d.toml", "--freeze", "body"]
    assert main(["train", *arguments, "--from", "m.keras", "--out", str(tmp_path / "whole")]) == 0
    gone = tmp_path / "gone.keras"
    gone.write_bytes(Path("m.keras").read_bytes())
    stopped = tmp_path / "stopped"
    first = [*arguments, "--from", str(gone), "--out", str(stopped), "--set", "train.epochs=1"]
    assert main(["train", *first]) == 0
    gone.unlink()
    assert main(["train", "--resume", str(stopped), "--set", "train.epochs=3"]) == 0
    for name in ("model.keras", "metrics.csv", "config.toml"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert main(["train", str(stopped / "config.toml"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == (stopped / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('file = "m.keras"\nlayers = []', "a model has either layers or a file"),
        ('freeze = ["conv*"]', "model.file"),
        ('file = "m.keras"\nfreeze = "conv*"', 'model.freeze = "conv*"'),
    ],
)
def test_a_config_that_begins_with_a_file_is_checked(at_home, capsys, table, says):
    Path("f.toml").write_text(f"[model]\n{table}\n" + CONFIG.format(path="d.npz"))
    assert says in refused(capsys, "train", "f.toml")


def test_a_model_of_another_number_of_classes_is_refused(at_home, capsys):
    model = jc.Sequential([jc.Flatten(), jc.Dense(5)], input_shape=(10, 1))
    jc.save_model("five.keras", model, model.init(jax.random.key(0))[0])
    said = refused(capsys, "train", "d.toml", "--from", "five.keras")
    assert "five.keras gives 5 outputs, but the data has 2 classes" in said
