"""Damaged copies of every format that is read: each ends in the right error, or is read with the values in it.

Reading takes at most 2 seconds and 500 MB, in a child process.
"""

import functools

import pytest

from tests.support.bounded import BoundedReader
from tests.support.fuzzing import FORMATS, damaged_case

pytest.importorskip("h5py")
pytest.importorskip("safetensors")
pytest.importorskip("flatbuffers")
SECONDS, MEGABYTES = 2, 500
CASES = 53  # of each of the 19 formats: 1,007


@pytest.fixture(scope="module")
def reader():
    with BoundedReader() as reader:
        yield reader


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return a function that returns the content of a good file of a format."""

    @functools.cache
    def content(kind):
        path = tmp_path_factory.mktemp("good") / FORMATS[kind].name
        FORMATS[kind].write(path)
        return path.read_bytes()

    return content


def check(path, how, kind, reader):
    """Read a file, and check the limits, the class of the error, and the arrays against those that others find."""
    outcome = reader.read(path, how)
    assert outcome.kind in ("read", *FORMATS[kind].errors), outcome
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome
    if outcome.kind != "read":
        assert path.name in outcome.message, outcome
    elif outcome.arrays and (stored := reader.read(path, "stored")).kind == "read":
        assert set(outcome.arrays) <= set(stored.arrays), outcome
    return outcome


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_good_file_is_read_with_the_values_in_it(kind, good, tmp_path, reader):
    path = tmp_path / FORMATS[kind].name
    FORMATS[kind].write(path)
    for how in dict.fromkeys(FORMATS[kind].readers):
        assert check(path, how, kind, reader).kind == "read"


def try_damaged(kind, seeds, good, folder, reader):
    path = folder / FORMATS[kind].name
    for seed in seeds:
        content, how, damage = damaged_case(kind, good(kind), seed)
        path.write_bytes(content)
        try:
            check(path, how, kind, reader)
        except AssertionError as error:
            error.add_note(f"{kind}, seed {seed}, {damage}, read as {how}")
            raise


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_refused_or_read_with_the_values_in_it(kind, good, tmp_path, reader):
    try_damaged(kind, range(1), good, tmp_path, reader)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_thousand_damaged_files_are_refused_or_read_with_the_values_in_them(kind, good, tmp_path, reader):
    try_damaged(kind, range(CASES), good, tmp_path, reader)
