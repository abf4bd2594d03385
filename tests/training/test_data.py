"""Loaders: every kind gives the numbers of the arrays; threads end; errors surface; labels of any kind."""

import threading
import time

import jax
import numpy as np
import pytest

from jaxconv.layers.conv import Conv1D
from jaxconv.layers.dense import Dense
from jaxconv.training.callbacks import EpochEvent, StepEvent
from jaxconv.training.evaluation import evaluate, predict
from jaxconv.training.fit import fit

RNG = np.random.default_rng(3)
X = RNG.normal(size=(10, 4)).astype(np.float32)
LABELS = np.arange(10) % 3
BATCHES = [(X[i : i + 4], LABELS[i : i + 4]) for i in (0, 4, 8)]
LOSS = {"loss": "sparse_categorical_crossentropy"}


class Sequence:
    """What has a length and items, as Keras's PyDataset."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return BATCHES[index % 3]


class TensorFlow:
    """A stand-in for tf.data.Dataset: iterating itself would give tensors."""

    def as_numpy_iterator(self):
        return iter(BATCHES)

    def __iter__(self):
        raise AssertionError


def endless():
    while True:
        yield from BATCHES


def torch_loader():
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS))
    return torch.utils.data.DataLoader(dataset, batch_size=4)


def grain_dataset():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(X, LABELS, strict=True))).batch(4).to_iter_dataset()


def model():
    return Dense(3, activation="softmax").init(jax.random.key(0), (None, 4))


def train(*data, **options):
    params, apply_fn = model()
    return fit(apply_fn, params, *data, **LOSS, **{"epochs": 3, "batch_size": 4, "shuffle": False} | options)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "jaxconv-loader"]


@pytest.mark.few(3)
@pytest.mark.parametrize("make", [lambda: BATCHES, Sequence, TensorFlow, endless, torch_loader, grain_dataset])
def test_every_loader_gives_the_numbers_of_the_arrays(make):
    options = {"steps_per_epoch": 3} if make is endless else {}
    assert train(make(), **options).history == train(X, LABELS).history
    assert not loader_threads()
    if make is not endless:
        params, apply_fn = model()
        expected = evaluate(apply_fn, params, X, LABELS, **LOSS, batch_size=4)
        assert evaluate(apply_fn, params, make(), **LOSS) == expected
        np.testing.assert_array_equal(predict(apply_fn, params, make()), predict(apply_fn, params, X, batch_size=4))


@pytest.mark.parametrize("batches", [[X[:4], X[4:8], X[8:]], [X[:5], X[5:]], (X[:2], X[2:])])
def test_predict_reads_a_list_of_arrays_as_batches_and_a_list_of_rows_as_an_array(batches):
    params, apply_fn = model()
    expected = predict(apply_fn, params, X)
    for data in (batches, iter(batches), list(X), X.tolist()):
        np.testing.assert_allclose(predict(apply_fn, params, data), expected, rtol=1e-6)  # other batch sizes


def test_predict_says_how_to_give_a_list_of_samples():
    params, apply_fn = Conv1D(2, 3).init(jax.random.key(0), (None, 10, 4))
    with pytest.raises(ValueError, match=r"list of batches.*first one has shape \(10, 4\).*np\.stack\(x\)"):
        predict(apply_fn, params, [X, X])
    assert predict(apply_fn, params, np.stack([X, X])).shape == (2, 8, 2)


class Stateful:
    """A loader with a new order in each pass and a state, as torchdata's StatefulDataLoader."""

    def __init__(self):
        self.passes, self.done, self.resumes = 0, 0, False

    def __len__(self):
        return 3

    def __iter__(self):
        if self.resumes:
            self.resumes = False
        else:
            self.passes, self.done = self.passes + 1, 0
        order = np.random.default_rng(self.passes).permutation(3)
        while self.done < 3:
            self.done += 1
            yield BATCHES[order[self.done - 1]]

    def state_dict(self):
        return {"passes": self.passes, "inner": [{"done": self.done, "random": b"\x00\xff"}]}

    def load_state_dict(self, state):
        assert state["inner"][0]["random"] == b"\x00\xff"
        self.passes, self.done, self.resumes = state["passes"], state["inner"][0]["done"], True


def torchdata_loader():
    torch, stateful = pytest.importorskip("torch"), pytest.importorskip("torchdata.stateful_dataloader")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS))
    random = torch.Generator()
    random.manual_seed(5)
    sampler = stateful.sampler.RandomSampler(dataset, generator=random)
    return stateful.StatefulDataLoader(dataset, batch_size=4, sampler=sampler)


@pytest.mark.few(2)
@pytest.mark.parametrize("make", [Stateful, torchdata_loader])
@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_the_state_of_a_loader_is_saved_from_pass_to_pass(tmp_path, make, stop):
    def interrupt(event, seen=[]):  # noqa: B006
        seen.append(isinstance(event, StepEvent))
        return isinstance(event, StepEvent) and sum(seen) == stop

    def crash(event):
        if isinstance(event, EpochEvent):
            raise ArithmeticError

    whole = train(make())
    train(make(), checkpoint=tmp_path / "run.npz", callbacks=[interrupt])
    assert train(make(), checkpoint=tmp_path / "run.npz", resume=True).history == whole.history
    with pytest.raises(ArithmeticError):  # between two passes
        train(make(), checkpoint=tmp_path / "pass.npz", callbacks=[crash])
    assert train(make(), checkpoint=tmp_path / "pass.npz", resume=True).history == whole.history


@pytest.mark.parametrize("make", [lambda: BATCHES, endless, grain_dataset])
@pytest.mark.few(2)
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_from_a_loader_resumes_bit_for_bit(tmp_path, make, stop):
    options = {"checkpoint": tmp_path, "steps_per_epoch": 3 if make is endless else None}
    seen = []

    def interrupt(event):
        seen.append(isinstance(event, StepEvent))
        return isinstance(event, StepEvent) and sum(seen) == stop

    assert train(make(), **options, callbacks=[interrupt]).stopped == "callback" and not loader_threads()
    resumed, whole = train(make(), **options, resume=True), train(X, LABELS)
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.params["kernel"], whole.params["kernel"])


def test_an_error_of_the_loader_reaches_the_caller_and_ends_the_thread():
    def broken():
        yield BATCHES[0]
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        train(broken(), epochs=1)
    with pytest.raises(RuntimeError):
        train(endless(), steps_per_epoch=3, callbacks=[lambda event: (_ for _ in ()).throw(RuntimeError)])
    time.sleep(0.2)
    assert not loader_threads()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((endless(),), {}, "steps_per_epoch"),
        ((iter(BATCHES),), {"steps_per_epoch": 2}, "steps_per_epoch=2"),
        ((BATCHES, LABELS), {}, "x is a list.*y must not"),
        ((BATCHES,), {"validation_split": 0.5}, "validation_split"),
        (([],), {}, "no batch|list"),
        (([(X,)],), {}, "targets"),
        ((X,), {}, "y is missing"),
        (([X[:4], X[4:]], LABELS), {}, r"x is a list whose items have different shapes.*\(samples, \.\.\.\)"),
        (([([X, X], LABELS)],), {}, "x of a batch is a list"),
        ((X, {"a": LABELS}), {}, "y is a dict.*one output"),
        ((X, LABELS), {"steps_per_epoch": 2}, "steps_per_epoch=2"),
    ],
)
def test_data_that_cannot_be_read_are_refused(data, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        train(*data, **options)


@pytest.mark.parametrize("names", [np.array(["cat", "dog", "eel"]), np.array([1, 2, 3]), np.array([b"a", b"b", b"c"])])
def test_labels_of_any_kind_are_the_classes_in_order(names):
    fitted, expected = train(X, names[LABELS], validation_split=0.3), train(X, LABELS, validation_split=0.3)
    assert fitted.history == expected.history and fitted.classes == tuple(names.tolist())
    _, apply_fn = model()
    own = evaluate(apply_fn, fitted.params, X[:1], names[LABELS][:1], **LOSS, classes=fitted.classes)
    assert own == evaluate(apply_fn, fitted.params, X[:1], LABELS[:1], **LOSS) and set(own) == {"loss", "accuracy"}
    named = [(x, names[y]) for x, y in BATCHES]
    assert train(named, classes=names.tolist(), class_weight={names[1].item(): 2.0}).history[0]["loss"] > 0
