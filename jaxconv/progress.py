"""Progress display: a bar on a terminal or in a notebook, and occasional lines in a log file."""

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

# a long run gets about ten lines, each 1 to 30 seconds after the previous one; a short one gets a line per unit
_LINES, _SHORTEST_PAUSE, _LONGEST_PAUSE, _SHORT_RUN = 10, 1.0, 30.0, 20
_NARROWEST_BAR, _WIDEST_BAR, _REDRAW_PAUSE = 10, 30, 0.1


def _in_notebook(stream: TextIO) -> bool:
    return type(stream).__module__ == "ipykernel.iostream"


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal, or 80 if it is unknown (in a notebook, ``script`` and some containers)."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor has no size
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    return shutil.get_terminal_size().columns


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


def _format_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Display:
    """A progress display: permanent lines with all metrics, and a bar below them if the stream is live.

    A stream is live if a line can be drawn again: on a terminal and in a notebook. Use the display as a context manager
    to complete it if the loop fails.

    Args:
        total: the number of units.
        start: the number of units that were done before, by the run that this one resumes.
        unit: the name of a unit.
        stream: where to write; by default the output of a notebook, or stderr outside of one.
    """

    def __init__(self, total: int, *, start: float = 0, unit: str = "epoch", stream: TextIO | None = None):
        stream = stream or (sys.stdout if _in_notebook(sys.stdout) else sys.stderr)
        self.total, self.unit, self.stream = total, unit, stream
        self._live = stream.isatty() or _in_notebook(stream)
        self._start = self._done = self._line_at = start
        self._start_time = self._last_line = time.monotonic()
        self._last_drawn, self._drawn = -math.inf, 0
        self._metrics: Mapping[str, float] = {}
        self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Write the last metrics, unless they are already shown, and remove the bar or leave it complete."""
        if self._metrics and self._done > self._line_at:
            self._write_line()
        elif self._drawn:
            self._last_drawn = -math.inf
            self._draw()
            self.stream.write("\r" + " " * self._drawn + "\r" if self._line_at > self._start else "\n")
            self.stream.flush()
        self._live, self._metrics = False, {}

    def update(self, done: float, metrics: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` units are done (a fraction counts a part of the current unit), and ``metrics``."""
        before, self._done, self._metrics = self._done, done, metrics or self._metrics
        if self._line_is_due(before) and (self._metrics or not self._live):
            self._write_line()
        self._draw()

    def _line_is_due(self, before: float) -> bool:
        pause = time.monotonic() - self._last_line
        parts = self.total if self.total <= _SHORT_RUN else _LINES
        crossed = int(before) * parts // self.total != int(self._done) * parts // self.total
        crossed = crossed and (self.total <= _SHORT_RUN or pause >= _SHORTEST_PAUSE)
        return self._done > self._start and (self._done >= self.total or crossed or pause >= _LONGEST_PAUSE)

    def _label(self) -> str:
        return f"{self.unit} {max(1, min(math.ceil(self._done), self.total))}/{self.total}"

    def _times(self) -> tuple[float, float]:
        """Return the elapsed and the remaining seconds."""
        elapsed = time.monotonic() - self._start_time
        return elapsed, elapsed / max(self._done - self._start, 1e-9) * (self.total - self._done)

    def _write_line(self) -> None:
        self._last_line, self._line_at = time.monotonic(), self._done
        text = f"{self._label()}  {format_metrics(self._metrics)}".rstrip()
        if not self._live:
            elapsed, left = self._times()
            text += f"  {elapsed:.0f} s, {left:.0f} s left"
        # the line replaces the bar, which is drawn again below it
        self.stream.write(("\r" if self._drawn else "") + text.ljust(self._drawn) + "\n")
        self.stream.flush()
        self._drawn = 0

    def _draw(self) -> None:
        """Draw the bar in one line, followed by as many complete metrics as fit."""
        now = time.monotonic()
        if not self._live or (now - self._last_drawn < _REDRAW_PAUSE and self._drawn):
            return
        width = _columns(self.stream) - 1  # in the last column a terminal starts a new line
        left = f"{_format_time(self._times()[1])} left" if self._done > self._start else ""
        head, tail = f"{self._label()} |", f"| {self._done / self.total:4.0%}  {left}".rstrip()
        room = width - len(head) - len(tail) - _NARROWEST_BAR
        for name, value in self._metrics.items():
            text = f"  {format_metrics({name: value})}"
            room -= len(text)
            if room < 0:
                room += len(text)
                break
            tail += text
        size = min(room + _NARROWEST_BAR, _WIDEST_BAR)
        full = round(size * min(1.0, self._done / self.total))
        mark = "█" if "utf" in (getattr(self.stream, "encoding", None) or "utf").lower() else "#"
        line = f"{head}{mark * full}{' ' * (size - full)}{tail}"[:width] if size >= 1 else f"{head}{tail}"[:width]
        self.stream.write("\r" + line.ljust(self._drawn))
        self.stream.flush()
        self._last_drawn, self._drawn = now, len(line)
