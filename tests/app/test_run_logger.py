"""metrics.csv: one row per epoch, exact numbers, also after a run is resumed; and the progress display."""

import csv
import io

from jaxconv.app.run_folder import read_metrics
from jaxconv.app.run_logger import RunLogger
from jaxconv.training.loop import StepEvent

ROWS = [{"epoch": i, "loss": 0.1 / i, "accuracy": 1 / 3} for i in range(1, 6)]


def test_each_epoch_adds_a_row_with_exact_numbers(tmp_path):
    logger = RunLogger(tmp_path, 5)
    for i in range(1, 6):
        logger.on_epoch(ROWS[:i], None)
        assert read_metrics(tmp_path) == ROWS[:i]
    with open(tmp_path / "metrics.csv", newline="") as handle:
        assert [line[0] for line in csv.reader(handle)] == ["epoch", "1", "2", "3", "4", "5"]


def test_a_resumed_table_has_every_row_once(tmp_path):
    for on_disk in (2, 3, 5):  # one row fewer than in the checkpoint, as many, and two more
        RunLogger(tmp_path, 5).record(ROWS[:on_disk])
        logger = RunLogger(tmp_path, 5)
        logger.on_epoch(ROWS[:4], None)
        assert read_metrics(tmp_path) == ROWS[:4]
        logger.on_epoch(ROWS[:5], None)
        assert read_metrics(tmp_path) == ROWS


def test_a_folder_without_a_table_has_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_the_display_starts_at_the_epoch_of_the_resumed_run(tmp_path, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with RunLogger(tmp_path, 10) as logger:
        logger.on_step(StepEvent(epoch=6, epochs=10, step=1, steps=4, metrics={"loss": 1.0}))
    shown = stream.getvalue()
    assert "epoch 5/10" in shown and "epoch 6/10" in shown and "epoch 1/" not in shown
