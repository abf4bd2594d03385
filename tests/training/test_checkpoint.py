"""Checkpoints and archives: every dtype is restored, damaged files are named, killed runs resume."""

import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv.files.archive import read_archive, write_archive
from jaxconv.files.errors import FileError
from jaxconv.layers.dense import Dense
from jaxconv.models import Sequential
from jaxconv.training.checkpoint import Progress, checkpoint_path, completed_epochs, load, save
from jaxconv.training.optimizers import optimizer
from jaxconv.training.step import init_state

RUN = {"seed": 0, "batch_size": 32, "optimizer": {"name": "adam"}}
ARRAYS = {
    "a/b": np.arange(6.0).reshape(2, 3).T,
    "half": jnp.array([1.5, jnp.nan, -0.0], jnp.bfloat16),
    "eighth": jnp.array([0.5], jnp.float8_e4m3fn),
    "f16": np.array([65504.0], np.float16),
    "step": np.int32(7),
    "big": np.array([1, 2], ">i4"),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.complex64),
}


def state_of(transformation, layer=None):
    layer = layer or Sequential([Dense(3, dtype="bfloat16"), Dense(2)])
    params, apply_fn = layer.init(jax.random.key(0), (None, 4))
    return init_state(apply_fn, params, transformation)


def test_arrays_of_every_dtype_are_restored_bit_for_bit(tmp_path):
    write_archive(tmp_path / "a.npz", {"format": "x", "version": 1, "note": [1, "two", None]}, ARRAYS)
    header, arrays = read_archive(tmp_path / "a.npz", "x", 1)
    assert header["note"] == [1, "two", None] and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == np.dtype(array.dtype).newbyteorder("=") and arrays[name].shape == array.shape
        assert arrays[name].tobytes() == np.asarray(array, order="C").astype(arrays[name].dtype).tobytes()
    assert header["arrays"]["half"] == {"shape": [3], "dtype": "bfloat16"}
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz", allow_pickle=False)["a/b"], ARRAYS["a/b"])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_archive(tmp_path / name, {"format": "x", "version": 1}, ARRAYS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_any_truncation_and_any_flipped_byte_is_found_or_harmless(tmp_path):
    write_archive(tmp_path / "a.npz", {"format": "x", "version": 1}, ARRAYS)
    whole, path = (tmp_path / "a.npz").read_bytes(), tmp_path / "b.npz"
    for size in range(0, len(whole), 41):
        path.write_bytes(whole[:size])
        with pytest.raises(FileError, match=r"b.npz"):
            read_archive(path, "x", 1)
    expected = read_archive(tmp_path / "a.npz", "x", 1)
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            header, arrays = read_archive(path, "x", 1)
        except FileError:
            continue
        assert header == expected[0]  # the byte is not read, such as a time of day
        assert all(arrays[name].tobytes() == expected[1][name].tobytes() for name in ARRAYS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.npz"),
        (b"", "empty"),
        (b"\x89HDF\r\n", "not a x"),
        (b"PK\x03\x04 and then nothing", "damaged"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(tmp_path, content, message):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        read_archive(path, "x", 1)
    assert str(path) in str(caught.value)


def test_files_of_other_kinds_and_newer_versions_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(3))
    with pytest.raises(FileError, match=r"header.json"):
        read_archive(path, "x", 1)
    write_archive(path, {"format": "y", "version": 3}, {})
    with pytest.raises(FileError, match=r"not a x.*'y'"):
        read_archive(path, "x", 1)
    with pytest.raises(FileError, match=r"version 3.* 2"):
        read_archive(path, "y", 2)
    with pytest.raises(FileError, match=r"folder"):
        read_archive(tmp_path, "x", 1)


def test_pickled_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(TypeError, match="'a' has dtype object"):
        write_archive(tmp_path / "a.npz", {"format": "x", "version": 1}, {"a": np.array([{}])})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_archive(path, {"format": "x", "version": 1}, ARRAYS)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"a.npz.*No space left on device"):
        write_archive(path, {"format": "x", "version": 1}, {})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["adam", "lbfgs", "noisy_sgd", "adafactor"])
def test_progress_is_restored_bit_for_bit(tmp_path, name):
    state = state_of(optimizer(name))
    history = ({"epoch": 1, "loss": 0.1 + 0.2},)
    sums = {"loss": np.float64(1 / 3), "precision": np.array([1.0, 2.0, 3.0])}
    whole = Progress(state, 1, 5, sums, history, state.params, 0.1, 1, 12, {"bytes": "7f"})
    save(tmp_path / "c.npz", whole, RUN)
    back = load(tmp_path / "c.npz", state_of(optimizer(name)), RUN)
    assert (back.epoch, back.step, back.history) == (1, 5, history)
    assert (back.best_value, back.best_epoch, back.updates, back.data) == (0.1, 1, 12, {"bytes": "7f"})
    assert jax.tree.structure(back.state) == jax.tree.structure(state)
    pairs = zip(
        jax.tree.leaves((whole.state, whole.sums, whole.best_params)),
        jax.tree.leaves((back.state, back.sums, back.best_params)),
        strict=True,
    )
    for a, b in pairs:
        assert a.dtype == b.dtype
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path):
    path, adam = tmp_path / "c.npz", optax.adam(0.1)
    save(path, Progress(state_of(adam)), RUN)
    with pytest.raises(FileError, match=r"batch_size=32.* 16"):
        load(path, state_of(adam), RUN | {"batch_size": 16})
    with pytest.raises(FileError, match=r"state/opt_state/0/trace/dense/bias"):
        load(path, state_of(optax.sgd(0.1, momentum=0.9)), RUN)
    with pytest.raises(FileError, match="state/opt_state"):
        load(path, state_of(optax.sgd(0.1)), RUN)
    with pytest.raises(FileError, match=r"kernel.* bfloat16\[4, 3\].*float32\[4, 5\]"):
        load(path, state_of(adam, Sequential([Dense(5, use_bias=False), Dense(2)])), RUN)


@pytest.mark.parametrize(
    "change",
    [
        *({name: ...} for name in ("run", "epoch", "step", "history", "best_value", "updates")),
        {"epoch": -1},
        {"epoch": "two"},
        {"history": 7},
        {"history": [3]},
        {"history": []},
        {"run": None},
    ],
    ids=str,
)
def test_a_checkpoint_with_a_damaged_header_is_refused(tmp_path, change):
    path, state = tmp_path / "c.npz", state_of(optax.sgd(0.1))
    save(path, Progress(state, epoch=1, history=({"epoch": 1, "loss": 0.5},)), RUN)
    header, arrays = read_archive(path, "jaxconv checkpoint", 2)
    del header["arrays"]
    write_archive(path, {name: v for name, v in (header | change).items() if v is not ...}, arrays)
    with pytest.raises(FileError, match=r"c\.npz"):
        load(path, state, RUN)


def test_the_number_of_completed_epochs_is_read_from_a_checkpoint(tmp_path):
    save(tmp_path / "c.npz", Progress(state_of(optax.sgd(0.1)), epoch=3, history=({"loss": 1.0},) * 3), RUN)
    assert completed_epochs(tmp_path / "c.npz") == 3


def test_a_checkpoint_in_a_folder_is_called_checkpoint_npz(tmp_path):
    assert checkpoint_path(tmp_path) == tmp_path / "checkpoint.npz"
    assert checkpoint_path(tmp_path / "new") == tmp_path / "new" / "checkpoint.npz" and (tmp_path / "new").is_dir()
    assert checkpoint_path(str(tmp_path / "mine.npz")) == tmp_path / "mine.npz"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"checkpoint folder .*file"):
        checkpoint_path(tmp_path / "file")


CHILD = """
import sys, time
import jax, numpy as np
from jaxconv.files.archive import write_archive
from jaxconv.layers.dense import Dense
from jaxconv.layers.dropout import Dropout
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.models import Sequential
from jaxconv.training.fit import fit
from jaxconv.training.callbacks import EarlyStopping, EpochEvent

def report(event):
    if isinstance(event, EpochEvent):
        print(event.epoch, flush=True)
        time.sleep(0.01)  # 1.5 s in total: longer than all waits before the kills

folder = sys.argv[1]
layer = Sequential([Dense(8, activation="relu"), BatchNormalization(), Dropout(0.3), Dense(1)])
params, apply_fn = layer.init(jax.random.key(0), (None, 8))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(40, 8)), rng.normal(size=(40, 1))
rate = {"name": "cosine_decay", "init_value": 0.01}
fitted = fit(apply_fn, params, x, y, loss="mse", metrics="mae", optimizer={"name": "adam", "learning_rate": rate},
             epochs=150, batch_size=16, best_weights="loss", checkpoint=folder, resume=True,
             callbacks=[EarlyStopping("loss", patience=1000), report])
leaves, _ = jax.tree_util.tree_flatten_with_path(fitted.params)
arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
write_archive(folder + "/result.npz", {"format": "result", "version": 1, "history": fitted.history}, arrays)
"""


def start_child(folder):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)


def end_child(child, kill_after=None):
    """Wait for a child, or kill it so many seconds after its first epoch; return the epochs that it reported."""
    try:
        reported = [int(child.stdout.readline())]
        if kill_after is not None:
            time.sleep(kill_after)
            child.send_signal(signal.SIGKILL)
        reported += [int(line) for line in child.stdout.read().split()]
    finally:
        child.kill()
        code = child.wait()
        child.stdout.close()
    assert code == (0 if kill_after is None else -signal.SIGKILL)
    return reported


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 12])
def test_a_run_killed_at_random_moments_equals_an_uninterrupted_one(tmp_path, kills):
    uninterrupted = start_child(tmp_path / "whole")
    moments, epochs = random.Random(kills), []
    for _ in range(kills):
        epochs += end_child(start_child(tmp_path / "killed"), kill_after=moments.uniform(0, 0.6 / kills))
    assert epochs[-1] < 150
    end_child(start_child(tmp_path / "killed"))
    end_child(uninterrupted)
    whole, killed = (tmp_path / name / "result.npz" for name in ("whole", "killed"))
    histories = [read_archive(path, "result", 1)[0]["history"] for path in (whole, killed)]
    assert histories[0] == histories[1]
    assert whole.read_bytes() == killed.read_bytes()
    assert {p.name for p in (tmp_path / "killed").iterdir()} == {"checkpoint.npz", "result.npz"}
