"""metrics.csv: one row per epoch, exact numbers, also after a run is resumed; and the progress display."""

import csv
import io
import resource

import pytest

from jaxconv.app.run_folder import read_metrics
from jaxconv.app.run_logger import RunLogger
from jaxconv.app.schema import ConfigError
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


def test_a_full_disk_is_named_and_leaves_whole_rows(tmp_path):
    logger = RunLogger(tmp_path, 5)
    logger.on_epoch(ROWS[:1], None)
    table = (tmp_path / "metrics.csv").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(table) + 3, before[1]))  # a file cannot grow beyond this
    try:
        with pytest.raises(ConfigError, match=r"metrics\.csv"):
            logger.on_epoch(ROWS[:2], None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "metrics.csv").read_bytes() == table


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", 0),
        ("epoch,loss", 0),
        ("epoch,loss\n1,0.5\n2,0.2", 1),
        ("epoch,loss\n1,0.5\n2\n", 1),
        ("epoch,loss\n1,0.5\n2,0.2.5\n3,0.1\n", 1),
        ("epoch,loss\n1,0.5\n\0\0\0\n", 1),
        ("epoch,loss\n1,0.5\n2,nan\n", 2),
    ],
)
def test_only_whole_rows_are_read(tmp_path, text, rows):
    (tmp_path / "metrics.csv").write_text(text)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2, 3][:rows]


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
