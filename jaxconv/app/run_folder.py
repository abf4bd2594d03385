"""The folder of a run: the names of its files, how a new one is made, and what is read from it.

Knows files and paths; nothing about training.
"""

import csv
import shlex
from pathlib import Path

from jaxconv.app.schema import ConfigError
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError

CONFIG, METRICS, CURVE, MODEL = "config.toml", "metrics.csv", "learning_curve.png", "model.keras"
CHECKPOINT, RESULTS, PRETRAINED = "checkpoint.npz", "results.json", "initial"


def resume_command(folder: Path) -> str:
    """Return the shell command that resumes a run.

    >>> resume_command(Path("my runs/a"))
    "jaxconv train --resume 'my runs/a'"
    """
    return f"jaxconv train --resume {shlex.quote(str(folder))}"


def new_run_folder(name: str, out: str | None) -> Path:
    """Make and return the folder ``out``; by default ``runs/NAME``, or the first of ``runs/NAME-2``, ... that is free.

    Raises:
        ConfigError: ``out`` is not empty, or the folder cannot be made.
    """
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            hint = f", or resume the run in it: {resume_command(folder)}" if (folder / CONFIG).is_file() else ""
            raise ConfigError(f"--out {folder} exists and is not an empty folder; give another one{hint}")
        _make_folder(folder, "--out")
        return folder
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            _make_folder(folder, "the run folder", exist_ok=False)
            return folder
        except FileExistsError:  # a check beforehand would let two runs that start together share a folder
            number += 1


def _make_folder(folder: Path, what: str, exist_ok: bool = True) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise ConfigError(f"{what} {folder} cannot be made: {error.strerror}") from None


def check_run_folder(folder: Path) -> None:
    """Raise ConfigError if a folder does not contain a run."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {CONFIG}; give one that 'jaxconv train' made")


def model_file(model: str) -> Path:
    """Return the model file of a run folder, or the file itself. Raises ConfigError if there is none."""
    path = Path(model)
    if path.is_dir():
        if (path / MODEL).is_file():
            return path / MODEL
        hint = f" yet; finish the run with: {resume_command(path)}" if (path / CONFIG).is_file() else ""
        raise ConfigError(f"{path} has no {MODEL}{hint}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such run folder or model file")
    if path.suffix == ".toml":
        raise ConfigError(f"{path} is a config; train it (jaxconv train {path}) and give the run folder")
    return path


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read ``metrics.csv``, one dict per epoch; an empty list if there is none yet."""
    path = folder / METRICS
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as handle:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(handle)]


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically. Raises ConfigError if that is not possible."""
    try:
        with replacing(path) as handle:
            handle.write(text.encode())
    except FileError as error:
        raise ConfigError(str(error)) from None
