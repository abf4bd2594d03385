"""What a run shows and records while it trains: the progress display and ``metrics.csv``.

Knows the callbacks of ``fit``; nothing about models.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from jaxconv.app.run_folder import METRICS, write_text
from jaxconv.app.schema import ConfigError
from jaxconv.progress import Display, display
from jaxconv.training.loop import StepEvent


class RunLogger:
    """Callbacks for ``fit`` that update ``metrics.csv``, one row per epoch, and the progress display.

    Args:
        folder: the run folder. If it has a ``metrics.csv``, it is that of the run that is resumed: it may have epochs
            that were not saved with the weights and are trained again, or lack the last one that was saved.
        epochs: the number of epochs.
    """

    def __init__(self, folder: Path, epochs: int):
        self.path, self.epochs = folder / METRICS, epochs
        self.rows: list[dict[str, Any]] = []
        self._metrics: dict[str, float] = {}
        self._display: Display | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._display is not None:
            self._display.__exit__(*error)

    def on_step(self, event: StepEvent) -> None:
        """Show the progress within an epoch."""
        if self._display is None:  # made here: the first step compiles, which would spoil the estimate of the time left
            self._display = display(self.epochs, start=event.epoch - 1 + (event.step - 1) / event.steps)
        self._metrics |= event.metrics
        if event.step < event.steps:  # after the last step, on_epoch shows the metrics of the epoch
            self._display.update(event.epoch - 1 + event.step / event.steps, self._metrics)

    def on_epoch(self, rows: Sequence[Mapping[str, Any]], params: Any) -> None:
        """Record and show the metrics of the epoch."""
        self.record(rows)
        self._metrics |= {name: value for name, value in rows[-1].items() if name not in ("epoch", "learning_rate")}
        if self._display is not None:
            self._display.update(len(rows), self._metrics)

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make ``metrics.csv`` contain these rows: append the last one, or rewrite the file if more has changed."""
        if rows and len(rows) == len(self.rows) + 1 and self.rows:
            _append(self.path, _csv_line(rows[-1].values()))
        elif len(rows) != len(self.rows):
            write_text(self.path, "".join(_csv_line(line) for line in [rows[0], *(row.values() for row in rows)]))
        self.rows = [dict(row) for row in rows]


def _append(path: Path, line: str) -> None:
    """Append a whole line or nothing. Raises ConfigError if that is not possible."""
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
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _csv_line(values: Iterable[Any]) -> str:
    """Return a line of a table, with numbers in the shortest form that reads back exactly."""
    return ",".join(map(str, values)) + "\n"
