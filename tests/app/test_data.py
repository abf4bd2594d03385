"""The table of data sources, and the sources in packages: UCR sets and digits."""

import inspect
import socket
import sys

import numpy as np
import pytest

from jaxconv.app.data import Splits, load, sources
from jaxconv.app.schema import FilePath
from jaxconv.training.targets import class_indices


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a data source used the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def check_error(config, *facts):
    """Load, and check that the one-line message contains each fact."""
    with pytest.raises(ValueError) as caught:
        load(config)
    message = str(caught.value)
    assert "\n" not in message
    for fact in facts:
        assert fact in message, message


# The table of sources


@pytest.mark.parametrize("name", sorted(sources))
def test_every_parameter_of_a_source_is_a_documented_annotated_keyword(name):
    signature = inspect.signature(sources[name])
    assert signature.return_annotation is Splits
    for key, parameter in signature.parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.annotation in (str, int, float, bool, FilePath)
        assert key in inspect.getdoc(sources[name]).split("Args:")[1].split("Shapes:")[0]


def test_splits_cannot_be_changed():
    splits = load({"source": "adding_problem", "length": 4, "train": 1, "test": 1})
    with pytest.raises(AttributeError):
        splits.x_train = splits.x_test


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"name": "GunPoint"}, ["data.source", "adding_problem, csv, digits, npy, npz, solids, ucr"]),
        ({"source": "urc"}, ["data.source", '"urc"', "'ucr'"]),
        ({"source": 3}, ["data.source", "3", "adding_problem"]),
        ({"source": "ucr"}, ["data.name", "string"]),
        ({"source": "ucr", "nmae": "GunPoint"}, ["data.nmae", '"GunPoint"', "'name'"]),
        ({"source": "ucr", "name": 7}, ["data.name", "string", "7"]),
        ({"source": "ucr", "name": "GunPoint", "normalize": "yes"}, ["data.normalize", "true or false", '"yes"']),
        ({"source": "digits", "seed": 1.5}, ["data.seed", "integer", "1.5"]),
        ({"source": "digits", "seed": True}, ["data.seed", "integer", "true"]),
        ({"source": "digits", "test_size": "0.2"}, ["data.test_size", "number", '"0.2"']),
    ],
)
def test_a_wrong_table_names_the_key_the_value_and_the_nearest_valid_value(config, facts):
    check_error(config, *facts)


def test_an_integer_is_a_valid_float():
    assert load({"source": "solids", "train": 1, "test": 1, "noise": 0}).x_train.shape == (1, 16, 16, 16, 1)


# UCR


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [
        ("GunPoint", (50, 150, 1), 150, ("1", "2")),
        ("ItalyPowerDemand", (67, 24, 1), 1029, ("1", "2")),
        ("ArrowHead", (36, 251, 1), 175, ("0", "1", "2")),
        ("OSULeaf", (200, 427, 1), 242, ("1", "2", "3", "4", "5", "6")),
        ("ACSF1", (100, 1460, 1), 100, tuple("0123456789")),
        ("BasicMotions", (40, 100, 6), 40, ("badminton", "running", "standing", "walking")),
    ],
)
def test_ucr_set_has_the_published_size(name, train, test, classes):
    splits = load({"source": "ucr", "name": name})
    assert splits.x_train.shape == train
    assert splits.x_test.shape == (test, *train[1:])
    assert splits.y_train.shape == train[:1]
    assert splits.y_test.shape == (test,)
    assert splits.x_train.dtype == splits.x_test.dtype == np.float32
    assert splits.y_train.dtype == splits.y_test.dtype == np.int32
    assert splits.classes == classes
    assert set(splits.y_train.tolist()) == set(range(len(classes)))


def test_ucr_keeps_time_and_channels_apart():
    """Case 0 of BasicMotions_TRAIN.ts: "Standing", its channels 0 and 1 start with 0.079106 and 0.394032."""
    splits = load({"source": "ucr", "name": "BasicMotions"})
    np.testing.assert_allclose(splits.x_train[0, 0, :2], [0.079106, 0.394032], rtol=1e-6)  # float32
    assert splits.classes[splits.y_train[0]] == "standing"


def test_ucr_normalize_uses_the_statistics_of_the_training_set_alone():
    raw = load({"source": "ucr", "name": "BasicMotions"})
    normal = load({"source": "ucr", "name": "BasicMotions", "normalize": True})
    x = raw.x_train.astype(np.float64)
    mean, deviation = x.reshape(-1, 6).mean(0), x.reshape(-1, 6).std(0)
    # 1e-5: raw was rounded to float32 once
    np.testing.assert_allclose(normal.x_test, (raw.x_test - mean) / deviation, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(normal.x_train.astype(np.float64).std((0, 1)), 1, rtol=1e-5)
    assert normal.x_train.dtype == np.float32


def test_ucr_regression_set_has_float_targets():
    splits = load({"source": "ucr", "name": "Covid3Month"})
    assert splits.classes is None
    assert splits.y_train.shape == (140, 1)
    assert splits.y_train.dtype == np.float32


def test_for_an_unknown_ucr_set_the_nearest_is_named():
    check_error({"source": "ucr", "name": "Gunpoint"}, "data.name", "'Gunpoint'", "'GunPoint'")
    check_error({"source": "ucr", "name": "FordA"}, "data.name", "'FordA'", "ACSF1, ArrowHead")


def test_ucr_refuses_series_of_different_lengths():
    check_error({"source": "ucr", "name": "JapaneseVowels"}, "data.name", "7 to 26 steps", "JapaneseVowels_eq")
    assert load({"source": "ucr", "name": "JapaneseVowels_eq"}).x_train.shape == (270, 25, 12)


@pytest.mark.parametrize(
    ("package", "source", "name"), [("aeon", "ucr", "aeon"), ("sklearn.datasets", "digits", "scikit-learn")]
)
def test_a_missing_package_is_named_with_the_command_to_install_it(monkeypatch, package, source, name):
    monkeypatch.setitem(sys.modules, package, None)
    arguments = {"name": "GunPoint"} if source == "ucr" else {}
    with pytest.raises(ImportError, match=rf"'{source}'.*pip install {name}"):
        load({"source": source, **arguments})


# Digits


def test_digits_are_split_in_proportion_and_scaled():
    splits = load({"source": "digits"})
    assert splits.x_train.shape == (1437, 8, 8, 1)
    assert splits.x_test.shape == (360, 8, 8, 1)
    assert splits.x_train.dtype == np.float32
    assert splits.y_train.dtype == np.int32
    assert (splits.x_train.min(), splits.x_train.max()) == (0, 1)
    assert splits.classes == tuple("0123456789")
    whole = np.bincount(np.concatenate([splits.y_train, splits.y_test]))
    assert np.all(abs(np.bincount(splits.y_test) - 0.2 * whole) < 1)


def test_the_seed_of_digits_determines_the_split():
    first, again, other = (load({"source": "digits", "seed": seed}) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)


def test_digits_have_bounds():
    check_error({"source": "digits", "test_size": 1.5}, "data.test_size", "1.5", "0.01 to 0.9")
    check_error({"source": "digits", "test_size": float("nan")}, "data.test_size", "nan")
    check_error({"source": "digits", "seed": -1}, "data.seed", "-1", "0 to 4294967295")


# Labels


def test_labels_are_sorted_as_numbers_before_words():
    y = np.array(["10", "9", "b", "-1", "A", "nan"])
    train, test, classes = class_indices(y, y[:2], "")
    assert classes == ("-1", "9", "10", "A", "b", "nan")
    assert train.tolist() == [2, 1, 4, 0, 3, 5]
    assert test.tolist() == [2, 1]


def test_labels_may_be_bytes_or_booleans():
    assert class_indices(np.array([b"caf\xc3\xa9"]), np.array([b"caf\xc3\xa9"]), "")[2] == ("café",)
    assert class_indices(np.array([True, False]), np.array([True]), "")[2] == ("False", "True")
