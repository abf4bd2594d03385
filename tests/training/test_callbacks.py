"""Callbacks: a table with one row per epoch, scalars, the display, events, and reasons to stop."""

import csv
import io
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.app.run_folder import read_metrics
from jaxconv.files.errors import FileError
from jaxconv.layers.dense import Dense
from jaxconv.training.callbacks import CSVLogger, EndEvent, EpochEvent, ProgressDisplay, StepEvent, TensorBoard
from jaxconv.training.fit import fit

ROWS = [{"epoch": i, "loss": 0.1 / i, "accuracy": 1 / 3} for i in range(1, 6)]
X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


def epoch(i):
    return EpochEvent(i, 5, ROWS[i - 1], ROWS[:i], None, frozenset())


def train(**options):
    params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    return fit(apply_fn, params, X, X[:, :1], **{"loss": "mse", "batch_size": 4, "epochs": 3} | options)


def test_each_epoch_adds_a_row_with_exact_numbers(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    for i in range(1, 6):
        logger(epoch(i))
        assert read_metrics(tmp_path) == ROWS[:i]
    with open(tmp_path / "metrics.csv", newline="") as handle:
        assert [line[0] for line in csv.reader(handle)] == ["epoch", "1", "2", "3", "4", "5"]


def test_a_resumed_table_has_every_row_once(tmp_path):
    for on_disk in (2, 3, 5):  # one row fewer than in the checkpoint, as many, and two more
        CSVLogger(tmp_path / "metrics.csv")(epoch(on_disk))
        logger = CSVLogger(tmp_path / "metrics.csv")
        logger(epoch(4))
        assert read_metrics(tmp_path) == ROWS[:4]
        logger(epoch(5))
        assert read_metrics(tmp_path) == ROWS


def test_a_run_that_is_resumed_at_its_end_completes_the_table(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger(EndEvent("epochs", []))
    assert read_metrics(tmp_path) == []
    logger(EndEvent("epochs", ROWS))
    assert read_metrics(tmp_path) == ROWS


def test_a_full_disk_is_named_and_leaves_whole_rows(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger(epoch(1))
    table = (tmp_path / "metrics.csv").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(table) + 3, before[1]))  # a file cannot grow beyond this
    try:
        with pytest.raises(FileError, match=r"metrics\.csv"):
            logger(epoch(2))
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


def test_the_display_starts_at_the_epoch_of_the_resumed_run(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    show = ProgressDisplay()
    show(StepEvent(epoch=6, epochs=10, step=1, steps=4, metrics={"loss": 1.0}))
    show(EndEvent("error", []))
    shown = stream.getvalue()
    assert "epoch 5/10" in shown and "epoch 6/10" in shown and "epoch 1/" not in shown


@pytest.mark.parametrize("steps", [3, None])
def test_fit_shows_each_epoch_with_validation(monkeypatch, steps):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    batches = [(X[i : i + 4], X[i : i + 4, :1]) for i in (0, 4, 8)]
    data = (X, X[:, :1]) if steps else ((batch for batch in batches * 3),)
    params, apply_fn = Dense(1).init(jax.random.key(0), (None, 3))
    fitted = fit(
        apply_fn, params, *data, loss="mse", batch_size=4, epochs=3 if steps else 1, validation_data=(X, X[:, :1]),
        progress=True,
    )  # fmt: skip
    lines = [line.split("\r")[-1].rstrip() for line in stream.getvalue().split("\n")]
    expected = [f"epoch {row['epoch']}/{len(fitted.history)}" for row in fitted.history]
    assert [line.partition("  ")[0] for line in lines if line] == expected
    assert (
        f"loss {fitted.history[-1]['loss']:.4f}  val loss {fitted.history[-1]['val_loss']:.4f}"
        in lines[len(expected) - 1]
    )


def test_a_callback_gets_all_events_and_may_stop_training():
    events = []

    def watch(event):
        events.append(type(event).__name__)
        return isinstance(event, EpochEvent) and event.epoch == 2

    fitted = train(callbacks=[watch])
    assert events == (["StepEvent"] * 3 + ["EpochEvent"]) * 2 + ["EndEvent"]
    assert fitted.stopped == "callback" and len(fitted.history) == 2


@pytest.mark.parametrize("kind", [bool, np.bool_, jnp.bool_])
def test_a_boolean_of_any_library_stops_training(kind):
    fitted = train(callbacks=[lambda event: kind(isinstance(event, EpochEvent) and event.epoch == 2)])
    assert fitted.stopped == "callback" and len(fitted.history) == 2


@pytest.mark.parametrize("result", [1, 0.5, "stop", np.array([True]), np.float32(1)])
def test_a_result_that_is_no_boolean_is_an_error(result):
    def decide(event):
        return result

    class Decision:
        def __call__(self, event):
            return result

    for callback, name in ((decide, "decide"), (Decision(), "Decision")):
        with pytest.raises(TypeError, match=rf"^fit: the callback {name} returned .*; return True"):
            train(callbacks=[callback])
    at_the_end = [lambda event: result if isinstance(event, EndEvent) else None]  # decides nothing
    assert train(callbacks=at_the_end).stopped == "epochs"


def test_a_callback_that_stops_within_an_epoch_can_be_resumed(tmp_path):
    stopped = train(checkpoint=tmp_path, callbacks=[lambda e: isinstance(e, StepEvent) and (e.epoch, e.step) == (2, 2)])
    assert stopped.stopped == "callback" and len(stopped.history) == 1
    resumed, whole = train(checkpoint=tmp_path, resume=True), train()
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.params["kernel"], whole.params["kernel"])


def test_the_end_is_told_also_after_an_error():
    ends = []

    def fail(event):
        if isinstance(event, EndEvent):
            ends.append(event.stopped)
        elif isinstance(event, EpochEvent):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(callbacks=[fail])
    assert ends == ["error"]


def test_tensorboard_gets_every_column_of_every_epoch(tmp_path):
    pytest.importorskip("tensorboardX")
    fitted = train(callbacks=[TensorBoard(tmp_path)])
    from tensorboardX.proto.event_pb2 import Event

    [file] = tmp_path.iterdir()
    content, found = file.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[12 + size + 4 :]
    expected = [(row["epoch"], k, np.float32(v)) for row in fitted.history for k, v in row.items() if k != "epoch"]
    assert found == expected


def test_without_a_writer_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        TensorBoard(tmp_path)
