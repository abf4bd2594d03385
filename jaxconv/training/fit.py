"""Training in one call: resolve and check every option, then run the loop.

Knows the options of a run. It prints nothing; the callbacks are for whoever wants to show or write something.
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
from jaxconv.training.evaluation import as_samples, cached, check_labels, check_model
from jaxconv.training.interrupt import stop_on_signal
from jaxconv.training.loop import EarlyStopping, EpochLog, Fitted, Loop, StepEvent
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.optimizers import learning_rate
from jaxconv.training.optimizers import optimizer as resolve_optimizer
from jaxconv.training.step import init_state, train_step

MOST_EPOCHS = 2**31 - 1  # the step function gets the epoch as int32


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
    on_epoch: Callable[[list[EpochLog], Params], None] | None = None,
    on_step: Callable[[StepEvent], None] | None = None,
) -> Fitted:
    """Train a model.

    As in Keras's ``fit``: the last, smaller batch of an epoch is used; ``validation_split`` takes the last samples
    before shuffling; the log's loss includes the regularizers. Unlike in Keras, the order of the samples and the
    dropout keys of an epoch follow from (seed, epoch) alone, so the same seed gives the same numbers, whether the run
    is interrupted and resumed or not.

    The log of an epoch contains ``epoch`` (from 1), ``loss``, the metrics, the same with the prefix ``val_``, and
    ``learning_rate`` (of the epoch's last step) if the optimizer is given by name.

    Args:
        apply_fn, params: the model, as returned by ``layer.init``. ``params`` is not changed.
        x, y: arrays ``(samples, ...)``; memory maps may be larger than memory: only the rows of a batch are read.
        loss: a name, a table or a callable; see ``losses.loss``.
        optimizer: a name, a table or an optax transformation; see ``optimizers.optimizer``. Schedules without a length
            have the length of the whole run.
        metrics: names, tables or objects; see ``metrics.metric``.
        epochs: passes over the data, including those before the run was resumed.
        batch_size: samples per step.
        shuffle: whether each epoch has a new order of the samples.
        seed: from 0 to 2³² - 1; for order and dropout, not for ``params``.
        validation_data: ``(x, y)`` to evaluate on after each epoch.
        validation_split: the fraction of the samples, at the end, to use for validation instead.
        early_stopping: when to stop early.
        best_weights: the column of the log (``"val_loss"``) whose best epoch gives the weights to return.
        checkpoint: the file for the run's progress, or the folder for a file ``checkpoint.npz``.
        checkpoint_every: epochs between checkpoints; one is also saved at the end and on an interruption.
        resume: continue from ``checkpoint`` if it exists; otherwise start at the beginning.
        on_epoch: called after each epoch with all logs so far, including those before resuming, and the weights.
        on_step: called after each step.

    Returns:
        Weights, history, the best epoch, and the reason why training stopped.

    Raises:
        ValueError, TypeError: illegal arguments, before anything is trained.
        NonFiniteLoss: the loss or a weight is NaN or infinite. The last good checkpoint is kept.
        Interrupted: Ctrl-C or SIGTERM in the main thread, after the current step is finished and the checkpoint is
            saved. A second Ctrl-C stops at once.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 2))
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> fitted = fit(apply_fn, params, x, x.sum(1, keepdims=True), loss="mse", metrics=(), epochs=30, batch_size=8)
    >>> fitted.stopped, fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    ('epochs', True)
    """
    check_model(apply_fn, params)
    epochs, batch_size = _integer("epochs", epochs), _integer("batch_size", batch_size)
    checkpoint_every, seed = _integer("checkpoint_every", checkpoint_every), _integer("seed", seed, 0, 2**32 - 1)
    x, y, validation = _split_validation(as_samples(x, y), validation_data, validation_split)
    loss, metrics = resolve_loss(loss), resolve_metrics(metrics)
    _check_columns([m.name for m in metrics], validation is not None, best_weights, early_stopping)
    check_labels(apply_fn, params, loss, (x, y), validation)
    steps = min(math.ceil(len(x) / batch_size) * epochs, MOST_EPOCHS)  # optax counts steps in int32
    transformation = resolve_optimizer(optimizer, steps)
    path = checkpoint_path(checkpoint)
    same = {"samples": len(x), "batch_size": batch_size, "shuffle": shuffle, "seed": seed, "best_weights": best_weights}
    same |= _run_options(loss=loss, metrics=[m.name for m in metrics], optimizer=optimizer)
    same |= {"model": _model_digest(apply_fn), "data": _data_checksum(x, y)}
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
        sample_order=functools.partial(_sample_order, len(x), seed, shuffle),
        learning_rate=learning_rate(optimizer, steps),
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


@cached
def _compiled(apply_fn: Any, loss: Any, transformation: Any, metrics: Any) -> Callable[..., Any]:
    """Return a jitted training step that derives its dropout key from (the run's key, epoch, step)."""
    step = train_step(apply_fn, loss, transformation, metrics)

    @jax.jit
    def step_with_key(key: Any, state: Any, x: Any, y: Any, epoch: Any, index: Any) -> Any:
        return step(state, x, y, jax.random.fold_in(jax.random.fold_in(key, epoch), index))

    return step_with_key


def _sample_order(count: int, seed: int, shuffle: bool, epoch: int) -> np.ndarray:
    """Return the order of the samples in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count) if shuffle else np.arange(count)


def _split_validation(training: tuple[Any, ...], data: Any, split: float) -> tuple[Any, Any, tuple[Any, Any] | None]:
    """Return training samples, targets and validation data."""
    x, y = training
    if not 0 <= split < 1:
        raise ValueError(f"validation_split is {split!r}; legal: from 0 up to, not including, 1")
    if data is not None:
        if split:
            raise ValueError("validation_data and validation_split are both given; one of them is legal")
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise ValueError(f"validation_data is a {type(data).__name__}; give a pair (x, y)")
        return x, y, as_samples(*data)
    if not split:
        return x, y, None
    cut = training_count(len(x), split)
    return x[:cut], y[:cut], (x[cut:], y[cut:])


def training_count(samples: int, validation_split: float) -> int:
    """Return the number of samples that remain for training. Raises ValueError if there are none, or all.

    >>> training_count(37, 0.25)
    27
    """
    count = math.floor(samples * (1 - validation_split))
    if validation_split and not 0 < count < samples:
        raise ValueError(
            f"validation_split={validation_split} of {samples} samples leaves no sample on one side; "
            "give another fraction or more samples"
        )
    return count


def _data_checksum(*arrays: Any) -> int:
    """Return a checksum of shape, dtype, and the first, middle and last row: what is cheap to read."""
    checksum = 0
    for array in arrays:
        rows = np.ascontiguousarray(np.asarray(array[[0, len(array) // 2, -1]]))
        checksum = zlib.crc32(f"{array.shape} {array.dtype}".encode() + rows.tobytes(), checksum)
    return checksum


def _integer(name: str, value: Any, low: int = 1, high: int = MOST_EPOCHS) -> int:
    """Return an integer, of numpy or Python, as Python's int. Raises ValueError for anything else."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; legal: an integer from {low} to {high}")
    return int(value)


def _check_columns(
    metrics: list[str], has_validation: bool, best_weights: str | None, early_stopping: EarlyStopping | None
) -> None:
    """Check that the monitored columns will be in the log."""
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        raise TypeError(f"early_stopping is {early_stopping!r}; give EarlyStopping(monitor=..., patience=...)")
    columns = ["loss", *metrics]
    columns += [f"val_{name}" for name in columns] if has_validation else []
    wanted = [early_stopping.monitor] if early_stopping is not None else []
    for name in wanted + ([best_weights] if best_weights is not None else []):
        if name not in columns:
            raise ValueError(f"cannot monitor {name!r}: the log has no such column; {nearest(str(name), columns)}")


def _run_options(*, optimizer: Any, **options: Any) -> dict[str, Any]:
    """Return options as plain values: those that a resumed run must share with the interrupted one."""
    options["optimizer"] = {"name": optimizer} if isinstance(optimizer, str) else optimizer
    return {name: _plain(value) for name, value in options.items()}


def _model_digest(apply_fn: Any) -> str | None:
    """Return a short hash of a model's options; None if they have no plain form, such as a user's function.

    Shapes do not identify a model: a run whose activation was changed must not be resumed.
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
