"""Trained models put to the test: a run folder or model file and the user's files in, figures out.

Knows where a model and its data lie; what is computed from them stands in ``evaluation``.
"""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconv.app.config import load_data, read_config
from jaxconv.app.prediction import check_input
from jaxconv.app.run import CONFIG, MODEL, resume_command, summary
from jaxconv.app.schema import ConfigError, one_line
from jaxconv.files.model import model_info
from jaxconv.training.evaluation import evaluate as evaluate_model


def evaluate(model: str, data: str | None = None) -> str:
    """Evaluate a model on a test set with the loss and the metrics of its run, and give the line to print.

    Args:
        model: a run folder, or its model file.
        data: an ``.npz`` file with ``x_test`` and ``y_test`` (or ``x`` and ``y``), whose labels are those of the
            training data; or a config, for its test set, and for loss and metrics where the model has no run.

    Raises:
        ConfigError: a file is missing, or does not fit the model.
    """
    file = model_file(model)
    config_file = Path(data) if data and data.endswith(".toml") else file.with_name(CONFIG)
    if not config_file.exists() and config_file.name == CONFIG:
        raise ConfigError(f"{file} has no {CONFIG} beside it, for loss and metrics; give a config: --data CONFIG.toml")
    config = read_config(config_file)
    held = model_info(file)
    apply_fn, params = held["layer"].apply_fn, held["params"]
    if data and not data.endswith(".toml"):
        x, y = _own_test_set(Path(data), held["about"].get("classes"))
    else:
        splits = load_data(config)
        x, y = splits.x_test, splits.y_test
    check_input(str(file), apply_fn, params, x, held["input_shape"])
    train = config.train
    figures = evaluate_model(
        apply_fn, params, x, y, loss=train.loss, metrics=train.metrics, batch_size=train.batch_size
    )
    return f"{summary(figures)}, {len(x)} samples"


def model_file(model: str) -> Path:
    """Find the model file of a run folder, or the file itself. Raises ConfigError where there is none."""
    path = Path(model)
    if path.is_dir():
        if (path / MODEL).is_file():
            return path / MODEL
        more = f" yet; finish it with: {resume_command(path)}" if (path / CONFIG).is_file() else ""
        raise ConfigError(f"{path} holds no {MODEL}{more}")
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such run folder or model file")
    if path.suffix == ".toml":
        raise ConfigError(f"{path} is a config; train it (jaxconv train {path}) and give the run folder")
    return path


def _own_test_set(path: Path, classes: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "there is no such file"
        raise ConfigError(f"--data {path}: {what}; give an .npz file")
    if path.suffix != ".npy" and not zipfile.is_zipfile(path):
        raise ConfigError(f"--data {path} cannot be read as an .npz file, such as numpy.savez writes")
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            raise ConfigError(f"--data {path} is a single array; an .npz file with x_test and y_test is expected")
        x_name, y_name = ("x_test", "y_test") if "x_test" in held.files else ("x", "y")
        for name in (x_name, y_name):
            if name not in held.files:
                raise ConfigError(
                    f"--data {path} holds no {name!r}; legal: x_test and y_test, or x and y; "
                    f"it holds {', '.join(held.files) or 'nothing'}"
                )
        with held:
            x, y = held[x_name], held[y_name]
    except ConfigError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"--data {path} cannot be read as an .npz file of arrays: {one_line(error)}") from None
    if len(x) != len(y) or not len(x):
        raise ConfigError(
            f"--data {path}: {x_name} has {len(x)} samples and {y_name} {len(y)}; legal: equally many, not 0"
        )
    if classes:
        if y.dtype.kind not in "biuUS":
            raise ConfigError(
                f"--data {path}: {y_name} has dtype {y.dtype}; the training data has class labels, which are "
                f"integers or strings: {', '.join(classes)}"
            )
        index = {name: i for i, name in enumerate(classes)}
        strange = sorted({str(label) for label in np.unique(y)} - set(index))
        if strange:
            raise ConfigError(f"--data {path}: {y_name} has the label {strange[0]!r}; legal: {', '.join(classes)}")
        y = np.array([index[str(label)] for label in y.ravel()], np.int32)
    return x, y
