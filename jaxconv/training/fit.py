"""Training in one call: every option resolved and checked, then the loop.

Knows what a run can be asked for. It prints nothing; whoever wants to show or write something does it in the callbacks.
"""

import dataclasses
import functools
import hashlib
import json
import math
import numbers
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.registry import nearest
from jaxconv.training.checkpoint import Progress, checkpoint_path, load, save
from jaxconv.training.evaluation import (
    check_labels,
    check_model,
    evaluate,
    predict,
    predict_batches,
    remembered,
    samples,
)
from jaxconv.training.interrupt import stop_on_signal
from jaxconv.training.loop import EarlyStopping, Fitted, Interrupted, Loop, NonFiniteLoss, Row, Tick
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.optimizers import learning_rate
from jaxconv.training.optimizers import optimizer as resolve_optimizer
from jaxconv.training.step import init_state, train_step

__all__ = [
    "EarlyStopping",
    "Fitted",
    "Interrupted",
    "NonFiniteLoss",
    "Tick",
    "evaluate",
    "fit",
    "predict",
    "predict_batches",
]


def fit(
    apply_fn: Any,
    params: Params,
    x: Any,
    y: Any,
    *,
    loss: Any,
    optimizer: Any = "adam",
    metrics: Any = ("accuracy",),
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    validation_data: tuple[Any, Any] | None = None,
    validation_split: float = 0.0,
    early_stopping: EarlyStopping | None = None,
    best_weights: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    on_epoch: Callable[[list[Row], Params], None] | None = None,
    on_step: Callable[[Tick], None] | None = None,
) -> Fitted:
    """Train a model.

    As Keras's ``fit``: the last, smaller batch of an epoch is used; ``validation_split`` takes the last samples before
    shuffling; the log's loss includes the regularizers. Unlike Keras's: the order of the samples and the dropout keys
    of an epoch follow from (seed, epoch) alone, so the same seed gives the same numbers, stopped and resumed or not.

    A row of the log holds ``epoch`` (from 1), ``loss``, the metrics, the same with ``val_`` before them, and
    ``learning_rate`` (of the epoch's last step) where the optimizer was given by name.

    Args:
        apply_fn, params: the model, as ``layer.init`` gives it. ``params`` is not changed.
        x, y: arrays ``(samples, ...)``; memory-mapped ones may be larger than memory: only a batch's rows are read.
        loss: a name, a table or a callable; see ``losses.loss``.
        optimizer: a name, a table or an optax transformation; see ``optimizers.optimizer``. Schedules without a length
            last for the whole run.
        metrics: names, tables or objects; see ``metrics.metric``.
        epochs: passes over the data, those before a resumption included.
        batch_size: samples per step.
        shuffle: whether each epoch takes the samples in a new order.
        seed: from 0 to 2³² - 1; for order and dropout, not for ``params``.
        validation_data: ``(x, y)`` to evaluate on after each epoch.
        validation_split: the fraction of the samples, at their end, to keep for this instead.
        early_stopping: when to stop early.
        best_weights: the column of the log (``"val_loss"``) whose best epoch gives the weights to return.
        checkpoint: the file, or the folder for a file ``checkpoint.npz``, to keep the run's progress in.
        checkpoint_every: epochs between savings; the end of training and an interruption save as well.
        resume: go on from ``checkpoint`` where it exists; start at the beginning where not.
        on_epoch: called after each epoch with all rows so far, those before a resumption included, and the weights.
        on_step: called after each step.

    Returns:
        Weights, history, the best epoch, and why training stopped.

    Raises:
        ValueError, TypeError: arguments that cannot be, before anything is trained.
        NonFiniteLoss: the loss or a weight is NaN or infinite. The last good checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM in the main thread; the step under way is finished and the checkpoint saved
            first. A second Ctrl-C stops at once.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 2))
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> fitted = fit(apply_fn, params, x, x.sum(1, keepdims=True), loss="mse", metrics=(), epochs=30, batch_size=8)
    >>> fitted.stopped, fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    ('epochs', True)
    """
    check_model(apply_fn, params)
    epochs, batch_size = _whole("epochs", epochs), _whole("batch_size", batch_size)
    checkpoint_every, seed = _whole("checkpoint_every", checkpoint_every), _whole("seed", seed, 0, 2**32 - 1)
    x, y, validation = _held_out(samples(x, y), validation_data, validation_split)
    loss, metrics = resolve_loss(loss), resolve_metrics(metrics)
    _check_columns([m.name for m in metrics], validation is not None, best_weights, early_stopping)
    check_labels(apply_fn, params, loss, (x, y), validation)
    steps = math.ceil(len(x) / batch_size) * epochs
    transformation = resolve_optimizer(optimizer, steps)
    path = checkpoint_path(checkpoint)
    same = {"samples": len(x), "batch_size": batch_size, "shuffle": shuffle, "seed": seed, "best_weights": best_weights}
    same |= _described(loss=loss, metrics=[m.name for m in metrics], optimizer=optimizer)
    same |= {"model": _digest(apply_fn), "data": _sketch(x, y)}
    loop = Loop(
        apply_fn=apply_fn,
        step=functools.partial(_compiled(apply_fn, loss, transformation, metrics), jax.random.key(seed)),
        x=x,
        y=y,
        validation=validation,
        loss=loss,
        metrics=metrics,
        epochs=epochs,
        batch_size=batch_size,
        order=functools.partial(_order, len(x), seed, shuffle),
        rate=learning_rate(optimizer, steps),
        early_stopping=early_stopping,
        best_weights=best_weights,
        checkpoint=path,
        checkpoint_every=checkpoint_every,
        save=lambda progress: None if path is None else save(path, progress, same),
        on_epoch=on_epoch,
        on_step=on_step,
    )
    progress = Progress(init_state(apply_fn, params, transformation))
    if resume and path is not None and path.exists():
        progress = load(path, progress.state, same)
    with stop_on_signal() as stop:
        return loop.run(progress, stop)


@remembered
def _compiled(apply_fn: Any, loss: Any, transformation: Any, metrics: Any) -> Callable[..., Any]:
    """Jit a training step that makes its own dropout key out of (the run's key, epoch, step)."""
    step = train_step(apply_fn, loss, transformation, metrics)

    @jax.jit
    def keyed(key: Any, state: Any, x: Any, y: Any, epoch: Any, index: Any) -> Any:
        return step(state, x, y, jax.random.fold_in(jax.random.fold_in(key, epoch), index))

    return keyed


def _order(count: int, seed: int, shuffle: bool, epoch: int) -> np.ndarray:
    """Give the order in which an epoch takes the samples."""
    return np.random.default_rng([seed, epoch]).permutation(count) if shuffle else np.arange(count)


def _held_out(given: tuple[Any, ...], data: Any, split: float) -> tuple[Any, Any, tuple[Any, Any] | None]:
    """Give training samples, targets and validation data."""
    x, y = given
    if not 0 <= split < 1:
        raise ValueError(f"validation_split is {split!r}; legal: from 0 up to, not including, 1")
    if data is not None:
        if split:
            raise ValueError("validation_data and validation_split are both given; one of them is legal")
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ValueError("validation_data is no pair; give (x, y)")
        return x, y, samples(*data)
    if not split:
        return x, y, None
    cut = math.floor(len(x) * (1 - split))
    if cut == 0 or cut == len(x):
        raise ValueError(f"validation_split={split} of {len(x)} samples leaves none on one side; give more samples")
    return x[:cut], y[:cut], (x[cut:], y[cut:])


def _sketch(*arrays: Any) -> int:
    """Give a number that tells data apart by shape, type, and the first and last rows: all that is cheap to read."""
    sketch = 0
    for array in arrays:
        rows = np.ascontiguousarray(np.asarray(array[[0, len(array) // 2, -1]]))
        sketch = zlib.crc32(f"{array.shape} {array.dtype}".encode() + rows.tobytes(), sketch)
    return sketch


def _whole(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Give a whole number, numpy's kinds included, as Python's. Raises ValueError for anything else."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        legal = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; legal: a whole number {legal}")
    return int(value)


def _check_columns(
    metrics: list[str], validates: bool, best_weights: str | None, early_stopping: EarlyStopping | None
) -> None:
    """Check that what is to be monitored will be in the log."""
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping is {early_stopping!r}; give EarlyStopping(monitor=..., patience=...)")
    columns = ["loss", *metrics]
    columns += [f"val_{name}" for name in columns] if validates else []
    wanted = [early_stopping.monitor] if early_stopping is not None else []
    for name in wanted + ([best_weights] if best_weights is not None else []):
        if name not in columns:
            raise ValueError(f"cannot monitor {name!r}, which is no column of the log; {nearest(str(name), columns)}")


def _described(*, optimizer: Any, **options: Any) -> dict[str, Any]:
    """Give options as plain values: what a resumed run has to have in common with the one that was stopped."""
    options["optimizer"] = {"name": optimizer} if isinstance(optimizer, str) else optimizer
    return {name: _plain(value) for name, value in options.items()}


def _digest(apply_fn: Any) -> str | None:
    """Give a few letters that stand for a model's options; None where they have no plain form, a user's function say.

    Shapes alone do not tell two models apart: a resumed run whose activation was changed would go on in silence.
    """
    try:
        text = json.dumps(apply_fn.layer.get_config(), sort_keys=True)
    except (AttributeError, TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "init"):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value) if dataclasses.is_dataclass(value) else getattr(value, "__name__", type(value).__name__)
