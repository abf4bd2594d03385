"""The folder of a run: names of its files, creation, locking, and reading of its results."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxconv.app.schema import ConfigError
from jaxconv.files.atomic import new_folder, replacing
from jaxconv.files.bounds import open_file
from jaxconv.files.errors import FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG, METRICS, CURVE, MODEL = "config.toml", "metrics.csv", "learning_curve.png", "model.keras"
CHECKPOINT, RESULTS, PRETRAINED = "checkpoint.npz", "results.json", "initial"


def resume_command(folder: Path) -> str:
    """Return the shell command that resumes a run.

    >>> resume_command(Path("my runs/a"))
    "jaxconv train --resume 'my runs/a'"
    """
    return f"jaxconv train --resume {shlex.quote(str(folder))}"


def new_run_folder(name: str, out: str | None) -> Path:
    """Create and return the folder ``out``; by default ``runs/NAME``, or the first unused one of ``runs/NAME-2``, ...

    Raises ConfigError if ``out`` is not empty, or the folder cannot be created.
    """
    try:
        if out is None:
            return new_folder(Path("runs") / name)
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            hint = f", or resume the run in it: {resume_command(folder)}" if (folder / CONFIG).is_file() else ""
            raise ConfigError(f"--out {folder} exists and is not an empty folder; give another one{hint}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError as error:
        what = "the run folder" if out is None else "--out"
        raise ConfigError(f"{what} {error.filename} cannot be created: {error.strerror}") from None


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
        runs = sorted(str(found.parent) for found in path.glob(f"*/{MODEL}"))
        if runs and not hint:
            hint = f"; runs in it: {', '.join(runs[:10])}{', ...' * (len(runs) > 10)}"
        raise ConfigError(f"{path} has no {MODEL}{hint}")
    if not path.is_file():
        raise ConfigError(f"{path}: no such run folder or model file")
    if path.suffix == ".toml":
        raise ConfigError(f"{path} is a config; train it (jaxconv train {path}) and give the run folder")
    return path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder while the block runs. Raises ConfigError if another process trains in it.

    The system releases the lock when the process ends, regardless of how it ends. Nothing is locked on systems without
    such locks (Windows, some network file systems).
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} is in use: another process trains in it; wait for it, or stop it") from None
        except OSError:  # the file system has no locks
            pass
        yield
    finally:
        os.close(handle)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read the complete rows of ``metrics.csv``, one dict per epoch; an empty list if there is none yet.

    A full disk or a crash can cut off the last row; the rows before it are returned.
    """
    lines = _read_text(folder / METRICS, 2**26).split("\n")[:-1]  # what follows the last one is cut off
    names = lines[0].split(",") if lines else []
    rows = []
    for line in lines[1:]:
        values = line.split(",")
        try:
            rows.append({name: float(value) for name, value in zip(names, values, strict=True)})
        except ValueError:
            break
    return rows


def _read_text(path: Path, largest: int) -> str:
    """Return the content of a text file of at most ``largest`` bytes, or an empty string if there is none."""
    with contextlib.suppress(FileError), open_file(path) as handle:
        content = handle.read(largest + 1)
        return content.decode(errors="replace") if len(content) <= largest else ""
    return ""


def read_results(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``results.json``, or None if there is none yet or it is damaged."""
    try:
        results = json.loads(_read_text(folder / RESULTS, 2**20))
    except (ValueError, RecursionError):
        return None
    complete = isinstance(results, dict) and {"epochs", "seconds", "test"} <= set(results)
    return results if complete and are_metrics(results["test"]) else None


def are_metrics(value: Any) -> bool:
    """Return whether a value from a file has the form of ``evaluate``'s result: numbers by name, with a loss.

    >>> are_metrics({"loss": 0.5}), are_metrics({})
    (True, False)
    """
    if not isinstance(value, dict) or "loss" not in value:
        return False
    return all(isinstance(name, str) and isinstance(number, int | float) for name, number in value.items())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises ConfigError if that is not possible."""
    try:
        with replacing(path) as handle:
            handle.write(text.encode())
    except FileError as error:
        raise ConfigError(str(error)) from None
