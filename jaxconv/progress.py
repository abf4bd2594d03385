"""What a run shows while it works: a bar on a terminal, a line now and then in a log.

Knows counts, numbers and streams; nothing of training.
"""

import importlib.util
import math
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

_LINES, _SHORTEST, _LONGEST = 10, 1.0, 30.0  # into a log: about ten lines, each 1 to 30 seconds after the last


def display(total: int, *, start: float = 0, unit: str = "epoch", stream: TextIO | None = None) -> "Display":
    """Give a bar where ``stream`` (default: stderr) is a terminal, and spaced lines where it is a file or a pipe.

    Lines too where tqdm is not installed, or where the terminal does not know its size (``script``, some containers),
    on which tqdm would draw nothing.

    Args:
        total: how many units there are.
        start: how many of them were done before, by the run that this one resumes.
        unit: what is counted.
    """
    stream = stream or sys.stderr
    return (_Bar if _takes_a_bar(stream) else _Lines)(total, start, unit, stream)


def _takes_a_bar(stream: TextIO) -> bool:
    if not stream.isatty() or importlib.util.find_spec("tqdm") is None:
        return False
    try:
        return 0 not in os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no file behind it that could have a size
        return True


def readable(numbers: Mapping[str, float]) -> str:
    """Write metrics side by side, each as wide as the last time.

    >>> readable({"loss": 0.000123456, "accuracy": 0.98})
    'loss 1.235e-04  accuracy 0.9800'
    """
    return "  ".join(f"{name.replace('_', ' ')} {short(value)}" for name, value in numbers.items())


def short(value: float) -> str:
    """Write one number: four places, or four digits and an exponent where that would say little."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


class Display:
    """Shows how far a loop is. A context manager, so that a bar is closed also when the loop fails."""

    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        self.total, self.unit, self.stream = total, unit, stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def to(self, done: float, numbers: Mapping[str, float] | None = None) -> None:
        """Show that ``done`` units are done (a fraction is part of the one under way), and ``numbers`` beside it."""
        raise NotImplementedError

    def label(self, done: float) -> str:
        """Say which unit is under way: ``epoch 3/200``."""
        return f"{self.unit} {max(1, min(math.ceil(done), self.total))}/{self.total}"


class _Bar(Display):
    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        from tqdm import tqdm

        super().__init__(total, start, unit, stream)
        # the bar gives way to the words, and what a narrow terminal cuts off is the last of the numbers
        layout = "{desc} |{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left{postfix}"
        self._bar: Any = tqdm(
            total=total, initial=start, desc=self.label(start), file=stream, bar_format=layout, dynamic_ncols=True
        )

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()

    def to(self, done: float, numbers: Mapping[str, float] | None = None) -> None:
        self._bar.set_description_str(self.label(done), refresh=False)
        if numbers:
            self._bar.set_postfix_str(readable(numbers), refresh=False)
        self._bar.update(done - self._bar.n)


class _Lines(Display):
    def __init__(self, total: int, start: float, unit: str, stream: TextIO):
        super().__init__(total, start, unit, stream)
        self._start = self._done = start
        self._began = self._said = time.monotonic()

    def to(self, done: float, numbers: Mapping[str, float] | None = None) -> None:
        before, self._done = self._done, done
        now = time.monotonic()
        tenth = int(before) * _LINES // self.total != int(done) * _LINES // self.total
        quiet = now - self._said
        due = done >= self.total or quiet >= _LONGEST or (tenth and quiet >= _SHORTEST)
        if not due or done <= self._start:
            return
        self._said, elapsed = now, now - self._began
        left = elapsed / (done - self._start) * (self.total - done)
        shown = f"  {readable(numbers)}" if numbers else ""
        print(f"{self.label(done)}{shown}  {elapsed:.0f} s, {left:.0f} s left", file=self.stream, flush=True)
