"""Trained models at work: a run folder or model file and the user's files in, figures or predictions out.

Knows where a model and its data lie; what is computed from them stands in ``evaluation``.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconv.files.archive import replacing
from jaxconv.files.loading import load_model
from jaxconv.files.model import model_info
from jaxconv.training.config import load_data, read_config
from jaxconv.training.display import display
from jaxconv.training.evaluation import evaluate as evaluate_model
from jaxconv.training.evaluation import predict_batches
from jaxconv.training.overview import readable_shape
from jaxconv.training.run import CONFIG, MODEL, resume_command, summary
from jaxconv.training.schema import ConfigError, one_line


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
    params, apply_fn = load_model(file)
    if data and not data.endswith(".toml"):
        x, y = _own_test_set(Path(data), model_info(file)["about"].get("classes"))
    else:
        splits = load_data(config)
        x, y = splits.x_test, splits.y_test
    _check_input(file, apply_fn, params, x)
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


def _check_input(file: Path, apply_fn: Any, params: Any, x: Any) -> tuple[int, ...]:
    """Give the model's output shape for ``x``. Raises ConfigError where the model does not take it."""
    try:
        return jax.eval_shape(apply_fn, params, jax.ShapeDtypeStruct(x.shape, np.dtype("float32"))).shape
    except (ValueError, TypeError) as error:
        expected = model_info(file)["input_shape"]
        takes = "" if expected is None else f"; {file} was trained on {readable_shape(expected)}"
        raise ConfigError(f"the input has shape {x.shape}{takes}: {error}") from None


def predict(model: str, x: str, out: str, batch: int = 32) -> str:
    """Apply a model to the rows of an ``.npy`` file, into another one; neither is ever in memory as a whole.

    The output appears under its name only when it is whole.

    Args:
        model: a run folder, or a model file.
        x: the input file, one example per row.
        out: the output file: float32 (float64 for a float64 model), one prediction per row.
        batch: rows computed at once.

    Raises:
        ConfigError: a file is missing or is no array of numbers, or does not fit the model.
    """
    if batch < 1:
        raise ConfigError(f"--batch {batch}: legal: at least 1")
    if Path(x).resolve() == Path(out).resolve():
        raise ConfigError(f"--out {out} is the input; give another file")
    if not out.endswith(".npy"):
        raise ConfigError(f"--out {out}: the predictions are written in numpy's format; give a name that ends in .npy")
    file = model_file(model)
    inputs = _mapped(Path(x))
    params, apply_fn = load_model(file)
    shape = _check_input(file, apply_fn, params, inputs)
    with replacing(out) as handle, display(len(inputs), unit="example") as bar:
        dtype, done = None, 0
        for rows in _predictions(apply_fn, params, inputs, batch):
            if dtype is None:
                dtype = rows.dtype
                header = {"descr": dtype.str, "fortran_order": False, "shape": (len(inputs), *rows.shape[1:])}
                np.lib.format.write_array_header_2_0(handle, header)
            handle.write(np.ascontiguousarray(rows).data)
            done += len(rows)
            bar.to(done)
    return f"{len(inputs)} predictions of shape {readable_shape(shape[1:])} in {out}"


def _predictions(apply_fn: Any, params: Any, inputs: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yield predictions in a type that ``.npy`` has: half precision is widened to float32."""
    for rows in predict_batches(apply_fn, params, inputs, batch):
        yield rows if rows.dtype == np.float64 else rows.astype(np.float32)


def _mapped(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; an .npy file is expected")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{path} is no .npy file of numbers, such as numpy.save writes: {one_line(error)}") from None
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not len(array):
        raise ConfigError(
            f"{path} holds {array.dtype} of shape {array.shape}; real numbers (examples, ...) are expected"
        )
    return array
