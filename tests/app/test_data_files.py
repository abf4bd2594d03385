"""The user's own arrays: what .npz and .npy files become, and the message for each that does not fit."""

import sys

import numpy as np
import pytest

from jaxconv.app.data import load


def fails(config, *parts):
    """Load, and check that the one-line message holds each of ``parts``."""
    with pytest.raises(ValueError) as caught:
        load(config)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# .npz


def four(cases=6, tests=4, **changes):
    arrays = {
        "x_train": np.arange(cases * 10, dtype=np.float32).reshape(cases, 5, 2),
        "y_train": np.arange(cases) % 3,
        "x_test": np.ones((tests, 5, 2), np.float32),
        "y_test": np.arange(tests) % 3,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def write(folder, **changes):
    np.savez(folder / "mine.npz", **four(**changes))
    return {"source": "npz", "path": str(folder / "mine.npz")}


def test_npz_gives_float32_inputs_and_class_indices(tmp_path):
    splits = load(write(tmp_path, y_train=np.array([7, 3, 30, 3, 7, 30]), y_test=np.array([3, 3, 30, 7], np.uint8)))
    np.testing.assert_array_equal(splits.x_train, four()["x_train"])
    assert splits.classes == ("3", "7", "30")
    assert splits.y_train.tolist() == [1, 0, 2, 0, 1, 2]
    assert splits.y_test.tolist() == [0, 0, 2, 1]
    assert splits.y_train.dtype == splits.y_test.dtype == np.int32


def test_npz_string_labels_become_classes(tmp_path):
    splits = load(write(tmp_path, y_train=np.array(["dog", "cat"] * 3), y_test=np.array([["cat"]] * 4)))
    assert splits.classes == ("cat", "dog")
    assert splits.y_train.tolist() == [1, 0, 1, 0, 1, 0]
    assert splits.y_test.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64, np.bool_, ">f4"])
def test_npz_casts_inputs_without_scaling(tmp_path, dtype):
    x = np.arange(60).reshape(6, 5, 2).astype(dtype)
    splits = load(write(tmp_path, x_train=x))
    assert splits.x_train.dtype == np.float32
    assert splits.x_train.dtype.isnative
    np.testing.assert_array_equal(splits.x_train, x.astype(np.float64))


def test_npz_float_targets_become_a_column_of_float32(tmp_path):
    splits = load(write(tmp_path, y_train=np.linspace(0, 1, 6), y_test=np.linspace(0, 1, 4)))
    assert splits.classes is None
    assert splits.y_train.shape == (6, 1)
    assert splits.y_test.dtype == np.float32
    splits = load(write(tmp_path, y_train=np.zeros((6, 5, 2)), y_test=np.zeros((4, 5, 2))))
    assert splits.y_train.shape == (6, 5, 2)


def test_npz_may_be_compressed_and_hold_more(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", **four(), notes=np.zeros(3))
    assert load({"source": "npz", "path": str(tmp_path / "mine.npz")}).x_test.shape == (4, 5, 2)


def test_npz_path_may_be_relative_or_start_at_home(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load({"source": "npz", "path": "mine.npz"}).x_train) == 6
    assert len(load({"source": "npz", "path": "~/mine.npz"}).x_train) == 6


def test_npz_missing_file_names_the_nearest(tmp_path):
    write(tmp_path)
    fails(
        {"source": "npz", "path": str(tmp_path / "mime.npz")},
        "data.path: no file '",
        "mime.npz'; did you mean 'mine.npz'?",
        "holds mine.npz",
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    fails({"source": "npz", "path": str(empty / "mime.npz")}, "holds no .npz file")
    fails(
        {"source": "npz", "path": "nowhere/mime.npz"},
        "data.path: no file 'nowhere/mime.npz', nor its folder",
        "start at",
    )
    fails({"source": "npz", "path": str(empty)}, "is a folder; give a .npz file")


def test_npz_missing_array_names_the_nearest(tmp_path):
    fails(
        write(tmp_path, x_train=None, X_train=np.ones((6, 5, 2))),
        "data.path: no array 'x_train' in '",
        "did you mean 'X_train'?",
        "it holds X_train, x_test, y_test, y_train; it needs x_train, y_train, x_test, y_test",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.arange(5)}, "y_train in {} has 5 cases, but x_train has 6"),
        (
            {"x_test": np.ones((4, 5, 3))},
            "x_test in {} has cases of shape (5, 3), but x_train has cases of shape (5, 2)",
        ),
        ({"x_train": np.ones(6)}, "x_train in {} has shape (6,); expected (cases, *spatial, channels)"),
        ({"y_test": np.array(1)}, "y_test in {} has shape (); expected (cases,) or (cases, outputs)"),
        ({"x_test": np.ones((0, 5, 2))}, "x_test in {} is empty: its shape is (0, 5, 2)"),
        (
            {"x_train": np.ones((6, 5, 2), complex)},
            "x_train in {} has dtype complex128; legal: floats, integers, booleans",
        ),
        (
            {"y_train": np.ones(6, complex)},
            "y_train in {} has dtype complex128; legal: floats, integers, booleans, strings",
        ),
        (
            {"y_train": np.ones((6, 3), int)},
            "y_train in {} has shape (6, 3); labels are (6,), and one-hot rows are stored as",
        ),
        (
            {"y_test": np.ones(4)},
            "y_test in {} has dtype float64, but y_train has int64; integers are class labels and",
        ),
        (
            {"y_test": np.array([0, 1, 2, 9])},
            "{}: label '9' is in the test set but not in the training set, which has 0, 1, 2",
        ),
        (
            {"x_test": np.full((4, 5, 2), np.nan)},
            "x_test in {} has values that are not finite in float32, in 4 of 4 cases",
        ),
        (
            {"x_train": np.full((6, 5, 2), 1e40)},
            "x_train in {} has values that are not finite in float32, in 6 of 6 cases",
        ),
        ({"y_train": np.array([0, 1, np.inf, 0, 0, 0]), "y_test": np.ones(4)}, "in 1 of 6 cases, the first at index 2"),
        (
            {"y_train": np.array(["a", 1, None] * 2, object)},
            "y_train in {} holds Python objects, which are pickled and could",
        ),
    ],
)
def test_npz_arrays_that_do_not_fit(tmp_path, changes, message):
    config = write(tmp_path, **changes)
    fails(config, "data.path: ", message.format(repr(config["path"])))


def test_npz_that_is_something_else(tmp_path):
    (tmp_path / "table.npz").write_text("1,2,3\n")
    fails({"source": "npz", "path": str(tmp_path / "table.npz")}, "is not an .npz file, such as numpy.savez writes")
    np.save(tmp_path / "x.npy", np.ones(3))
    fails({"source": "npz", "path": str(tmp_path / "x.npy")}, "single .npy files go into source 'npy'")


def test_npz_that_is_damaged(tmp_path):
    path = write(tmp_path)["path"]
    with open(path, "r+b") as file:  # the values of the first array lie at the front
        file.seek(300)
        file.write(b"\xff" * 20)
    fails({"source": "npz", "path": path}, "data.path: x_train in '", "cannot be read: ")


# .npy


def write_npy(folder, **changes):
    config = {"source": "npy"}
    for key, array in four(**changes).items():
        np.save(folder / f"{key}.npy", array)
        config[key] = str(folder / f"{key}.npy")
    return config


def test_npy_maps_files_and_keeps_their_dtype(tmp_path):
    x = np.arange(60, dtype=np.uint8).reshape(6, 5, 2)
    splits = load(write_npy(tmp_path, x_train=x, y_train=np.arange(6)[:, None] % 3))
    for array in (splits.x_train, splits.y_train, splits.x_test, splits.y_test):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert splits.x_train.dtype == np.uint8
    np.testing.assert_array_equal(splits.x_train, x)
    assert splits.y_train.shape == (6,)
    assert splits.classes == ("0", "1", "2")


def test_npy_float_targets_stay_a_map(tmp_path):
    splits = load(write_npy(tmp_path, y_train=np.zeros(6), y_test=np.zeros(4)))
    assert isinstance(splits.y_train, np.memmap)
    assert splits.y_train.shape == (6, 1)
    assert splits.classes is None


def test_npy_larger_than_memory_is_opened_without_reading(tmp_path):
    """64 GiB of zeros in a sparse file: reading them, or copying them, would fail or take minutes."""
    config = write_npy(tmp_path, y_train=np.zeros(1 << 16, np.uint8), y_test=np.zeros(4, np.uint8))
    shape = (1 << 16, 1 << 16, 4)
    try:
        np.lib.format.open_memmap(tmp_path / "x_train.npy", "w+", np.float32, shape)
    except OSError:
        pytest.skip("this file system holds no sparse files of 64 GiB")
    np.save(tmp_path / "x_test.npy", np.lib.stride_tricks.as_strided(np.zeros(4, np.uint8), (4, 1 << 16, 4), (0, 0, 1)))
    try:
        splits = load(config)
        assert isinstance(splits.x_train, np.memmap)
        assert splits.x_train.shape == shape
        assert splits.x_train[-1, -1].tolist() == [0, 0, 0, 0]
        assert (tmp_path / "x_train.npy").stat().st_blocks * 512 < 1 << 24
    finally:
        (tmp_path / "x_train.npy").unlink()


def test_npy_labels_are_scanned_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxconv.app.data.npy"], "_BLOCK", 4)
    assert len(load(write_npy(tmp_path, y_train=np.array([0, 1, 2, 0, 0, 8]))).classes) == 9
    fails(
        write_npy(tmp_path, y_train=np.array([0, 1, 2, 0, -3, 8])), "data.y_train: '", "has the label -3; integers are"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_train": np.full(6, 10**6)},
            "data.y_train: {} has the label 1000000; integers are class indices from 0 to 999999",
        ),
        (
            {"y_test": np.array([0, 1, 2, 3])},
            "data.y_test: {} has the label 3, but y_train has 0 to 2; no model could learn it",
        ),
        ({"y_test": np.array([0, 1, 2])}, "data.y_test: {} has 3 cases, but x_test has 4"),
        ({"x_train": np.ones((2, 5, 6)).T}, "data.x_train: {} is in Fortran order"),
        ({"y_train": np.array(["a"] * 6)}, "data.y_train: {} has dtype <U1; legal: floats, integers"),
        ({"x_train": np.array([None] * 6)}, "data.x_train: {} cannot be mapped as an .npy file"),
        ({"x_test": np.ones((4, 0, 2))}, "data.x_test: {} is empty: its shape is (4, 0, 2)"),
    ],
)
def test_npy_arrays_that_do_not_fit(tmp_path, changes, message):
    config = write_npy(tmp_path, **changes)
    fails(config, message.format(repr(config[next(iter(changes))])))


def test_npy_files_that_are_missing_cut_or_something_else(tmp_path):
    config = write_npy(tmp_path)
    fails({**config, "x_test": str(tmp_path / "x_tset.npy")}, "data.x_test: no file '", "did you mean 'x_test.npy'?")
    (tmp_path / "y_test.npy").write_text("0\n1\n")
    fails(config, "data.y_test: '", "cannot be mapped as an .npy file, such as numpy.save writes")
    with open(tmp_path / "x_train.npy", "r+b") as file:
        file.truncate(200)
    fails(config, "data.x_train: '", "cannot be mapped as an .npy file")
