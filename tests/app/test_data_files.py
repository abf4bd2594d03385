"""The user's own arrays in .npz and .npy files, and the errors for those that do not fit."""

import sys

import numpy as np
import pytest

from jaxconv.app.config import read_config
from jaxconv.app.data import load


def check_error(config, *facts):
    """Load, and check that the one-line message contains each fact."""
    with pytest.raises(ValueError) as caught:
        load(config)
    message = str(caught.value)
    assert "\n" not in message
    for fact in facts:
        assert fact in message, message


# .npz


def four(samples=6, tests=4, **changes):
    arrays = {
        "x_train": np.arange(samples * 10, dtype=np.float32).reshape(samples, 5, 2),
        "y_train": np.arange(samples) % 3,
        "x_test": np.ones((tests, 5, 2), np.float32),
        "y_test": np.arange(tests) % 3,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def write(folder, **changes):
    np.savez(folder / "mine.npz", **four(**changes))
    return {"source": "npz", "path": str(folder / "mine.npz")}


def test_an_npz_file_gives_float32_inputs_and_class_indices(tmp_path):
    splits = load(write(tmp_path, y_train=np.array([7, 3, 30, 3, 7, 30]), y_test=np.array([3, 3, 30, 7], np.uint8)))
    np.testing.assert_array_equal(splits.x_train, four()["x_train"])
    assert splits.classes == ("3", "7", "30")
    assert splits.y_train.tolist() == [1, 0, 2, 0, 1, 2]
    assert splits.y_test.tolist() == [0, 0, 2, 1]
    assert splits.y_train.dtype == splits.y_test.dtype == np.int32


def test_strings_in_an_npz_file_are_class_labels(tmp_path):
    splits = load(write(tmp_path, y_train=np.array(["dog", "cat"] * 3), y_test=np.array([["cat"]] * 4)))
    assert splits.classes == ("cat", "dog")
    assert splits.y_train.tolist() == [1, 0, 1, 0, 1, 0]
    assert splits.y_test.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64, np.bool_, ">f4"])
def test_inputs_in_an_npz_file_are_converted_without_scaling(tmp_path, dtype):
    x = np.arange(60).reshape(6, 5, 2).astype(dtype)
    splits = load(write(tmp_path, x_train=x))
    assert splits.x_train.dtype == np.float32
    assert splits.x_train.dtype.isnative
    np.testing.assert_array_equal(splits.x_train, x.astype(np.float64))


def test_float_targets_in_an_npz_file_become_a_float32_column(tmp_path):
    splits = load(write(tmp_path, y_train=np.linspace(0, 1, 6), y_test=np.linspace(0, 1, 4)))
    assert splits.classes is None
    assert splits.y_train.shape == (6, 1)
    assert splits.y_test.dtype == np.float32
    splits = load(write(tmp_path, y_train=np.zeros((6, 5, 2)), y_test=np.zeros((4, 5, 2))))
    assert splits.y_train.shape == (6, 5, 2)


def test_an_npz_file_may_be_compressed_and_have_other_arrays(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", **four(), notes=np.zeros(3))
    assert load({"source": "npz", "path": str(tmp_path / "mine.npz")}).x_test.shape == (4, 5, 2)


def test_the_path_of_an_npz_file_may_be_relative_or_start_with_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load({"source": "npz", "path": "mine.npz"}).x_train) == 6
    assert len(load({"source": "npz", "path": "~/mine.npz"}).x_train) == 6


def test_for_a_missing_npz_file_the_nearest_is_named(tmp_path):
    write(tmp_path)
    check_error(
        {"source": "npz", "path": str(tmp_path / "mime.npz")},
        "data.path: ",
        "mime.npz'",
        "'mine.npz'",
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    check_error({"source": "npz", "path": str(empty / "mime.npz")}, "data.path", "mime.npz")
    check_error(
        {"source": "npz", "path": "nowhere/mime.npz"},
        "data.path: ",
        "'nowhere/mime.npz'",
    )
    check_error({"source": "npz", "path": str(empty)}, "folder", ".npz")


def test_for_a_missing_array_the_nearest_is_named(tmp_path):
    check_error(
        write(tmp_path, x_train=None, X_train=np.ones((6, 5, 2))),
        "data.path: ",
        "'x_train'",
        "'X_train'",
        "X_train, x_test, y_test, y_train",
    )


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"y_train": np.arange(5)}, ["y_train in {}", "5 samples", "x_train has 6"]),
        ({"x_test": np.ones((4, 5, 3))}, ["x_test in {}", "(5, 3)", "x_train", "(5, 2)"]),
        ({"x_train": np.ones(6)}, ["x_train in {}", "(6,)", "(samples, *spatial, channels)"]),
        ({"y_test": np.array(1)}, ["y_test in {}", "()", "(samples,) or (samples, outputs)"]),
        ({"x_test": np.ones((0, 5, 2))}, ["x_test in {}", "(0, 5, 2)"]),
        ({"x_train": np.ones((6, 5, 2), complex)}, ["x_train in {}", "complex128", "floats, integers, booleans"]),
        ({"y_train": np.ones(6, complex)}, ["y_train in {}", "complex128", "floats, integers, booleans, strings"]),
        ({"y_train": np.ones((6, 3), int)}, ["y_train in {}", "(6, 3)", "one-hot"]),
        ({"y_test": np.ones(4)}, ["y_test in {}", "float64", "y_train", "int64"]),
        ({"y_test": np.array([0, 1, 2, 9])}, ["{}", "'9'", "0, 1, 2"]),
        ({"x_test": np.full((4, 5, 2), np.nan)}, ["x_test in {}", "4 of 4 samples"]),
        ({"x_train": np.full((6, 5, 2), 1e40)}, ["x_train in {}", "6 of 6 samples"]),
        ({"y_train": np.array([0, 1, np.inf, 0, 0, 0]), "y_test": np.ones(4)}, ["1 of 6 samples", "index 2"]),
        ({"y_train": np.array(["a", 1, None] * 2, object)}, ["y_train", "Python objects"]),
    ],
)
def test_arrays_in_an_npz_file_that_do_not_fit_are_refused(tmp_path, changes, facts):
    config = write(tmp_path, **changes)
    check_error(config, "data.path: ", *(fact.format(repr(config["path"])) for fact in facts))


def test_a_file_of_another_kind_is_not_an_npz_file(tmp_path):
    (tmp_path / "table.npz").write_text("1,2,3\n")
    check_error({"source": "npz", "path": str(tmp_path / "table.npz")}, "table.npz", "numpy.savez")
    np.save(tmp_path / "x.npy", np.ones(3))
    check_error({"source": "npz", "path": str(tmp_path / "x.npy")}, "x.npy", "'npy'")


def test_a_damaged_npz_file_is_refused(tmp_path):
    path = write(tmp_path)["path"]
    with open(path, "r+b") as file:  # the values of the first array are at the beginning
        file.seek(300)
        file.write(b"\xff" * 20)
    check_error({"source": "npz", "path": path}, "data.path: ", "mine.npz: x_train", "CRC-32")


# .npy


def write_npy(folder, **changes):
    config = {"source": "npy"}
    for key, array in four(**changes).items():
        np.save(folder / f"{key}.npy", array)
        config[key] = str(folder / f"{key}.npy")
    return config


def test_npy_files_are_mapped_with_their_dtype(tmp_path):
    x = np.arange(60, dtype=np.uint8).reshape(6, 5, 2)
    splits = load(write_npy(tmp_path, x_train=x, y_train=np.arange(6)[:, None] % 3))
    for array in (splits.x_train, splits.y_train, splits.x_test, splits.y_test):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert splits.x_train.dtype == np.uint8
    np.testing.assert_array_equal(splits.x_train, x)
    assert splits.y_train.shape == (6,)
    assert splits.classes == ("0", "1", "2")


def test_float_targets_in_npy_files_are_mapped(tmp_path):
    splits = load(write_npy(tmp_path, y_train=np.zeros(6), y_test=np.zeros(4)))
    assert isinstance(splits.y_train, np.memmap)
    assert splits.y_train.shape == (6, 1)
    assert splits.classes is None


def test_an_npy_file_larger_than_memory_is_not_read(tmp_path):
    """Use 64 GiB of zeros in a sparse file: reading or copying them would fail or take minutes."""
    config = write_npy(tmp_path, y_train=np.zeros(1 << 16, np.uint8), y_test=np.zeros(4, np.uint8))
    shape = (1 << 16, 1 << 16, 4)
    try:
        np.lib.format.open_memmap(tmp_path / "x_train.npy", "w+", np.float32, shape)
    except OSError:
        pytest.skip("this file system has no sparse files of 64 GiB")
    np.save(tmp_path / "x_test.npy", np.lib.stride_tricks.as_strided(np.zeros(4, np.uint8), (4, 1 << 16, 4), (0, 0, 1)))
    try:
        splits = load(config)
        assert isinstance(splits.x_train, np.memmap)
        assert splits.x_train.shape == shape
        assert splits.x_train[-1, -1].tolist() == [0, 0, 0, 0]
        assert (tmp_path / "x_train.npy").stat().st_blocks * 512 < 1 << 24
    finally:
        (tmp_path / "x_train.npy").unlink()


def test_labels_in_npy_files_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxconv.app.data.npy"], "_BLOCK", 4)
    assert len(load(write_npy(tmp_path, y_train=np.array([0, 1, 2, 0, 0, 8]))).classes) == 9
    check_error(write_npy(tmp_path, y_train=np.array([0, 1, 2, 0, -3, 8])), "data.y_train: '", "-3")


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"y_train": np.full(6, 10**6)}, ["data.y_train: ", "1000000", "999999"]),
        ({"y_test": np.array([0, 1, 2, 3])}, ["data.y_test: ", "3", "0 to 2"]),
        ({"y_test": np.array([0, 1, 2])}, ["data.y_test: ", "3 samples", "x_test has 4"]),
        ({"x_train": np.ones((2, 5, 6)).T}, ["data.x_train: ", "Fortran"]),
        ({"y_train": np.array(["a"] * 6)}, ["data.y_train: ", "<U1", "floats, integers"]),
        ({"x_train": np.array([None] * 6)}, ["data.x_train: ", "Python objects"]),
        ({"x_test": np.ones((4, 0, 2))}, ["data.x_test: ", "(4, 0, 2)"]),
    ],
)
def test_arrays_in_npy_files_that_do_not_fit_are_refused(tmp_path, changes, facts):
    check_error(write_npy(tmp_path, **changes), *facts)


def test_missing_truncated_and_other_files_are_not_npy_files(tmp_path):
    config = write_npy(tmp_path)
    check_error({**config, "x_test": str(tmp_path / "x_tset.npy")}, "data.x_test: ", "x_tset.npy", "'x_test.npy'")
    (tmp_path / "y_test.npy").write_text("0\n1\n")
    check_error(config, "data.y_test: ", "numpy.save")
    with open(tmp_path / "x_train.npy", "r+b") as file:
        file.truncate(200)
    check_error(config, "data.x_train: ", "numpy.save")


# .csv


def write_csv(folder, train, test, **options):
    for key, lines in (("train", train), ("test", test)):
        (folder / f"{key}.csv").write_text("\n".join(lines) + "\n")
    return {"source": "csv", "train": str(folder / "train.csv"), "test": str(folder / "test.csv"), **options}


def test_a_table_of_text_has_a_sample_in_each_line(tmp_path):
    splits = load(write_csv(tmp_path, ["2,1,-1,0.5,3", "10,4,5,6,7"], ["10,1,2,3,4"], channels=2))
    np.testing.assert_array_equal(splits.x_train, np.array([[[1, -1], [0.5, 3]], [[4, 5], [6, 7]]], np.float32))
    assert splits.x_train.dtype == np.float32 and splits.classes == ("2", "10")
    assert splits.y_train.tolist() == [0, 1] and splits.y_test.tolist() == [1]
    table = write_csv(tmp_path, ["a\tb\tclass", "1\t2\tdog", "3\t4\tcat # 2"], ["a\tb\tclass", "5\t6\tdog "])
    splits = load({**table, "target": -1, "delimiter": "\t", "header": 1})
    assert splits.classes == ("cat # 2", "dog") and splits.y_test.tolist() == [1]
    splits = load(write_csv(tmp_path, ["0.5,1", "2,3"], ["1,1"]))
    assert splits.classes is None and splits.y_train.tolist() == [[0.5], [2.0]] and splits.y_test.dtype == np.float32


@pytest.mark.parametrize(
    ("train", "options", "facts"),
    [
        (["1,2,3", "1,2"], {}, ["data.train: ", "train.csv'", "columns"]),
        (["1,2,x"], {}, ["data.train: ", "'x'"]),
        (["1,2,nan"], {}, ["data.train: x in ", "1 of 1 samples"]),
        (["1,2,3"], {"channels": 3}, ["data.channels: 3", "2 values"]),
        (["1,2,3"], {"target": 3}, ["data.target: 3", "3 columns"]),
        (["8,2,3"], {}, ["'1'", "classes of the training set: 8"]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_table_of_text_that_does_not_fit_is_refused(tmp_path, train, options, facts):
    check_error(write_csv(tmp_path, train, ["1,2,3"], **options), *facts)


def test_a_missing_table_names_the_nearest(tmp_path):
    table = write_csv(tmp_path, ["1,2"], ["1,2"])
    check_error({**table, "test": str(tmp_path / "tset.csv")}, "data.test: ", "tset.csv'", "'test.csv'")


def test_a_path_of_a_config_is_relative_to_it_or_else_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    text = """
    [data]
    source = "npz"
    path = "mine.npz"
    [model]
    layers = [{layer = "Flatten"}, {layer = "Dense", units = 3}]
    [train]
    loss = {name = "sparse_categorical_crossentropy", from_logits = true}
    """
    (tmp_path / "configs" / "a.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, tests=3)
    assert len(load(read_config("configs/a.toml").data).x_test) == 3
    write(tmp_path / "configs")
    config = read_config("configs/a.toml")
    assert config.data["path"] == "configs/mine.npz" and len(load(config.data).x_test) == 4
