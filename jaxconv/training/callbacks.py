"""Callbacks of ``fit``: the events, and early stopping, CSV, TensorBoard, progress display.

A callback is any function of an event. Those here know columns of the log and files; nothing about models.
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
    """A step is done.

    epoch, epochs: the current epoch, counted from 1, and their number.
    step, steps: the steps completed in this epoch, and their number; None if it is not known.
    metrics: loss and metrics over the epoch so far, without the most recent steps; empty at first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int | None
    metrics: dict[str, float]


class EpochEvent(NamedTuple):
    """An epoch is done, validation and checkpoint included.

    epoch, epochs: the completed epochs, and their number.
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
    """Training has ended.

    stopped: as in ``Fitted``, or ``"error"`` if an exception ends it.
    history: the logs of all epochs.
    """

    stopped: str
    history: list[EpochLog]


Event = StepEvent | EpochEvent | EndEvent
Callback = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a metric has not improved for some epochs. It has no state: it is a function of the history.

    Args:
        monitor: a column of the log: ``"loss"``, ``"val_loss"``, ``"val_accuracy"``, ...
        patience: epochs without improvement before training stops; 0 stops at the first.
        min_delta: the smallest change that counts as an improvement, in units of the metric.
        mode: ``"min"``, ``"max"``, or ``"auto"``: as declared by the metric; a loss is minimized.
        start_from_epoch: epochs at the beginning that do not count.
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
        """Return whether the patience is used up after these epochs."""
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
    """Return whether a metric is better than the best value so far; NaN never is."""
    maximized = mode == "max" or (mode == "auto" and name.removeprefix("val_") in higher_is_better)
    sign = -1.0 if maximized else 1.0
    return not math.isnan(value) and (best is None or sign * value < sign * best - min_delta)


class CSVLogger:
    """Write the log to a table with one row per epoch, numbers in the shortest form that reads back exactly.

    Args:
        path: the file. A resumed run completes the table that it finds: it may have epochs that were not saved with the
            weights and are trained again, or lack the last one that was saved.

    Raises:
        FileError: the table cannot be written; it keeps whole rows.
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
    """Append a whole line or nothing. Raises FileError if that is not possible."""
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
    """Write the columns of the log as scalars that TensorBoard shows, one point per epoch.

    Args:
        log_dir: the folder in which TensorBoard looks for runs.

    Raises:
        ImportError: neither tensorboardX nor PyTorch's writer is installed.
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
    """Show epochs, loss, metrics, validation and the time left: ``fit(progress=True)``."""

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}
        self._display: Display | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepEvent):
            part = (event.step - 1) / event.steps if event.steps else 0.0
            if self._display is None:  # made here: the first step compiles, which would spoil the time left
                self._display = Display(event.epochs, start=event.epoch - 1 + part)
            self._metrics |= event.metrics
            # after the last step of an epoch, its own event shows all its metrics
            if event.steps is not None and event.step < event.steps:
                self._display.update(event.epoch - 1 + event.step / event.steps, self._metrics)
        elif isinstance(event, EpochEvent):
            self._metrics = {name: x for name, x in event.log.items() if name not in ("epoch", "learning_rate")}
            if self._display is not None:
                self._display.update(event.epoch, self._metrics)
        elif self._display is not None:
            self._display.close()
            self._display = None
