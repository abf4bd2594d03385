"""Progress display: a bar on a terminal, a line from time to time in a log file.

Knows counts, numbers and streams; nothing about training.
"""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

# a log gets about ten lines, each 1 to 30 seconds after the previous one
_LINES, _SHORTEST_PAUSE, _LONGEST_PAUSE = 10, 1.0, 30.0


def display(total: int, *, start: float = 0, unit: str = "epoch", stream: TextIO | None = None) -> "Display":
    """Return a progress bar if ``stream`` (default: stderr) is a terminal, and a display of single lines otherwise.

    Lines are also used if tqdm is not installed, and on terminals that do not know their size (``script``, some
    containers), on which tqdm draws nothing.

    Args:
        total: the number of units.
        start: the units done before, by the run that this one resumes.
        unit: what is counted.
    """
    stream = stream or sys.stderr
    return (_Bar if _supports_bar(stream) else _Lines)(total, start, unit, stream)


def _supports_bar(stream: TextIO) -> bool:
    if not stream.isatty() or importlib.util.find_spec("tqdm") is None:
        return False
    try:
        return 0 not in os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # a stream without a file descriptor has no size
        return True


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return metrics as one line of text with names and short numbers.

    >>> format_metrics({"loss": 0.000123456, "accuracy": 0.98})
    'loss 1.235e-04  accuracy 0.9800'
    """
    return "  ".join(f"{name.replace('_', ' ')} {format_number(value)}" for name, value in metrics.items())


def format_number(value: float) -> str:
    """Return a number with four decimals, or with an exponent if it is very small or large.

    >>> format_number(0.5), format_number(123456.0)
    ('0.5000', '1.235e+05')
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


class Display:
    """A progress display. It is a context manager, so that a bar is closed when the loop fails."""

    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        self.total, self.unit, self.stream = total, unit, stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def update(self, done: float, metrics: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` units are done (a fraction counts a part of the current unit), and ``metrics``."""
        raise NotImplementedError

    def label(self, done: float) -> str:
        """Return the current unit: ``epoch 3/200``."""
        return f"{self.unit} {max(1, min(math.ceil(done), self.total))}/{self.total}"


class _Bar(Display):
    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        from tqdm import tqdm

        super().__init__(total, start, unit, stream)
        # the bar shrinks first; a narrow terminal cuts off the metrics at the end
        layout = "{desc} |{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left{postfix}"
        self._bar: Any = tqdm(
            total=total, initial=start, desc=self.label(start), file=stream, bar_format=layout, dynamic_ncols=True
        )

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def update(self, done: float, metrics: Mapping[str, float] | None = None) -> None:
        self._bar.set_description_str(self.label(done), refresh=False)
        if metrics:
            self._bar.set_postfix_str(format_metrics(metrics), refresh=False)
        self._bar.update(done - self._bar.n)


class _Lines(Display):
    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        super().__init__(total, start, unit, stream)
        self._start = self._done = start
        self._start_time = self._last_line = time.monotonic()

    def update(self, done: float, metrics: Mapping[str, float] | None = None) -> None:
        before, self._done = self._done, done
        now = time.monotonic()
        crosses_tenth = int(before) * _LINES // self.total != int(done) * _LINES // self.total
        pause = now - self._last_line
        due = done >= self.total or pause >= _LONGEST_PAUSE or (crosses_tenth and pause >= _SHORTEST_PAUSE)
        if not due or done <= self._start:
            return
        self._last_line, elapsed = now, now - self._start_time
        left = elapsed / (done - self._start) * (self.total - done)
        text = f"  {format_metrics(metrics)}" if metrics else ""
        print(f"{self.label(done)}{text}  {elapsed:.0f} s, {left:.0f} s left", file=self.stream, flush=True)
