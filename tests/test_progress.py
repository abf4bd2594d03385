"""The progress display: a bar on a terminal, a few lines in a log."""

import contextlib
import io
import os
import termios

from jaxconv.progress import display, format_metrics


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_on_a_terminal_it_is_a_bar_with_the_epoch_the_metrics_and_the_time_left():
    stream = Terminal()
    with display(4, stream=stream) as progress:
        progress.update(0.5, {"loss": 0.25})
        progress.update(4, {"loss": 0.125, "accuracy": 1.0})
    shown = stream.getvalue()
    assert "epoch 4/4" in shown and "loss 0.1250  accuracy 1.0000" in shown and "left" in shown and "100%" in shown


def on_a_terminal(rows: int, columns: int) -> str:
    """Return the output of one epoch on a terminal of this size."""
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (rows, columns))
    with os.fdopen(terminal, "w") as stream, display(2, stream=stream) as progress:
        progress.update(2, {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.25})
    shown = b""
    with contextlib.suppress(OSError):  # the end of the output of a closed terminal
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    return shown.decode()


def test_on_a_narrow_terminal_the_time_left_is_not_cut_off():
    assert "val loss 0.2500" in on_a_terminal(24, 100)
    narrow = on_a_terminal(24, 50)
    assert "|" in narrow and "left, loss" in narrow and max(map(len, narrow.split("\r"))) <= 50


def test_on_a_terminal_without_a_size_it_is_lines():
    assert on_a_terminal(0, 0).startswith("epoch 2/2  loss 0.2500")  # tqdm would draw nothing


def test_without_tqdm_it_is_lines(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert on_a_terminal(24, 100).startswith("epoch 2/2  loss 0.2500")


def test_in_a_log_it_is_at_most_ten_lines():
    stream = io.StringIO()
    with display(1000, stream=stream) as progress:
        for done in range(1, 1001):
            progress.update(done, {"loss": 0.5})
    shown = stream.getvalue().splitlines()
    assert len(shown) <= 10 and shown[-1].startswith("epoch 1000/1000  loss 0.5000") and "\r" not in stream.getvalue()


def test_metrics_have_four_decimals_or_an_exponent():
    assert format_metrics({"loss": 0.5, "val_loss": 1e-5, "mse": 123456.0, "mae": 0}) == (
        "loss 0.5000  val loss 1.000e-05  mse 1.235e+05  mae 0.0000"
    )
