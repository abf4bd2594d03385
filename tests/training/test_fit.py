"""fit: the same numbers from the same seed, interrupted or not; Keras's splits and batches; reasons to stop; errors."""

import dataclasses
import signal
import threading
from typing import ClassVar

import jax
import numpy as np
import optax
import pytest

from jaxconv.files.errors import FileError
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.models import Sequential
from jaxconv.training.callbacks import EarlyStopping, EpochEvent, StepEvent
from jaxconv.training.evaluation import evaluate, predict, predict_batches
from jaxconv.training.fit import fit
from jaxconv.training.interrupt import stop_on_signal
from jaxconv.training.loop import Interrupted, NonFiniteLoss
from jaxconv.training.metrics import Metric

RNG = np.random.default_rng(11)
X = RNG.normal(size=(37, 4)).astype(np.float32)
Y = (X @ np.array([[1.0], [-1.0], [0.5], [0.0]]) + 0.1 * RNG.normal(size=(37, 1))).astype(np.float32)
LABELS = (Y[:, 0] > 0).astype(np.int64)
LAYER = Sequential([Dense(5, activation="tanh"), BatchNormalization(), Dropout(0.4), Dense(1)])
LINEAR = Dense(1)
CLASSIFIER = Dense(2, activation="softmax")


def train(layer=LAYER, x=X, y=Y, **options):
    params, apply_fn = layer.init(jax.random.key(0), (None, *x.shape[1:]))
    return fit(apply_fn, params, x, y, **{"loss": "mse", "metrics": "mae", "batch_size": 8, "epochs": 3} | options)


def assert_same(a, b):
    assert a.history == b.history and (a.best_epoch, a.stopped) == (b.best_epoch, b.stopped)
    for left, right in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_array_equal(left, right)


class Crash(Exception):
    """A process that dies between two steps."""


class At:
    """A callback that calls a function at the n-th step."""

    def __init__(self, n, function):
        self.n, self.function = n, function

    def __call__(self, event):
        self.n -= isinstance(event, StepEvent)
        if self.n == 0 and isinstance(event, StepEvent):
            self.function()


def steps(function):
    """Return a callback that passes the events of steps on."""
    return lambda event: function(event) if isinstance(event, StepEvent) else None


def epochs(function):
    """Return a callback that passes the events of epochs on."""
    return lambda event: function(event) if isinstance(event, EpochEvent) else None


def crash():
    raise Crash


@pytest.fixture(scope="module")
def uninterrupted():
    return train(best_weights="loss")


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(uninterrupted):
    assert_same(train(best_weights="loss"), uninterrupted)
    assert train(best_weights="loss", seed=1).history != uninterrupted.history


@pytest.mark.parametrize("step", [3, 5, 6, 10, 14])
def test_a_run_that_died_at_any_step_resumes_bit_for_bit(tmp_path, step, uninterrupted):
    with pytest.raises(Crash):
        train(best_weights="loss", checkpoint=tmp_path, callbacks=[At(step, crash)])
    assert_same(train(best_weights="loss", checkpoint=tmp_path, resume=True), uninterrupted)


@pytest.mark.few(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_signal_saves_inside_the_epoch_and_the_run_goes_on_from_there(tmp_path, step, number, uninterrupted):
    before = signal.getsignal(number)
    events = []
    stop = At(step, lambda: signal.raise_signal(number))
    with pytest.raises(Interrupted, match=r"checkpoint.npz.*resume=True") as caught:
        train(best_weights="loss", checkpoint=tmp_path, checkpoint_every=100, callbacks=[stop])
    assert (caught.value.epoch, caught.value.step) == ((step - 1) // 5 + 1, (step - 1) % 5 + 1)
    assert caught.value.signal == number and caught.value.checkpoint == tmp_path / "checkpoint.npz"
    assert caught.value.fitted.stopped == "interrupted" and signal.getsignal(number) is before
    resumed = train(best_weights="loss", checkpoint=tmp_path, resume=True, callbacks=[steps(events.append)])
    assert len(events) == 15 - step
    assert_same(resumed, uninterrupted)


@pytest.mark.slow
def test_a_signal_during_validation_loses_nothing(tmp_path):
    options = {"validation_split": 0.4, "batch_size": 4, "checkpoint": tmp_path}
    calls = []

    def loss(y_true, y_pred):
        return (y_true - y_pred) ** 2

    whole = train(**options | {"checkpoint": None}, loss=loss)

    def stop_then(y_true, y_pred):
        calls.append(1)
        if len(calls) == 4:  # training: two batch shapes; validation: the second one
            signal.raise_signal(signal.SIGINT)
        return loss(y_true, y_pred)

    stop_then.__name__ = "loss"
    with pytest.raises(Interrupted) as caught:
        train(**options, loss=stop_then)
    assert (caught.value.epoch, caught.value.step) == (1, 6)
    assert_same(train(**options, loss=loss, resume=True), whole)


def test_a_signal_in_the_last_callback_is_not_swallowed(tmp_path):
    with pytest.raises(Interrupted, match="epoch 1"):
        train(epochs=1, checkpoint=tmp_path, callbacks=[epochs(lambda _: signal.raise_signal(signal.SIGINT))])


def test_without_a_checkpoint_an_interruption_returns_the_weights():
    with pytest.raises(Interrupted, match="in epoch 2, after step 2 of 5") as caught:
        train(callbacks=[At(7, lambda: signal.raise_signal(signal.SIGINT))])
    assert len(caught.value.fitted.history) == 1 and caught.value.fitted.params


def test_a_second_ctrl_c_stops_at_once():
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train(callbacks=[At(1, twice)])
    assert not isinstance(caught.value, Interrupted)


def test_outside_the_main_thread_no_handler_is_set():
    seen = []

    def work():
        with stop_on_signal() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert not stop
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nan_stops_training_and_keeps_the_last_good_checkpoint(tmp_path):
    train(LINEAR, checkpoint=tmp_path, epochs=2, shuffle=False)
    good = (tmp_path / "checkpoint.npz").read_bytes()
    x = X.copy()
    x[17] = np.nan  # third batch
    with pytest.raises(NonFiniteLoss, match=r"nan in epoch 3, step 3 of 5.*0\.001.*checkpoint.npz"):
        train(LINEAR, x=x, checkpoint=tmp_path, shuffle=False, resume=True)
    assert (tmp_path / "checkpoint.npz").read_bytes() == good


def test_weights_that_the_last_update_made_infinite_are_not_saved(tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"weight.* in epoch 1, step 1 of 1"):
        train(LINEAR, batch_size=64, optimizer=optax.sgd(float("inf")), checkpoint=tmp_path)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_a_validation_loss_that_is_not_finite_stops():
    bad = (X, np.where(np.arange(37)[:, None] == 3, np.inf, Y))
    with pytest.raises(NonFiniteLoss, match="validation loss became inf in epoch 1"):
        train(LINEAR, validation_data=bad)


def test_the_log_has_exact_means_for_every_batch_size():
    """With a learning rate of 0 an epoch's metrics are those of the initial weights over all 37 samples."""
    still = {"name": "sgd", "learning_rate": 0.0}
    rows = [train(LINEAR, optimizer=still, batch_size=size, epochs=1).history[0] for size in (8, 37, 100)]
    params, apply_fn = LINEAR.init(jax.random.key(0), (None, 4))
    error = np.float64(apply_fn(params, X)) - Y
    for row in rows:
        assert row["loss"] == pytest.approx(np.square(error).mean(), rel=1e-6)  # the mean of a batch is in float32
        assert row["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
        assert list(row) == ["epoch", "loss", "mae", "learning_rate"] and row["learning_rate"] == 0


def test_each_epoch_has_every_sample_once_in_a_new_order():
    seen = []

    class Observed(np.ndarray):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                seen.append(index.tolist())
            return super().__getitem__(index)

    train(LINEAR, x=X.view(Observed), epochs=2)
    assert [len(rows) for rows in seen] == [8, 8, 8, 8, 5] * 2
    first, second = np.concatenate(seen[:5]).tolist(), np.concatenate(seen[5:]).tolist()
    assert sorted(first) == sorted(second) == list(range(37)) and first != second
    seen.clear()
    train(LINEAR, x=X.view(Observed), epochs=1, shuffle=False)
    assert np.concatenate(seen).tolist() == list(range(37))


def test_memory_maps_are_read_a_batch_at_a_time(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    read = []

    class Counted(np.memmap):
        def __getitem__(self, index):
            part = super().__getitem__(index)
            read.append(np.size(part))
            return part

    counted = mapped.view(Counted)
    assert_same(train(x=counted, validation_split=0.3, epochs=1), train(validation_split=0.3, epochs=1))
    assert sorted(read)[-2:] == [12 * 4, 25 * 4]  # the two halves, as views
    assert sorted(read)[-3] == 8 * 4  # and otherwise at most a batch


def test_the_validation_split_is_the_end_of_the_data_and_its_loss_has_the_penalties():
    layer = Dense(1, kernel_regularizer="l2")
    fitted = train(layer, validation_split=0.25, epochs=2, optimizer="sgd")
    cut = 27  # floor(37 · 0.75)
    found = evaluate(layer.apply_fn, fitted.params, X[cut:], Y[cut:], loss="mse", metrics="mae", batch_size=3)
    row = fitted.history[-1]
    assert row["val_loss"] == pytest.approx(found["loss"], rel=1e-6)  # other batches, each in float32
    assert row["val_mae"] == pytest.approx(found["mae"], rel=1e-6)
    error = np.float64(layer.apply_fn(fitted.params, X[cut:])) - Y[cut:]
    penalty = 0.01 * np.square(np.float64(fitted.params["kernel"])).sum()
    assert found["loss"] == pytest.approx(np.square(error).mean() + penalty, rel=1e-6)
    again = train(layer, x=X[:cut], y=Y[:cut], validation_data=(X[cut:], Y[cut:]), epochs=2, optimizer="sgd")
    assert_same(fitted, again)


def scripted_metric(values, maximized=False):
    """Return a metric with the name ``scripted`` that returns one of the values after the other."""

    @dataclasses.dataclass(frozen=True)
    class Scripted(Metric):
        higher_is_better: ClassVar[bool] = maximized

        def __call__(self, y_true, y_pred):
            return y_pred[:, 0]

        def finish(self, total, count):
            return next(values) if count == 37 else 0.0  # a part of an epoch has fewer

    return Scripted()


def test_early_stopping_waits_as_keras_does():
    """A metric that is best in epoch 2: with a patience of 3 training stops after epoch 5."""
    values = iter([5.0, 4.0, 4.5, 3.95, 4.1, 0.0])
    stop = EarlyStopping("scripted", patience=3, min_delta=0.1)
    fitted = train(LINEAR, metrics=scripted_metric(values), epochs=6, callbacks=[stop], best_weights="scripted")
    assert [row["scripted"] for row in fitted.history] == [5.0, 4.0, 4.5, 3.95, 4.1]
    assert (fitted.stopped, fitted.best_epoch) == ("early_stopping", 4)  # min_delta does not apply to best weights


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("stop", "maximized", "epochs"),
    [
        (EarlyStopping("scripted"), False, 2),  # 1, 2, ... rises: worse at once
        (EarlyStopping("scripted"), True, 5),
        (EarlyStopping("scripted", mode="max"), False, 5),
        (EarlyStopping("scripted", mode="min", patience=2), True, 3),
        (EarlyStopping("scripted", start_from_epoch=2), False, 4),
    ],
)
def test_early_stopping_minimizes_or_maximizes_as_the_metric_and_the_mode_say(stop, maximized, epochs):
    metric = scripted_metric(iter([1.0, 2.0, 3.0, 4.0, 5.0]), maximized)
    assert len(train(LINEAR, metrics=metric, epochs=5, callbacks=[stop]).history) == epochs


def test_best_weights_are_those_of_the_best_epoch(tmp_path):
    params_by_epoch = {}

    def keep(event):
        params_by_epoch[event.epoch] = event.params

    metric = scripted_metric(iter([2.0, 5.0, 3.0]), maximized=True)
    fitted = train(LINEAR, metrics=metric, best_weights="scripted", callbacks=[epochs(keep)])
    assert fitted.best_epoch == 2 and fitted.stopped == "epochs"
    np.testing.assert_array_equal(fitted.params["kernel"], params_by_epoch[2]["kernel"])
    assert train(LINEAR).best_epoch is None


def test_callbacks_get_all_rows_and_every_step(tmp_path):
    rows, events = [], []
    count = epochs(lambda e: rows.append(len(e.history)))
    train(epochs=2, checkpoint=tmp_path, callbacks=[count, steps(events.append)])
    assert rows == [1, 2] and [(t.epoch, t.epochs, t.step, t.steps) for t in events[3:6]] == [
        (1, 2, 4, 5),
        (1, 2, 5, 5),
        (2, 2, 1, 5),
    ]
    train(epochs=3, checkpoint=tmp_path, resume=True, callbacks=[count])
    assert rows == [1, 2, 3]


def test_a_finished_run_resumes_to_its_result(tmp_path):
    whole = train(checkpoint=tmp_path, best_weights="loss")
    assert_same(train(checkpoint=tmp_path, best_weights="loss", resume=True, callbacks=[At(1, crash)]), whole)


def test_resuming_where_nothing_was_saved_starts_at_the_beginning(tmp_path, uninterrupted):
    assert_same(train(best_weights="loss", checkpoint=tmp_path / "new", resume=True), uninterrupted)


def test_a_checkpoint_of_another_run_is_not_overwritten(tmp_path):
    train(LINEAR, checkpoint=tmp_path, epochs=1)
    saved = (tmp_path / "checkpoint.npz").read_bytes()
    for path in (tmp_path, tmp_path / "checkpoint.npz"):
        with pytest.raises(ValueError, match=r"^fit: .*checkpoint\.npz exists.*resume=True"):
            train(LINEAR, checkpoint=path, epochs=1, callbacks=[At(1, crash)])
    assert (tmp_path / "checkpoint.npz").read_bytes() == saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 9}, "batch_size=8.* 9"),
        ({"seed": 3}, "seed=0.* 3"),
        ({"optimizer": "sgd"}, "optimizer=.*adam.*sgd"),
        ({"loss": "mae"}, r"loss=.*MeanSquaredError.*MeanAbsoluteError"),
        ({"y": 2 * Y}, "data="),
        ({"layer": Dense(1, activation="tanh")}, "model="),
        ({"layer": Dense(1, use_bias=False)}, "model="),
        ({"layer": Dense(1, activation=lambda x: x)}, "model=.* None"),
    ],
)
def test_resuming_another_run_is_refused(tmp_path, change, message):
    train(LINEAR, checkpoint=tmp_path, epochs=1)
    with pytest.raises(FileError, match=message):
        train(**{"layer": LINEAR, "checkpoint": tmp_path, "resume": True} | change)


def test_params_given_to_fit_are_not_changed():
    params, apply_fn = LINEAR.init(jax.random.key(0), (None, 4))
    before = np.array(params["kernel"])
    fit(apply_fn, params, X, Y, loss="mse", metrics=())
    np.testing.assert_array_equal(params["kernel"], before)


def test_a_classifier_learns():
    layer = Sequential([Dense(8, activation="relu"), Dense(2, activation="softmax")])
    rate = {"name": "cosine_decay", "init_value": 0.05}
    fitted = train(
        layer, y=LABELS, loss="sparse_categorical_crossentropy", metrics="accuracy", epochs=40,
        optimizer={"name": "adamw", "learning_rate": rate, "global_clipnorm": 1.0},
    )  # fmt: skip
    assert fitted.history[-1]["accuracy"] > 0.95
    rates = [row["learning_rate"] for row in fitted.history]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 1e-4  # the schedule has the length of the whole run


def test_a_loss_that_cannot_be_hashed_works_too():
    class Unhashable:
        __hash__ = None

        def __call__(self, y_true, y_pred):
            return ((y_true - y_pred) ** 2).mean(axis=1)

    options = {"epochs": 1, "validation_split": 0.4}
    assert_same(train(LINEAR, loss=Unhashable(), **options), train(LINEAR, **options))


def test_equal_runs_compile_once_and_other_seeds_too():
    traced = []

    def loss(y_true, y_pred):
        traced.append(y_pred.shape)
        return (y_true - y_pred) ** 2

    for seed in (0, 1):
        train(LINEAR, loss=loss, seed=seed, optimizer={"name": "sgd", "learning_rate": 0.1})
    assert traced == [(8, 1), (5, 1)]


LARGE = np.arange(12).reshape(6, 2) * 1_000_000_007 - 2_500_000_000  # beyond int32 on both sides


@pytest.mark.parametrize(
    ("dtype", "values"), [("int64", LARGE), ("uint64", LARGE + 3 * 10**9), (">i8", LARGE), (">f4", LARGE / 7)]
)
def test_numbers_that_jax_would_wrap_or_refuse_are_converted(dtype, values):
    params, apply_fn = Dense(1, kernel_initializer="ones").init(jax.random.key(0), (None, 2))
    x, y = values.astype(dtype), values[:, :1].astype(dtype)
    # the same numbers in float32 and in float64: what a model computes with
    plain_x, plain_y = x.astype(np.float32), y.astype(np.float32)
    expected = plain_x.astype(np.float64).sum(1, keepdims=True)
    np.testing.assert_allclose(predict(apply_fn, params, x, batch_size=4), expected, rtol=1e-6)
    found = evaluate(apply_fn, params, x, y, loss="mae", batch_size=4)
    assert found["loss"] == pytest.approx(np.abs(expected - y).mean(), rel=1e-6)
    options = {"loss": "mse", "metrics": "mae", "validation_split": 0.34, "batch_size": 2, "optimizer": "sgd"}
    rate = {"name": "sgd", "learning_rate": 1e-22}
    ours = fit(apply_fn, params, x, y, **options | {"optimizer": rate})
    assert ours.history == fit(apply_fn, params, plain_x, plain_y, **options | {"optimizer": rate}).history


def test_integers_stay_integers_where_jax_keeps_their_values(x64):
    params, apply_fn = Dense(1, kernel_initializer="ones", dtype="float64").init(jax.random.key(0), (None, 2))
    np.testing.assert_array_equal(predict(apply_fn, params, LARGE), LARGE.sum(1, keepdims=True))


def test_predictions_come_in_order_and_in_batches():
    params, apply_fn = LINEAR.init(jax.random.key(0), (None, 4))
    parts = list(predict_batches(apply_fn, params, X, batch_size=16))
    assert [len(part) for part in parts] == [16, 16, 5]
    # batches of another size may be multiplied in another order
    np.testing.assert_allclose(predict(apply_fn, params, X, batch_size=37), np.concatenate(parts), rtol=1e-5)
    np.testing.assert_array_equal(predict(apply_fn, params, X, batch_size=16), np.concatenate(parts))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "^fit: epochs is 0.*1 to"),
        ({"epochs": 10**29}, ValueError, "epochs is 10{29}.*1 to"),
        ({"batch_size": 1.5}, ValueError, "batch_size is 1.5"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every is 0"),
        ({"seed": -1}, ValueError, "seed is -1.*0 to 4294967295"),
        ({"validation_split": 1.0}, ValueError, "validation_split is 1.0"),
        ({"validation_split": 0.99}, ValueError, "validation_split=0.99 of 37 samples"),
        ({"validation_split": 0.5, "validation_data": (X, Y)}, ValueError, "validation_data and validation_split"),
        ({"validation_data": X}, ValueError, "validation_data is a ndarray"),
        ({"validation_data": (X, Y[:3])}, ValueError, "37 .*3"),
        ({"y": Y[:3]}, ValueError, "37 .*3"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, r"x has shape \(0, 4\)"),
        ({"x": np.array([["a"]] * 37)}, TypeError, "x has dtype <U1"),
        ({"best_weights": "val_loss"}, ValueError, "^fit: 'val_loss' is not a column.*loss, mae.*validation_split"),
        ({"callbacks": [EarlyStopping("mea")]}, ValueError, "'mea'.*'mae'"),
        ({"loss": "mze"}, ValueError, "loss 'mze'.*'mse'"),
        (
            {"layer": CLASSIFIER, "y": LABELS * 2 + np.arange(37) % 2, "loss": "sparse_categorical_crossentropy"},
            ValueError,
            "0 to 3.*2 classes",
        ),
        (
            {
                "layer": Dense(2, activation="softmax"),
                "y": LABELS,
                "loss": "sparse_categorical_crossentropy",
                "metrics": (),
                "validation_data": (X, LABELS + 1),
            },
            ValueError,
            "1 to 2.*2 classes",
        ),
        ({"callbacks": [EarlyStopping]}, TypeError, r"callback is .*EarlyStopping"),
    ],
)
def test_invalid_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        train(**{"layer": LINEAR} | options)


def test_swapped_arguments_of_the_model_are_refused():
    params, apply_fn = LINEAR.init(jax.random.key(0), X.shape)
    with pytest.raises(TypeError, match=r"dict and Apply.*apply_fn and params"):
        fit(params, apply_fn, X, Y, loss="mse")
    with pytest.raises(TypeError, match="Dense and dict"):
        evaluate(LINEAR, params, X, Y, loss="mse")
    fitted = fit(apply_fn, params, X, Y, loss="mse", metrics=())
    with pytest.raises(TypeError, match=r"Apply and Fitted.*\.params"):
        predict(apply_fn, fitted, X)


def test_integers_of_numpy_are_accepted():
    options = {"epochs": np.int64(2), "batch_size": np.int32(8), "seed": np.uint8(3), "checkpoint_every": np.int64(2)}
    assert train(LINEAR, **options).history == train(LINEAR, **{name: int(n) for name, n in options.items()}).history


def test_evaluate_refuses_labels_outside_the_classes():
    params, apply_fn = Dense(2, activation="softmax").init(jax.random.key(0), X.shape)
    with pytest.raises(ValueError, match=r"0 to 2.*2 classes"):
        evaluate(apply_fn, params, X, LABELS + np.arange(37) % 2, loss="sparse_categorical_crossentropy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "mix"}, "mode 'mix'.*'m"),
        ({"patience": -1}, "patience is -1.*at least 0"),
    ],
)
def test_early_stopping_checks_its_options(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**options)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_an_empty_input_is_refused_as_empty(dtype):
    params, apply_fn = Dense(2).init(jax.random.key(0), (None, 3))
    x, y = np.zeros((0, 3), dtype), np.zeros((0, 2), dtype)
    for call in (
        lambda: fit(apply_fn, params, x, y, loss="mse", epochs=1),
        lambda: evaluate(apply_fn, params, x, y, loss="mse"),
        lambda: predict(apply_fn, params, x),
    ):
        with pytest.raises(ValueError, match=r"\(0, 3\).*at least one"):
            call()


def test_the_result_is_shown_without_its_weights():
    params, apply_fn = Dense(1).init(jax.random.key(0), (None, 2))
    fitted = fit(apply_fn, params, np.ones((4, 2)), np.ones((4, 1)), loss="mse", epochs=2)
    text = repr(fitted)
    assert "3 numbers" in text and "2 epochs" in text and "'loss'" in text and "'epochs'" in text
    assert "Array" not in text and len(text) < 300
