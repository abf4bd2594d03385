"""A run folder: what training leaves behind, what is shown meanwhile, and that a resumed run is the same run."""

import contextlib
import csv
import io
import json
import os
import shutil
import termios
import tomllib
from pathlib import Path

import numpy as np
import pytest

from jaxconv.app import run
from jaxconv.app.curves import draw_curves, quantities
from jaxconv.app.run import Watch, read_table, summary
from jaxconv.app.schema import ConfigError
from jaxconv.files.loading import load_model
from jaxconv.files.model import model_info
from jaxconv.progress import display, readable
from jaxconv.training.fit import Interrupted, NonFiniteLoss, Tick

CONFIG = """
name = "tiny"
[data]
source = "npz"
path = "{path}"
[[model.layers]]
layer = "Conv1D"
filters = 2
kernel_size = 3
activation = "relu"
[[model.layers]]
layer = "GlobalAveragePooling1D"
[[model.layers]]
layer = "Dense"
units = 2
activation = "softmax"
[train]
loss = "sparse_categorical_crossentropy"
metrics = ["accuracy"]
epochs = 3
batch_size = 8
checkpoint_every = 2
"""
FILES = {"config.toml", "metrics.csv", "learning_curve.png", "model.keras", "checkpoint.npz", "results.json"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Give a folder with data, a config for it, and a finished run of three epochs in ``done``."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 10, 1)).astype("float32"), np.arange(16) % 2
    np.savez(home / "tiny.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    (home / "tiny.toml").write_text(CONFIG.format(path=home / "tiny.npz"))
    run.train(str(home / "tiny.toml"), out=str(home / "done"))
    return home


@pytest.fixture
def config(home, tmp_path, monkeypatch):
    """Give the config, and make the test's own folder the current one."""
    monkeypatch.chdir(tmp_path)
    return str(home / "tiny.toml")


@pytest.fixture
def done(home, tmp_path):
    """Give a copy of the finished run."""
    return Path(shutil.copytree(home / "done", tmp_path / "copy"))


def same(one: Path, other: Path) -> bool:
    """Say whether two runs have the same config, metrics and model, to the last bit."""
    names = ("config.toml", "metrics.csv", "model.keras")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_run_leaves_config_metrics_picture_model_checkpoint_and_results(config, done, capsys):
    folder = run.train(config)
    assert str(folder) == "runs/tiny" and {path.name for path in folder.iterdir()} == FILES
    assert same(folder, done), "the same config gave other numbers"

    rows = read_table(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "learning_rate"]
    assert tomllib.loads((folder / "config.toml").read_text())["train"]["epochs"] == 3
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")

    results = json.loads((folder / "results.json").read_text())
    assert set(results["test"]) == {"loss", "accuracy"} and results["epochs"] == 3 and results["stopped"] == "epochs"
    assert results["parameters"] == 3 * 2 + 2 + 2 * 2 + 2
    assert {"jax", "optax", "numpy", "jaxconv", "python"} <= set(results["versions"])

    params, apply_fn = load_model(folder / "model.keras")
    assert apply_fn(params, np.zeros((5, 10, 1), "float32")).shape == (5, 2)
    assert model_info(folder / "model.keras")["about"]["classes"] == ["0", "1"]

    out, err = capsys.readouterr()
    assert "tiny: 16 training and 8 test samples of shape (10, 1), 14 parameters, run folder runs/tiny" in out
    assert out.splitlines()[-1].startswith("test accuracy ") and "run folder runs/tiny" in out.splitlines()[-1]
    assert "epoch 3/3" in err and "\r" not in err


def test_the_resolved_config_gives_the_same_run(config, done):
    Path("runs/tiny").mkdir(parents=True)
    again = run.train(str(done / "config.toml"))
    assert str(again) == "runs/tiny-2" and same(again, done)


def test_another_seed_gives_another_run(config, done):
    other = run.train(config, ["train.seed=1"])
    assert (other / "metrics.csv").read_bytes() != (done / "metrics.csv").read_bytes()


def test_a_run_folder_is_never_written_into_by_another_run(config, done):
    Path("file").touch()
    with pytest.raises(ConfigError, match=r"--out copy exists .* or go on with it: jaxconv train --resume copy"):
        run.train(config, out="copy")
    with pytest.raises(ConfigError, match=r"--out file exists"):
        run.train(config, out="file")
    with pytest.raises(ConfigError, match="cannot be made"):
        run.train(config, out="file/run")


def test_two_runs_that_start_together_get_folders_of_their_own(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)  # made by the other one, just now
    monkeypatch.setattr(Path, "exists", lambda path, **_: False)  # what this one saw a moment before
    assert run._new_folder("tiny", None) == Path("runs/tiny-2")


def test_a_mistake_leaves_no_run_folder_behind(config, tmp_path):
    with pytest.raises(ConfigError):
        run.train(config, ["model.layers.3.units=3"])
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_can_be_lengthened_to_what_the_longer_run_gives(config, done):
    longer = run.train(config, ["train.epochs=5"])
    run.resume(done, ["train.epochs=5"])
    assert same(longer, done)


def test_resuming_a_finished_run_changes_nothing(home, done):
    run.resume(done)
    assert same(home / "done", done)


def test_a_run_stopped_before_its_first_checkpoint_starts_again(home, done):
    for name in FILES - {"config.toml"}:
        (done / name).unlink()
    run.resume(done)
    assert same(home / "done", done)


def test_resuming_allows_no_other_model_or_data(done):
    with pytest.raises(ConfigError, match=r"--set train\.batch_size=4: a resumed run keeps its config"):
        run.resume(done, ["train.batch_size=4"])
    with pytest.raises(ConfigError, match=r"is no run folder: it holds no config\.toml"):
        run.resume(done.parent)


def test_validation_early_stopping_and_best_weights_are_in_the_run(config):
    settings = [
        "train.validation_split=0.5",
        "train.early_stopping.patience=1",
        "train.early_stopping.min_delta=100",
        "train.best_weights=val_loss",
        "train.epochs=9",
    ]
    folder = run.train(config, settings)
    results = json.loads((folder / "results.json").read_text())
    assert results["stopped"] == "early_stopping" and results["epochs"] < 9 and results["best_epoch"] is not None
    assert "val_accuracy" in read_table(folder / "metrics.csv")[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_says_so(config, tmp_path):
    with pytest.raises(NonFiniteLoss, match="smaller learning rate"):
        run.train(config, ["train.optimizer=sgd", "train.optimizer.learning_rate=1e38", "train.epochs=50"])
    assert not (tmp_path / "runs" / "tiny" / "model.keras").exists()


def test_a_missing_package_is_named_before_anything_is_trained(config, monkeypatch, tmp_path):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None if name == "tqdm" else object())
    with pytest.raises(ImportError, match=r"needs tqdm; install it with: pip install 'jaxconv\[train\]'"):
        run.train(config)
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_outside_the_loop_says_how_to_resume_too(config, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt, match="go on with: jaxconv train --resume runs/tiny") as caught:
        run.train(config)
    assert caught.value.signal == 2 and not isinstance(caught.value, Interrupted)


ROWS = [{"epoch": i, "loss": 0.1 / i, "accuracy": 1 / 3} for i in range(1, 6)]


def test_the_table_of_metrics_grows_by_a_row_an_epoch_and_keeps_every_bit(tmp_path):
    watch = Watch(tmp_path / "metrics.csv", 5)
    for i in range(1, 6):
        watch.on_epoch(ROWS[:i], None)
        assert read_table(tmp_path / "metrics.csv") == ROWS[:i]
    with open(tmp_path / "metrics.csv", newline="") as handle:
        assert [line[0] for line in csv.reader(handle)] == ["epoch", "1", "2", "3", "4", "5"]


def test_a_resumed_table_loses_no_row_and_doubles_none(tmp_path):
    for on_disk in (2, 3, 5):  # one row fewer than the checkpoint knew, the same, and two that it did not know
        Watch(tmp_path / "metrics.csv", 5).record(ROWS[:on_disk])
        watch = Watch(tmp_path / "metrics.csv", 5)
        watch.on_epoch(ROWS[:4], None)
        assert read_table(tmp_path / "metrics.csv") == ROWS[:4]
        watch.on_epoch(ROWS[:5], None)
        assert read_table(tmp_path / "metrics.csv") == ROWS
    assert read_table(tmp_path / "none.csv") == []


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_with_epoch_numbers_and_time_left(monkeypatch):
    stream = Terminal()
    with display(4, stream=stream) as bar:
        bar.to(0.5, {"loss": 0.25})
        bar.to(4, {"loss": 0.125, "accuracy": 1.0})
    shown = stream.getvalue()
    assert "epoch 4/4" in shown and "loss 0.1250  accuracy 1.0000" in shown and "left" in shown and "100%" in shown


def on_a_terminal(rows: int, columns: int) -> str:
    """Give what one epoch looks like on a terminal of this size."""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (rows, columns))
    with os.fdopen(terminal, "w") as stream, display(2, stream=stream) as bar:
        bar.to(2, {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.25})
    shown = b""
    with contextlib.suppress(OSError):  # the end of what a terminal that was closed had to say
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    return shown.decode()


def test_on_a_narrow_terminal_the_time_left_is_not_cut_off():
    assert "val loss 0.2500" in on_a_terminal(24, 100)
    narrow = on_a_terminal(24, 50)
    assert "|" in narrow and "left, loss" in narrow and max(map(len, narrow.split("\r"))) <= 50


def test_a_terminal_without_a_size_gets_lines():
    assert on_a_terminal(0, 0).startswith("epoch 2/2  loss 0.2500")  # tqdm would draw nothing there


def test_without_tqdm_a_terminal_gets_lines(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert on_a_terminal(24, 100).startswith("epoch 2/2  loss 0.2500")


def test_in_a_log_there_are_few_whole_lines():
    stream = io.StringIO()
    with display(1000, stream=stream) as lines:
        for done in range(1, 1001):
            lines.to(done, {"loss": 0.5})
    shown = stream.getvalue().splitlines()
    assert len(shown) <= 10 and shown[-1].startswith("epoch 1000/1000  loss 0.5000") and "\r" not in stream.getvalue()


def test_the_display_starts_where_a_resumed_run_does(tmp_path, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Watch(tmp_path / "metrics.csv", 10) as watch:
        watch.on_step(Tick(epoch=6, epochs=10, step=1, steps=4, figures={"loss": 1.0}))
    assert (
        "epoch 5/10" in stream.getvalue() and "epoch 6/10" in stream.getvalue() and "epoch 1/" not in stream.getvalue()
    )


def test_numbers_are_written_for_people():
    assert readable({"loss": 0.5, "val_loss": 1e-5, "mse": 123456.0, "mae": 0}) == (
        "loss 0.5000  val loss 1.000e-05  mse 1.235e+05  mae 0.0000"
    )
    assert summary({"loss": 0.25}) == "test loss 0.2500"
    assert summary({"loss": 0.25, "a": 1.0, "b": 2.0}) == "test a 1.0000  (loss 0.2500  b 2.0000)"


@pytest.mark.parametrize(
    "rows", [ROWS, ROWS[:1], [{"epoch": 1, "loss": 0.0}], [{**row, "val_loss": 9.0} for row in ROWS]]
)
def test_the_picture_is_drawn_for_any_table(tmp_path, rows):
    from matplotlib.image import imread

    draw_curves(rows, tmp_path / "a.png", title="name", test={"loss": 0.5}, best_epoch=1)
    picture = imread(tmp_path / "a.png")
    assert picture.shape[1] / picture.shape[0] == pytest.approx(5.2 * len(quantities(rows)) / 3.9, rel=0.01)
    assert picture[..., :3].std() > 0.01  # not blank
