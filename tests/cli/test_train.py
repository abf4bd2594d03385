"""``jaxconv train``: mistakes, resumed runs, fine-tuning."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.cli.command_line import main
from jaxconv.files.loading import load_layer, load_model

pytest.importorskip("h5py")


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        ([], ["CONFIG", "--resume RUN"]),
        (["tony.toml"], ["tony.toml", "'tiny.toml'"]),
        (["tiny.npz"], ["tiny.npz", "TOML"]),
        (["runs/tiny"], ["runs/tiny", "--resume runs/tiny"]),
        (["tiny.toml", "--resume", "runs/tiny"], ["--resume", "CONFIG"]),
        (["tiny.toml", "--set", "train.epochs"], ["--set train.epochs", "KEY=VALUE"]),
        (["tiny.toml", "--set", "train.epochs=few"], ['train.epochs = "few"', "integer"]),
        (["tiny.toml", "--set", "data.path=no.npz"], ["tiny.toml: data.path", "'no.npz'", "tiny.npz"]),
        (["tiny.toml", "--set", "model.layers.4.units=3"], ["3 outputs", "2 classes (no, yes)"]),
        (["tiny.toml", "--out", "runs/tiny"], ["--out runs/tiny", "--resume runs/tiny"]),
        (["--resume", "runs/tony"], ["runs/tony", "config.toml"]),
        (["--resume", "runs/tiny", "--set", "train.epochs=1"], ["runs/tiny", "2 epochs", "at least 2"]),
        (["tiny.toml", "--freeze", "conv*"], ["--freeze conv*", "--from MODEL"]),
        (["--resume", "r", "--from", "m.keras"], ["--resume", "--from"]),
    ],
)
def test_a_mistake_is_one_line(at_home, error_line, arguments, facts):
    error = error_line("train", *arguments)
    for fact in facts:
        assert fact.replace("CONFIG", "config" if not arguments else "CONFIG") in error, error


def test_a_loss_that_is_not_finite_is_exit_code_1(at_home, tmp_path, capsys):
    rate = "train.optimizer={name='sgd', learning_rate=1e38}"
    assert main(["train", "tiny.toml", "--set", rate, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("jaxconv: error: ") and "learning rate" in error


# Interrupted runs


def start(*arguments: str, **options) -> subprocess.Popen:
    """Start the command in its own process."""
    code = "import sys; from jaxconv.cli.command_line import main; sys.exit(main())"
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **options)


def wait_for_rows(path: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until a run has recorded so many epochs."""
    while process.poll() is None and (not path.exists() or len(path.read_text().splitlines()) <= count):
        time.sleep(0.01)


LONGER = ["--set", "train.epochs=200"]


@pytest.fixture(scope="module")
def uninterrupted(home, tmp_path_factory):
    """Return the folder of a longer run that was not interrupted."""
    folder = tmp_path_factory.mktemp("longer") / "whole"
    assert main(["train", str(home / "tiny.toml"), *LONGER, "--out", str(folder)]) == 0
    return folder


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=["SIGKILL", "SIGINT"]
)
def test_a_run_that_was_interrupted_and_resumed_equals_one_that_was_not(
    at_home, uninterrupted, tmp_path, capsys, number
):
    folder = tmp_path / "interrupted"
    process = start("train", "tiny.toml", *LONGER, "--out", str(folder), stderr=subprocess.PIPE)
    wait_for_rows(folder / "metrics.csv", 17, process)
    process.send_signal(number)
    error = process.communicate()[1]
    assert len((folder / "metrics.csv").read_text().splitlines()) < 200, "the run ended before it was interrupted"
    resume = f"jaxconv train --resume {folder}"
    if number == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in error
        assert error.splitlines()[-1].endswith(resume)
        assert (folder / "learning_curve.png").exists()
    assert main(["info", str(folder)]) == 0
    assert resume in capsys.readouterr().out

    assert main(["train", "--resume", str(folder)]) == 0
    for name in ("config.toml", "metrics.csv", "model.keras"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name


# Fine-tuning

FINE_TUNING = """
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


@pytest.fixture(scope="module")
def tuning_home(home, tmp_path_factory):
    """Return a folder with a config without a model, a classifier, and models that do not fit the data."""
    folder = tmp_path_factory.mktemp("tuning")
    (folder / "d.toml").write_text(FINE_TUNING.format(path=home / "tiny.npz"))
    x = jc.Input((10, 1), name="signal")
    body = jc.Sequential([jc.Conv1D(3, 3), jc.BatchNormalization(), jc.ReLU()], name="body")
    y = jc.Conv1D(2, 1, name="conv_head", activation="relu")(body(x))
    classifier = jc.Model(x, jc.Dense(2, activation="softmax", name="out")(jc.GlobalMaxPooling1D()(y)))
    five = jc.Sequential([jc.Flatten(), jc.Dense(5)], input_shape=(10, 1))
    left, right = jc.Input((4, 1), name="left"), jc.Input((4, 1), name="right")
    for name, model in (("m", classifier), ("five", five), ("two", jc.Model([left, right], jc.Add()([left, right])))):
        jc.save_model(folder / f"{name}.keras", model, model.init(jax.random.key(1))[0])
    return folder


@pytest.fixture
def at_tuning_home(tuning_home, monkeypatch):
    monkeypatch.chdir(tuning_home)
    return tuning_home


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["d.toml"], ["d.toml", "model"]),
        (["d.toml", "--from", "no.keras"], ["no.keras"]),
        (["d.toml", "--from", "m.keras", "--freeze", "dense*"], ["--freeze dense*", "body/conv1d", "out"]),
        (["d.toml", "--from", "m.keras", "--freeze", "*"], ["--freeze *", "body/conv1d"]),
        (["d.toml", "--from", "m.keras", "--set", "model.freeze=[]"], ["--set model.freeze", "m.keras"]),
        (["d.toml", "--from", "two.keras"], ["two.keras", "(None, 10, 1)"]),
        (["d.toml", "--from", "five.keras"], ["five.keras", "5 outputs", "2 classes"]),
    ],
)
def test_a_mistake_in_fine_tuning_is_one_line(at_tuning_home, error_line, arguments, facts):
    error = error_line("train", *arguments)
    for fact in facts:
        assert fact in error, error


@pytest.mark.parametrize(
    ("table", "fact"),
    [
        ('file = "m.keras"\nlayers = []', "model.layers"),
        ('freeze = ["conv*"]', "model.file"),
        ('file = "m.keras"\nfreeze = "conv*"', 'model.freeze = "conv*"'),
    ],
)
def test_the_table_of_a_pretrained_model_is_checked(at_tuning_home, error_line, table, fact):
    Path("f.toml").write_text(f"[model]\n{table}\n" + Path("d.toml").read_text())
    assert fact in error_line("train", "f.toml")


def leaves(params):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


@pytest.fixture(scope="module")
def fine_tuned(tuning_home, tmp_path_factory):
    """Return the folder of a run in which the body is frozen."""
    folder = tmp_path_factory.mktemp("fine") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tuning_home)
        assert main(["train", "d.toml", "--from", "m.keras", "--freeze", "body", "--out", str(folder)]) == 0
    return folder


def test_frozen_layers_keep_weights_and_statistics_bit_for_bit(at_tuning_home, fine_tuned, tmp_path):
    before, after = leaves(load_model("m.keras")[0]), leaves(load_model(fine_tuned / "model.keras")[0])
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert same == {name for name in before if "body" in name}
    assert len(same) == 6 and len(before) == 10
    layer = load_layer(fine_tuned / "model.keras")[0]
    assert not layer.children["body"].trainable and layer.children["out"].trainable
    assert json.loads((fine_tuned / "results.json").read_text())["epochs"] == 3
    assert main(["evaluate", str(fine_tuned)]) == 0 and main(["info", str(fine_tuned)]) == 0


def test_a_pattern_reaches_layers_inside_containers(at_tuning_home):
    from jaxconv.app.pretrained import freeze_layers

    body = freeze_layers(load_layer("m.keras")[0], ["body/conv*", "batch*"]).children["body"].children
    assert [layer.trainable for layer in body.values()] == [False, False, True]


def test_a_fine_tuned_run_resumes_without_the_original_file(at_tuning_home, fine_tuned, tmp_path):
    original, folder = Path(shutil.copy("m.keras", tmp_path / "gone.keras")), tmp_path / "interrupted"
    arguments = ["--from", str(original), "--freeze", "body", "--set", "train.epochs=1"]
    assert main(["train", "d.toml", *arguments, "--out", str(folder)]) == 0
    original.unlink()
    assert main(["train", "--resume", str(folder), "--set", "train.epochs=3"]) == 0
    for name in ("model.keras", "metrics.csv", "config.toml"):
        assert (folder / name).read_bytes() == (fine_tuned / name).read_bytes(), name
    assert main(["train", str(folder / "config.toml"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
