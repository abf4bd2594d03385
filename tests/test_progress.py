"""The progress display: a bar of fixed layout on a terminal and in a notebook, a few lines in a log."""

import contextlib
import io
import os
import re
import termios

import pytest

from jaxconv.progress import Display, format_metrics

METRICS = {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.125, "val_accuracy": 0.75}
LINE = "loss 0.2500  accuracy 0.5000  val loss 0.1250  val accuracy 0.7500"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def on_a_terminal(rows: int, columns: int, metrics=METRICS, total: int = 2) -> str:
    """Return the output of one epoch and a half on a terminal of this size."""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (rows, columns))
    with os.fdopen(terminal, "w", encoding="utf-8") as stream, Display(total, stream=stream) as progress:
        progress.update(1, metrics)
        progress._last_drawn = 0.0  # as if some time had passed
        progress.update(1.5, metrics)
    shown = b""
    with contextlib.suppress(OSError):  # the end of the output of a closed terminal
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    return shown.decode().replace("\r\n", "\n")


def bars(shown: str) -> list[str]:
    return [part for part in re.split(r"[\r\n]", shown) if "|" in part]


@pytest.mark.parametrize("columns", [80, 0, 50, 200])
def test_the_bar_keeps_its_shape_and_the_metrics_are_whole(columns):
    shown = on_a_terminal(24 if columns else 0, columns)
    assert f"epoch 1/2  {LINE}" in shown, "all metrics are in a permanent line"
    width = columns or 80  # a terminal that does not know its size
    last = bars(shown)[-1]
    assert all(len(bar) < width for bar in bars(shown))
    inside = re.fullmatch(r"epoch 2/2 \|(█* *)\|  75%  \d+:\d\d left(.*)", last.rstrip())
    assert len(inside[1]) >= 10 and inside[1].count("█") == round(len(inside[1]) * 0.75)
    expected = {50: "", 80: "  loss 0.2500  accuracy 0.5000", 200: f"  {LINE}"}[width]
    assert inside[2] == expected


def test_a_long_run_has_few_lines_and_the_last_one():
    stream = Terminal()
    with Display(1000, stream=stream) as progress:
        for done in range(1, 701):  # stops early
            progress.update(done, {"loss": 0.5})
    lines = [line for line in re.sub(r"[^\n]*\r", "", stream.getvalue()).splitlines() if line]
    assert len(lines) <= 10 and lines[-1].rstrip() == "epoch 700/1000  loss 0.5000"


def test_without_metrics_the_complete_bar_stays():
    stream = Terminal()
    with Display(3, unit="example", stream=stream) as progress:
        progress.update(3)
    shown = stream.getvalue()
    assert shown.endswith("\n") and shown.count("\n") == 1 and "example 3/3" in bars(shown)[-1]
    assert "100%" in bars(shown)[-1]


def test_in_a_log_it_is_at_most_ten_lines():
    stream = io.StringIO()
    with Display(1000, stream=stream) as progress:
        for done in range(1, 1001):
            progress.update(done, {"loss": 0.5})
    shown = stream.getvalue().splitlines()
    assert len(shown) <= 10 and shown[-1].startswith("epoch 1000/1000  loss 0.5000") and "\r" not in stream.getvalue()


def test_in_a_log_a_short_run_has_a_line_for_each_epoch():
    stream = io.StringIO()
    with Display(3, stream=stream) as progress:
        for done in (0.5, 1, 1.5, 2, 2.5, 3):
            progress.update(done, METRICS)
    shown = stream.getvalue().splitlines()
    assert [line.partition("  ")[0] for line in shown] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(LINE in line and line.endswith("s left") for line in shown)


def test_metrics_have_four_decimals_or_an_exponent():
    assert format_metrics({"loss": 0.5, "val_loss": 1e-5, "mse": 123456.0, "mae": 0}) == (
        "loss 0.5000  val loss 1.000e-05  mse 1.235e+05  mae 0.0000"
    )
