"""Hostile files end in a FileError within 2 seconds and 500 MB, in a child process; large valid files are read."""

import re

import pytest

from tests.support import hostile_files
from tests.support.bounded import BoundedReader
from tests.support.messages import facts

SECONDS, MEGABYTES = 2, 500


@pytest.fixture(scope="module")
def reader():
    with BoundedReader() as reader:
        yield reader


def assert_refused(outcome, *parts):
    assert outcome.kind == "FileError", outcome
    assert re.search(facts(*parts), outcome.message), outcome.message
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome


MODELS = {  # how the file is made, and the facts of the message
    "shared_text": ["layer_names", "4001"],
    "chunk": ["bias:0", "chunk"],
    "chunk_packed_twice": ["bias:0", "[1, 1]"],
    "chunk_wider_than_its_table": ["bias:0", 3 * 2**30],
    "chunks_wider_than_their_table": ["kernel:0", "2000 chunks"],
    "chunk_too_short": ["bias:0", "chunk", 8],
    "text_longer_than_its_object": ["layer_names"],
    "chunk_in_archive": ["bias:0", "chunk"],
    "weights_in_archive": ["model.weights.h5", 3 * 2**30],
    "config_in_archive": ["config.json", 3 * 2**30],
    "nested_lists": ["config.json"],
    "nested_lists_in_metadata": ["metadata.json"],
    "sparse": ["sparse", 40 * 2**30],
    "many_entries": ["directory"],
    "many_groups": [20_000],
    "too_many_layers": [2500],
    "many_groups_of_groups": [20_000],
    "many_weight_names": ["weight_names", 20_000],
    "names_in_many_pieces": ["layer_names", 100],
    "fifo": ["regular file"],
}
OTHERS = {
    "exported_header": ("exported", ["header.json", 3 * 2**30]),
    "exported_array": ("exported", ["program.npy", 3 * 2**30]),
    "exported_claim": ("exported", ["program", 2**50]),
    "deep_name": ("safetensors", [400_000]),
    "many_arrays": ("safetensors", [100_000]),
    "sparse": ("safetensors", ["sparse"]),
    "fifo": ("safetensors", ["regular file"]),
    "header_of_nested_lists": ("safetensors", [2**23]),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", MODELS)
def test_hostile_model_files_are_refused(kind, tmp_path, reader):
    path = getattr(hostile_files, kind)(tmp_path)
    assert_refused(reader.read(path), path, *MODELS[kind])


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", OTHERS)
def test_other_hostile_files_are_refused(kind, tmp_path, reader):
    path, (how, parts) = getattr(hostile_files, kind)(tmp_path), OTHERS[kind]
    assert_refused(reader.read(path, how), path, *parts)


@pytest.mark.few(2)
@pytest.mark.parametrize("kind", ["exported_header", "exported_array", "header_of_nested_lists", "nested_lists"])
@pytest.mark.parametrize("command", ["info", "predict"])
def test_commands_refuse_hostile_files_in_one_line(kind, command, tmp_path, reader):
    outcome = reader.read(getattr(hostile_files, kind)(tmp_path), command)
    assert outcome.kind == "read", outcome
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome


USERS = {  # the user's own files: the reader, and the class of the error
    "a.toml": ("config", "ConfigError"),
    "x.npz": ("npz", "ConfigError"),
    "x.npy": ("npy", "ConfigError"),
    "keras.json": ("keras.json", "ValueError"),
    "results.json": ("results", "read"),  # as if there were none
    "metrics.csv": ("metrics", "read"),
    "tuned.json": ("tuned", "read"),  # with a warning
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("kind", ["fifo", "sparse_text"])
def test_files_of_the_user_that_are_pipes_or_enormous_are_not_read(kind, name, tmp_path, reader):
    how, error = USERS[name]
    outcome = reader.read(getattr(hostile_files, kind)(tmp_path, name), how)
    assert outcome.kind == error, outcome
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome


LARGE = ["many_normalizations", "many_normalizations_numbered", "many_layers_in_the_old_layout"]
LARGE = ["add_of_20000", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]


@pytest.mark.parametrize("kind", LARGE)
def test_the_time_for_a_large_good_file_is_linear(kind, tmp_path, reader):
    outcome = reader.read(getattr(hostile_files, kind)(tmp_path))
    assert outcome.kind == "read", outcome
    assert outcome.seconds < 10 and outcome.megabytes < MEGABYTES, outcome  # milliseconds for each of 1,500 layers


@pytest.mark.parametrize("value", [[], {}, 3, ["a"]])
def test_a_registered_name_that_is_not_a_text_is_ignored(value, tmp_path, reader):
    assert reader.read(hostile_files.registered_name(value)(tmp_path)).kind == "read"


@pytest.mark.parametrize(
    "shape", [[None, 4], [None, "x"], [None, -1], "x", [[None]], [None, [3], 3], 3, {"a": 1}, True]
)
def test_a_stored_input_shape_that_is_not_one_is_refused(shape, tmp_path, reader):
    path = hostile_files.metadata(jaxconv={"input_shape": shape})(tmp_path)
    assert_refused(reader.read(path), path, "input_shape")


@pytest.mark.parametrize("version", ["9" * 5000, "x", "", "-1", 3, None, [], "²"])
def test_a_version_that_is_not_one_is_read_as_unknown(version, tmp_path, reader):
    assert reader.read(hostile_files.metadata(keras_version=version)(tmp_path)).kind == "read"
