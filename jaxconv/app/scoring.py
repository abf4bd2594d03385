"""Evaluation of a trained model, in a run folder or a model file, on test data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.app.array_files import read_npz
from jaxconv.app.compatibility import load_data
from jaxconv.app.config import read_config
from jaxconv.app.model_source import class_names
from jaxconv.app.prediction import check_input
from jaxconv.app.processes import check_files
from jaxconv.app.run import evaluate_on, format_test_metrics
from jaxconv.app.run_folder import CONFIG, model_file
from jaxconv.app.schema import ConfigError
from jaxconv.files.loading import read_model
from jaxconv.training.targets import indices


def score(model: str, data: str | None = None, sharding: Any = None) -> str:
    """Return the loss and metrics of a model on a test set, as one line. Raises ConfigError.

    model: a run folder, or its model file. data: an ``.npz`` file with ``x_test`` and ``y_test`` (or ``x`` and ``y``),
    with the labels of the training data; or a config, for its test set, and for loss and metrics if the model is not in
    a run folder.
    """
    file = model_file(model)
    config_file = Path(data) if data and data.endswith(".toml") else file.with_name(CONFIG)
    if not config_file.exists() and config_file.name == CONFIG:
        raise ConfigError(f"{file}: no {CONFIG} next to it for loss and metrics; give a config: --data CONFIG.toml")
    config = read_config(config_file, own=bool(data and data.endswith(".toml")))
    read = read_model(file)
    apply_fn, params = read.layer.apply_fn, read.params
    if data and not data.endswith(".toml"):
        x, y = _read_test_set(data, class_names(read))
    else:
        splits = load_data(config)
        x, y = splits.x_test, splits.y_test
    check_input(str(file), apply_fn, params, x, read.input_shape)
    check_files({file.name: file, config_file.name: config_file}, {"x": x, "y": y})
    test = evaluate_on(config, apply_fn, params, x, y, sharding)
    return f"{format_test_metrics(test)}, {len(x)} samples"


def _read_test_set(path: str, classes: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        arrays = read_npz(path, ("x_test", "y_test"), ("x", "y"))
    except ConfigError as error:
        raise ConfigError(f"--data {error} (expected x_test and y_test, or x and y)") from None
    (x_name, x), (y_name, y) = arrays.items()
    for name, array in arrays.items():
        if array.ndim == 0 or not len(array):
            raise ConfigError(f"--data {path}: {name} has shape {array.shape}; at least one sample is expected")
    if len(x) != len(y):
        raise ConfigError(f"--data {path}: {x_name} has {len(x)} samples and {y_name} has {len(y)}; give equal numbers")
    if not classes:
        return x, y
    if y.dtype.kind not in "biuUS":
        raise ConfigError(
            f"--data {path}: {y_name} has dtype {y.dtype}; the training data has class labels, which are "
            f"integers or strings: {', '.join(classes)}"
        )
    return x, indices(y.ravel(), classes, f"--data {path}: {y_name}")
