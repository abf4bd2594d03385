"""Checkpoints: the progress of a run in one file. A resumed run equals an uninterrupted one bit for bit."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.files.archive import read_archive, write_archive
from jaxconv.files.errors import FileError, damaged
from jaxconv.files.leaves import flat
from jaxconv.training.step import TrainState

_FORMAT, _VERSION = "jaxconv checkpoint", 2


@dataclasses.dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Random numbers are not stored: the order of the samples and the dropout keys depend only on (seed, epoch, step).

    Args:
        state: weights and optimizer state after the last step.
        epoch: epochs completed.
        step: steps completed in the current epoch.
        sums: the sums of loss and metrics over these steps, in float64.
        history: one log per completed epoch.
        best_params, best_value, best_epoch: the weights of the best epoch, its value of the monitored metric, and its
            number, counted from 1; None if there is none.
        updates: steps completed in all epochs.
        data: the state of the iterator that yields the batches, or None if it has none.
    """

    state: TrainState
    epoch: int = 0
    step: int = 0
    sums: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    best_params: Params | None = None
    best_value: float | None = None
    best_epoch: int | None = None
    updates: int = 0
    data: Any = None


_PLAIN = ("epoch", "step", "history", "best_value", "best_epoch", "updates", "data")


def checkpoint_path(checkpoint: str | os.PathLike[str] | None, resume: bool = False) -> Path | None:
    """Return the path of the checkpoint file: the given one, or that of ``checkpoint.npz`` in the given folder.

    Creates a missing folder. Raises ValueError if the folder cannot be created or written to, or if the file exists and
    the run does not resume from it.
    """
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    path = path if path.suffix == ".npz" and not path.is_dir() else path / "checkpoint.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"the checkpoint folder {path.parent} cannot be created: {error.strerror}"
        raise ValueError(f"fit: {reason}; give a path in a writable folder") from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"fit: the checkpoint folder {path.parent} is not writable; give a writable one")
    if path.exists() and not resume:
        raise ValueError(f"fit: {path} exists; give resume=True to continue that run, or another path")
    return path


def save(path: str | os.PathLike[str], progress: Progress, run: Mapping[str, Any]) -> None:
    """Write the progress of a run atomically: a process killed at any moment leaves the old file or the new one.

    ``run`` contains plain values that a resumed run must share (seed, batch size, ...). Raises FileError if the file
    cannot be written.
    """
    trees = {"state": progress.state, "sums": progress.sums, "best": progress.best_params}
    arrays = {name: np.asarray(_numbers(leaf)) for name, leaf in flat(trees).items()}
    header = {name: getattr(progress, name) for name in _PLAIN}
    write_archive(path, {"format": _FORMAT, "version": _VERSION, "run": dict(run), **header}, arrays)


def load(path: str | os.PathLike[str], template: TrainState, run: Mapping[str, Any]) -> Progress:
    """Read the progress of a run. Its initial state must have the structure, shapes and dtypes of the saved one.

    Raises FileError if the file is unusable, or belongs to another run: other options, model or optimizer.
    """
    header, arrays = read_archive(path, _FORMAT, _VERSION)
    with damaged(path, "its header"):
        return _progress(path, template, run, header, arrays)


def completed_epochs(path: str | os.PathLike[str]) -> int:
    """Return the number of completed epochs in a checkpoint. Raises FileError if the file is unusable."""
    header, _ = read_archive(path, _FORMAT, _VERSION)
    with damaged(path, "its header"):
        return int(header["epoch"])


def _progress(
    path: Any, template: TrainState, run: Mapping[str, Any], header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Progress:
    for name, value in run.items():
        made = header["run"].get(name)
        if made != value:
            raise FileError(f"{path} has {name}={made!r}, but this run has {value!r}; give the same or start a new run")
    best = None
    if header["best_value"] is not None:
        best = _fill(path, "best", template.params, arrays)
    state = _fill(path, "state", template, arrays)
    sums = {name.removeprefix("sums/"): arrays.pop(name) for name in list(arrays) if name.startswith("sums/")}
    if arrays:
        raise FileError(f"{path} does not fit this model and optimizer: it also contains {', '.join(sorted(arrays))}")
    plain = {name: header[name] for name in _PLAIN}
    counts = [plain["epoch"], plain["step"], plain["updates"], len(plain["history"]) - plain["epoch"]]
    logs = all(isinstance(log, dict) and "loss" in log for log in plain["history"])
    if not logs or not all(type(count) is int and count >= 0 for count in counts) or counts[-1]:
        raise ValueError("the numbers of epochs, steps and logs do not fit each other")
    return Progress(state=state, sums=sums, best_params=best, **plain | {"history": tuple(plain["history"])})


def _fill(file: Any, prefix: str, template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return a tree with the template's structure, and remove its leaves from ``arrays``."""
    filled = []
    for name, leaf in flat({prefix: template}).items():
        expected = _numbers(leaf)
        if name not in arrays:
            raise FileError(f"{file} does not fit this model and optimizer: it does not contain {name}")
        found = arrays.pop(name)
        if found.shape != expected.shape or found.dtype != expected.dtype:
            own, wanted = (f"{one.dtype}{list(one.shape)}" for one in (found, expected))
            got = f"{name} is {own} in the file and {wanted} in this run"
            raise FileError(f"{file} does not fit this model and optimizer: {got}")
        value = jnp.asarray(found, dtype=found.dtype)
        filled.append(jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value)
    return jax.tree.unflatten(jax.tree.structure(template), filled)


def _numbers(leaf: Any) -> Any:
    """Return a leaf, or the integers of a PRNG key."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
