"""Callbacks of ``fit``: their events, early stopping, logs for CSV and TensorBoard, and the progress display.

A callback is any function of an event.
"""

import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxconv.contract import Params
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError
from jaxconv.progress import Display
from jaxconv.registry import nearest

EpochLog = dict[str, Any]


class StepEvent(NamedTuple):
    """The event after each training step.

    epoch, epochs: the current epoch, counted from 1, and the number of epochs.
    step, steps: the number of completed steps in this epoch, and the number of its steps or None if it is not known.
    metrics: loss and metrics over the epoch so far, without the most recent steps; empty at first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    metrics: dict[str, float]


class EpochEvent(NamedTuple):
    """The event after each epoch, including its validation and checkpoint.

    epoch, epochs: the number of completed epochs, and the number of epochs.
    log: loss, metrics and validation of this epoch.
    history: the logs of all epochs, including those before the run was resumed.
    params: the weights; with ``ema``, the averaged ones.
    higher_is_better: the metrics that are maximized, without the prefix ``val_``.
    """

    epoch: int
    epochs: int
    log: EpochLog
    history: list[EpochLog]
    params: Params
    higher_is_better: frozenset[str]


class EndEvent(NamedTuple):
    """The event at the end of training.

    stopped: as in ``Fitted``, or ``"error"`` if an exception ended the training.
    history: the logs of all epochs.
    """

    stopped: str
    history: list[EpochLog]


Event = StepEvent | EpochEvent | EndEvent
Callback = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop training when a metric has not improved for some epochs. It has no state: it is a function of the history.

    Args:
        monitor: a column of the log: ``"loss"``, ``"val_loss"``, ``"val_accuracy"``, ...
        patience: the number of epochs without improvement after which training stops; 0 means the same as 1.
        min_delta: the smallest change that counts as an improvement, in units of the metric.
        mode: ``"min"``, ``"max"``, or ``"auto"``: as declared by the metric; a loss is minimized.
        start_from_epoch: the number of epochs at the beginning that do not count.

    Raises:
        ValueError: an unknown mode, or a value that is not a number of at least 0.

    >>> history = [{"val_loss": 0.5}, {"val_loss": 0.6}, {"val_loss": 0.7}]
    >>> stopping = EarlyStopping("val_loss", patience=2)
    >>> stopping.should_stop(history[:2], ()), stopping.should_stop(history, ())
    (False, True)
    """

    monitor: str = "val_loss"
    patience: int = 0
    min_delta: float = 0.0
    mode: Literal["auto", "min", "max"] = "auto"
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "min", "max"):
            hint = nearest(str(self.mode), ["auto", "min", "max"])
            raise ValueError(f"EarlyStopping: unknown mode {self.mode!r}; {hint}")
        for name in ("patience", "min_delta", "start_from_epoch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
                raise ValueError(f"EarlyStopping: {name} is {getattr(self, name)!r}; expected a number of at least 0")

    def __call__(self, event: Event) -> bool:
        return isinstance(event, EpochEvent) and self.should_stop(event.history, event.higher_is_better)

    def should_stop(self, history: Sequence[EpochLog], higher_is_better: Iterable[str]) -> bool:
        """Return whether training should stop after these epochs.

        Args:
            history: one log per epoch.
            higher_is_better: the names of the metrics that are maximized, without the prefix ``val_``.
        """
        best, waited = None, 0
        for log in history[int(self.start_from_epoch) :]:
            value = log[self.monitor]
            if improved(self.monitor, value, best, higher_is_better, self.min_delta, self.mode):
                best, waited = value, 0
            else:
                waited += 1
        return waited >= max(1, self.patience)


def improved(
    name: str,
    value: float,
    best: float | None,
    higher_is_better: Iterable[str],
    min_delta: float = 0.0,
    mode: str = "auto",
) -> bool:
    """Return whether a metric is better than the best value so far. NaN never is."""
    maximized = mode == "max" or (mode == "auto" and name.removeprefix("val_") in higher_is_better)
    sign = -1.0 if maximized else 1.0
    return not math.isnan(value) and (best is None or sign * value < sign * best - min_delta)


def check_column(
    name: str, metrics: Sequence[str], has_validation: bool, needs: str = "validation_data or validation_split"
) -> None:
    """Raise ValueError, with the nearest name, if the log of a run with these metrics has no column ``name``.

    ``needs`` names the option, for the message, without which there are no ``val_`` columns.

    >>> check_column("los", [], has_validation=True)
    Traceback (most recent call last):
    ValueError: 'los' is not a column of the log; did you mean 'loss'? expected loss, val_loss
    """
    columns = ["loss", *metrics]
    columns += [f"val_{column}" for column in columns] if has_validation else []
    if name not in columns:
        hint = "" if has_validation else f"; val_ columns need {needs}"
        raise ValueError(f"{name!r} is not a column of the log; {nearest(str(name), columns)}{hint}")


class CSVLogger:
    """Write the log to a CSV file with one row per epoch. Numbers have the shortest form that reads back exactly.

    Args:
        path: the file. A resumed run replaces its rows by those of the whole history: the file may contain epochs that
            were not saved with the weights and are trained again, or lack the last epoch that was saved.

    Raises:
        FileError: the file cannot be written. It contains no incomplete row.

    >>> log = {"epoch": 1, "loss": 0.5}
    >>> logger = CSVLogger("metrics.csv")
    >>> logger(EpochEvent(1, 1, log, history=[log], params={}, higher_is_better=frozenset()))
    >>> logger.path.read_text().split()
    ['epoch,loss', '1,0.5']
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._rows = 0

    def __call__(self, event: Event) -> None:
        rows = [] if isinstance(event, StepEvent) else event.history
        if rows and len(rows) == self._rows + 1 and self._rows:
            _append(self.path, _csv_line(rows[-1].values()))
        elif len(rows) > self._rows:
            with replacing(self.path) as handle:
                handle.write("".join(_csv_line(line) for line in [rows[0], *(r.values() for r in rows)]).encode())
        self._rows = max(self._rows, len(rows))


def _append(path: Path, line: str) -> None:
    """Append a whole line. Raises FileError if that is not possible; then the file is unchanged."""
    try:
        with open(path, "ab", buffering=0) as handle:
            size, rest = handle.tell(), line.encode()
            try:
                while rest:  # on a disk that is almost full, a part is written before the error
                    rest = rest[handle.write(rest) :]
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror}") from None


def _csv_line(values: Iterable[Any]) -> str:
    return ",".join(map(str, values)) + "\n"


class TensorBoard:
    """Write the columns of the log as scalars for TensorBoard, one point per epoch.

    Args:
        log_dir: the folder in which TensorBoard looks for runs.

    Raises:
        ImportError: neither tensorboardX nor PyTorch's writer is installed.

    >>> fitted = jaxconv.fit(apply_fn, params, x, y, loss="mse", callbacks=[TensorBoard("logs")])  # doctest: +SKIP
    """

    def __init__(self, log_dir: str | os.PathLike[str]):
        self._writer = _summary_writer()(os.fspath(log_dir))

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochEvent):
            for name, value in event.log.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, event.epoch)
        elif isinstance(event, EndEvent):
            self._writer.close()


def _summary_writer() -> Any:
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
    raise ImportError("TensorBoard needs the package tensorboardX; install it with: pip install tensorboardX")


class ProgressDisplay:
    """Show epochs, loss, metrics, validation and the remaining time, as ``fit(progress=True)`` does."""

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}
        self._display: Display | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            part = (event.step - 1) / event.steps if event.steps else 0.0
            if self._display is None:  # created here: the first step compiles, which would distort the remaining time
                self._display = Display(event.epochs, start=event.epoch - 1 + part)
            self._metrics |= event.metrics
            # after the last step of an epoch, the event of the epoch shows all its metrics
            if event.steps is not None and event.step < event.steps:
                self._display.update(event.epoch - 1 + event.step / event.steps, self._metrics)
        elif isinstance(event, EpochEvent):
            self._metrics = {name: x for name, x in event.log.items() if name not in ("epoch", "learning_rate")}
            if self._display is not None:
                self._display.update(event.epoch, self._metrics)
        elif self._display is not None:
            self._display.close()
            self._display = None
