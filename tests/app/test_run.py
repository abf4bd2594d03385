"""Run folders: their files, errors before one is made, and equal results of a resumed run."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from jaxconv.app import run, run_folder
from jaxconv.app.run_folder import read_metrics
from jaxconv.app.schema import ConfigError
from jaxconv.files.loading import load_model, read_model
from jaxconv.training.loop import Interrupted, NonFiniteLoss
from tests.support.small_run import write_small_run

FILES = {"config.toml", "metrics.csv", "learning_curve.png", "model.keras", "checkpoint.npz", "results.json"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with data, a config for it, and a finished run of two epochs in ``done``."""
    home = tmp_path_factory.mktemp("home")
    run.train(str(write_small_run(home)), out=str(home / "done"))
    return home


@pytest.fixture
def config(home, tmp_path, monkeypatch):
    """Return the config, and make the test's own folder the current one."""
    monkeypatch.chdir(tmp_path)
    return str(home / "tiny.toml")


@pytest.fixture
def done(home, tmp_path):
    """Return a copy of the finished run."""
    return Path(shutil.copytree(home / "done", tmp_path / "copy"))


def are_equal(one: Path, other: Path) -> bool:
    """Return whether two runs have the same config, metrics and model, to the last bit."""
    names = ("config.toml", "metrics.csv", "model.keras")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_a_run_writes_config_metrics_curves_model_checkpoint_and_results(config, done, capsys):
    folder = run.train(config)
    assert str(folder) == "runs/tiny" and {path.name for path in folder.iterdir()} == FILES
    assert are_equal(folder, done), "the same config gave other numbers"

    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "learning_rate"]
    assert tomllib.loads((folder / "config.toml").read_text())["train"]["epochs"] == 2
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")

    results = json.loads((folder / "results.json").read_text())
    assert set(results["test"]) == {"loss", "accuracy"} and results["epochs"] == 2 and results["stopped"] == "epochs"
    assert results["parameters"] == (3 * 2 + 2) + 4 * 2 + (2 * 2 + 2)
    assert {"jax", "optax", "numpy", "jaxconv", "python"} <= set(results["versions"])

    params, apply_fn = load_model(folder / "model.keras")
    assert apply_fn(params, np.zeros((5, 10, 1), "float32")).shape == (5, 2)
    assert read_model(folder / "model.keras").about["classes"] == ["no", "yes"]

    out, err = capsys.readouterr()
    for fact in ("tiny", "16 training", "8 test", "(10, 1)", "22 parameters", "runs/tiny"):
        assert fact in out.splitlines()[0]
    assert out.splitlines()[-1].startswith("test accuracy ") and "runs/tiny" in out.splitlines()[-1]
    assert "epoch 2/2" in err and "\r" not in err


def test_the_written_config_gives_the_same_run(config, done):
    Path("runs/tiny").mkdir(parents=True)
    again = run.train(str(done / "config.toml"))
    assert str(again) == "runs/tiny-2" and are_equal(again, done)


def test_another_seed_gives_another_run(config, done):
    other = run.train(config, ["train.seed=1", "train.epochs=1"])
    assert (other / "metrics.csv").read_text().splitlines()[1] != (done / "metrics.csv").read_text().splitlines()[1]


@pytest.mark.parametrize(("out", "fact"), [("copy", "jaxconv train --resume copy"), ("file", ""), ("file/run", "")])
def test_an_existing_file_or_folder_is_not_overwritten(config, done, out, fact):
    Path("file").touch()
    with pytest.raises(ConfigError, match=f"--out {out}.*{fact}"):
        run.train(config, out=out)


def test_two_runs_that_start_together_get_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)  # made by the other one, just now
    monkeypatch.setattr(Path, "exists", lambda path, **_: False)  # what this one saw a moment before
    assert run_folder.new_run_folder("tiny", None) == Path("runs/tiny-2")


def test_a_mistake_leaves_no_run_folder(config, tmp_path):
    with pytest.raises(ConfigError):
        run.train(config, ["model.layers.4.units=3"])
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_with_more_epochs_equals_the_longer_run(config, done):
    longer = run.train(config, ["train.epochs=4"])
    run.resume(done, ["train.epochs=4"])
    assert are_equal(longer, done)


def test_resuming_a_finished_run_changes_nothing(home, done, capsys):
    run.resume(done)
    assert "2 epochs" in capsys.readouterr().out.splitlines()[0]
    assert are_equal(home / "done", done)


def test_a_run_interrupted_before_its_first_checkpoint_starts_again(home, done):
    for name in FILES - {"config.toml"}:
        (done / name).unlink()
    run.resume(done)
    assert are_equal(home / "done", done)


def test_a_resumed_run_keeps_its_model_and_data(done):
    with pytest.raises(ConfigError, match=r"--set train\.batch_size=4"):
        run.resume(done, ["train.batch_size=4"])
    with pytest.raises(ConfigError, match=r"config\.toml"):
        run.resume(done.parent)


def test_validation_early_stopping_and_best_weights_are_used(config):
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
    assert "val_accuracy" in read_metrics(folder)[0]


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    with pytest.raises(NonFiniteLoss, match="learning rate"):
        run.train(config, ["train.optimizer=sgd", "train.optimizer.learning_rate=1e38"])
    assert not (tmp_path / "runs" / "tiny" / "model.keras").exists()


def test_a_missing_package_is_named_before_training(config, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib.*pip install matplotlib"):
        run.train(config)
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_outside_the_loop_names_the_command_to_resume(config, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt, match="jaxconv train --resume runs/tiny") as caught:
        run.train(config, ["train.epochs=1"])
    assert caught.value.signal == 2 and not isinstance(caught.value, Interrupted)


# Damaged and locked folders


def test_a_run_whose_table_was_cut_off_resumes_from_its_checkpoint(home, done, capsys):
    table = done / "metrics.csv"
    whole = table.read_bytes()
    for cut in (1, 5, 20, len(whole) - 3):
        table.write_bytes(whole[:-cut])
        assert len(read_metrics(done)) < 2
        run.resume(done)
        assert are_equal(home / "done", done)


def test_the_epochs_of_a_resumed_run_are_counted_in_its_checkpoint(done):
    (done / "metrics.csv").write_text("what is this")
    with pytest.raises(ConfigError, match=r"train\.epochs=1.* 2 epochs"):
        run.resume(done, ["train.epochs=1"])


def test_two_processes_cannot_train_in_one_folder(config, done, monkeypatch):
    with run_folder.locked(done), pytest.raises(ConfigError, match=r"copy.*in use"):
        run.resume(done)
    monkeypatch.setattr(run_folder, "new_run_folder", lambda name, out: done)
    with run_folder.locked(done), pytest.raises(ConfigError, match=r"copy.*in use"):
        run.train(config)
    run.resume(done)


def test_a_run_that_fails_before_training_leaves_no_folder(config, monkeypatch):
    def fail(*args, **options):
        raise ValueError("anything that only fit checks")

    monkeypatch.setattr(run, "fit", fail)
    with pytest.raises(ValueError, match="only fit checks"):
        run.train(config)
    assert not Path("runs/tiny").exists()


def test_an_interrupted_run_keeps_its_folder(config, monkeypatch):
    def fail(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit", fail)
    with pytest.raises(KeyboardInterrupt):
        run.train(config)
    assert Path("runs/tiny/config.toml").exists()


def test_test_metrics_are_one_line():
    assert run.format_test_metrics({"loss": 0.25}) == "test loss 0.2500"
    assert run.format_test_metrics({"loss": 0.25, "a": 1.0, "b": 2.0}) == "test a 1.0000  (loss 0.2500  b 2.0000)"
