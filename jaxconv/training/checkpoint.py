"""A run's progress in one file: everything that makes a resumed run equal, bit for bit, to one that was not stopped.

Knows the train state and archives. It does not know when to save.
"""

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
from jaxconv.files.errors import FileError
from jaxconv.training.step import TrainState

_FORMAT, _VERSION = "jaxconv checkpoint", 1


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Random numbers need no place here: order and dropout of a step follow from (seed, epoch, step).

    Args:
        state: weights and optimizer state after the last step.
        epoch: epochs completed.
        step: steps taken of the epoch under way.
        sums: what these steps added to the epoch's figures, in float64.
        history: one row per completed epoch.
        best_params, best_value, best_epoch: the weights to give back and the figure that made them best; the epoch
            counts from 1.
        stop_value, waited: early stopping's best figure, and the epochs since.
    """

    state: TrainState
    epoch: int = 0
    step: int = 0
    sums: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    best_params: Params | None = None
    best_value: float | None = None
    best_epoch: int | None = None
    stop_value: float | None = None
    waited: int = 0


_PLAIN = ("epoch", "step", "history", "best_value", "best_epoch", "stop_value", "waited")


def checkpoint_path(checkpoint: str | os.PathLike[str] | None) -> Path | None:
    """Give the file for a checkpoint: itself, or ``checkpoint.npz`` in a folder, which is made where there is none.

    Raises:
        ValueError: the folder cannot be made or written to.

    >>> checkpoint_path(None)
    """
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    path = path if path.suffix == ".npz" and not path.is_dir() else path / "checkpoint.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint folder {path.parent} cannot be made: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"checkpoint folder {path.parent} cannot be written to")
    return path


def save(path: str | os.PathLike[str], progress: Progress, run: Mapping[str, Any]) -> None:
    """Write a run's progress, atomically: a process killed at any moment leaves the old file or the new one.

    Args:
        path: the file.
        progress: where the run stands.
        run: what must not change between saving and loading (seed, batch size, ...), as plain values.

    Raises:
        FileError: the file cannot be written.
    """
    arrays = {**_named("state", progress.state), **_named("sums", progress.sums)}
    if progress.best_params is not None:
        arrays |= _named("best", progress.best_params)
    header = {name: getattr(progress, name) for name in _PLAIN}
    write_archive(path, {"format": _FORMAT, "version": _VERSION, "run": dict(run), **header}, arrays)


def load(path: str | os.PathLike[str], template: TrainState, run: Mapping[str, Any]) -> Progress:
    """Read a run's progress.

    Args:
        path: the file.
        template: the state of a run that is about to start; its structure, shapes and dtypes have to be the file's.
        run: as given to :func:`save`.

    Raises:
        FileError: the file is unusable, or was made by another run: other options, another model, another optimizer.
    """
    header, arrays = read_archive(path, _FORMAT, _VERSION)
    for name, value in run.items():
        if header["run"].get(name) != value:
            raise FileError(
                f"{path} was made with {name}={header['run'].get(name)!r}, this run has {value!r}; "
                "resume with the same, or start afresh"
            )
    best = None
    if header["best_value"] is not None:
        best = _filled(path, "best", template.params, arrays)
    state = _filled(path, "state", template, arrays)
    sums = {name.removeprefix("sums/"): arrays.pop(name) for name in list(arrays) if name.startswith("sums/")}
    if arrays:
        raise FileError(f"{path} does not fit this model and optimizer: it also holds {', '.join(sorted(arrays))}")
    header["history"] = tuple(header["history"])
    return Progress(state=state, sums=sums, best_params=best, **{name: header[name] for name in _PLAIN})


def _named(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """Give the leaves of a tree by their paths: ``state/trainable/conv1d/kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(prefix, path): np.asarray(_raw(leaf)) for path, leaf in leaves}


def _filled(where: Any, prefix: str, template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Give a tree of the template's structure with the leaves taken out of ``arrays``."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    filled = []
    for path, leaf in leaves:
        name, wanted = _name(prefix, path), _raw(leaf)
        if name not in arrays:
            raise FileError(f"{where} does not fit this model and optimizer: it holds no {name}")
        found = arrays.pop(name)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise FileError(
                f"{where} does not fit this model and optimizer: {name} is {found.dtype}{list(found.shape)} there and "
                f"{wanted.dtype}{list(wanted.shape)} here"
            )
        value = jnp.asarray(found, dtype=found.dtype)
        filled.append(jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value)
    return jax.tree.unflatten(structure, filled)


def _name(prefix: str, path: Any) -> str:
    return f"{prefix}/{jax.tree_util.keystr(path, simple=True, separator='/')}"


def _raw(leaf: Any) -> Any:
    """Give a leaf as numbers: a PRNG key as the integers in it."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
