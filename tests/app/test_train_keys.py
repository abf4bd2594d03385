"""Each key of ``[train]`` does in a config what the argument of the same name does in ``fit``."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest

from jaxconv.app.config import read_config
from jaxconv.app.run import train
from jaxconv.app.run_folder import read_metrics
from jaxconv.app.train_table import TrainTable
from jaxconv.files.loading import load_model
from jaxconv.training import EarlyStopping, fit
from tests.support.small_run import write_small_run

SGD = {"name": "sgd", "learning_rate": 0.5}
BASE = {"loss": "sparse_categorical_crossentropy", "optimizer": SGD, "metrics": ["accuracy"], "epochs": 3,
        "batch_size": 8, "checkpoint_every": 7, "seed": 0}  # fmt: skip
WITH_VALIDATION = {"validation_split": 0.25}
STOP = {"monitor": "val_loss", "min_delta": 9.0}
# key -> the settings of a config: the value to test and what it needs
CASES = {
    "class_weight": {"class_weight": {"yes": 0.25, "no": 2.0}},
    "loss": {"loss": {"name": "sparse_categorical_crossentropy", "from_logits": True}},
    "optimizer": {"optimizer": {"name": "adamw", "learning_rate": {"name": "cosine_decay", "init_value": 0.1}}},
    "metrics": {"metrics": ["accuracy", {"name": "sparse_top_k_categorical_accuracy", "k": 2}]},
    "weighted_metrics": {"weighted_metrics": ["accuracy"], "class_weight": {"no": 3.0}},
    "epochs": {"epochs": 1},
    "batch_size": {"batch_size": 5},
    "clip_norm": {"clip_norm": 1e-3},
    "accumulate": {"accumulate": 2, "batch_size": 3},
    "remat": {"remat": True},
    "ema": {"ema": 0.75},
    "seed": {"seed": 5},
    "shuffle": {"shuffle": False},
    "validation_split": WITH_VALIDATION,
    "early_stopping": {"early_stopping": STOP, **WITH_VALIDATION},
    "best_weights": {"best_weights": "val_loss", "optimizer": {"name": "sgd", "learning_rate": 9.0}, **WITH_VALIDATION},
    "checkpoint_every": {"checkpoint_every": 1},
}  # fmt: skip


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def write_config(folder, settings):
    """Write the data and the config; its model ends without softmax where the loss takes logits."""
    path = write_small_run(folder)
    if settings["loss"] != BASE["loss"]:
        path.write_text(path.read_text().replace('"softmax"', '"linear"'))
    return path


@pytest.fixture
def saves(monkeypatch):
    """The epochs after which a checkpoint was saved, and "remat" where the forward pass is rematerialized."""
    module, epochs = importlib.import_module("jaxconv.training.fit"), []
    save = module.save

    def record(path, progress, same):
        epochs.append(progress.epoch)
        save(path, progress, same)

    monkeypatch.setattr(module, "save", record)
    original = module.rematerialized
    monkeypatch.setattr(module, "rematerialized", lambda apply_fn: epochs.append("remat") or original(apply_fn))
    return epochs


def by_config(folder, saves, settings):
    saves.clear()
    path = train(
        write_config(folder, settings), [f"train.{key}={toml(value)}" for key, value in settings.items()],
        out=folder / f"run{len(list(folder.iterdir()))}",
    )  # fmt: skip
    rows = [{name: float(value) for name, value in row.items() if value != ""} for row in read_metrics(path)]
    return rows, load_model(path / "model.keras")[0], list(saves)


def by_fit(folder, saves, settings):
    saves.clear()
    layer = read_config(write_config(folder, settings)).model
    arrays = np.load(folder / "tiny.npz")
    params, apply_fn = layer.init(jax.random.key(settings["seed"]), (None, *arrays["x_train"].shape[1:]))
    settings = dict(settings)
    stopping = settings.pop("early_stopping", None)
    callbacks = [] if stopping is None else [EarlyStopping(**stopping)]
    fitted = fit(
        apply_fn, params, arrays["x_train"], arrays["y_train"], **settings, callbacks=callbacks,
        checkpoint=folder / f"{len(list(folder.iterdir()))}.npz",
    )  # fmt: skip
    return fitted.history, fitted.params, list(saves)


def equal(run, other):
    leaves = [jax.tree.leaves(params) for params in (run[1], other[1])]
    return run[0] == other[0] and run[2] == other[2] and all(map(np.array_equal, *leaves))


def test_each_key_has_a_case():
    assert set(CASES) == {field.name for field in dataclasses.fields(TrainTable)}


@pytest.mark.few(1)
@pytest.mark.parametrize("key", CASES)
def test_a_key_does_what_the_argument_of_fit_does(tmp_path, saves, key):
    without = {name: value for name, value in CASES[key].items() if name != key}
    found = by_config(tmp_path, saves, BASE | CASES[key])
    expected = by_fit(tmp_path, saves, BASE | CASES[key])
    assert found[0] == expected[0] and found[2] == expected[2]
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])
    assert not equal(expected, by_fit(tmp_path, saves, BASE | without))
