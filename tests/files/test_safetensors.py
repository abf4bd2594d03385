"""Params in safetensors files: every type keeps its bits; other programs' files are read; errors name bad files."""

import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

safetensors = pytest.importorskip("safetensors")

from jaxconv.files.errors import FileError  # noqa: E402
from jaxconv.files.leaves import nested  # noqa: E402
from jaxconv.files.safetensors import load_params, save_params  # noqa: E402

TYPES = ["float32", "float16", "bfloat16", "int8", "uint32", "bool", "complex64", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_keeps_its_bits(tmp_path, dtype):
    array = np.arange(6).reshape(2, 3).astype(jnp.dtype(dtype))
    save_params(tmp_path / "w.safetensors", {"a": {"b": array}})
    loaded = load_params(tmp_path / "w.safetensors")["a"]["b"]
    assert loaded.dtype == dtype and loaded.shape == (2, 3)
    assert np.asarray(loaded).tobytes() == array.tobytes()


def test_nested_params_come_back_with_views_scalars_and_empty_arrays(tmp_path):
    params = {
        "sequential": {"conv1d": {"kernel": np.arange(12.0, dtype=np.float32).reshape(3, 4).T}},
        "scale": np.float32(2),
        "nothing": np.zeros((0, 3), np.float32),
    }
    save_params(tmp_path / "w.safetensors", params)
    loaded = load_params(tmp_path / "w.safetensors")
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_the_same_params_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_params(tmp_path / name, {"x": np.ones(3, np.float32), "y": np.ones(2, np.int8)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_holds_names_joined_by_slashes_for_other_programs(tmp_path):
    import safetensors.numpy

    save_params(tmp_path / "w", {"conv1d": {"bias": np.ones(3, np.float32)}})
    assert list(safetensors.numpy.load_file(tmp_path / "w")) == ["conv1d/bias"]
    safetensors.numpy.save_file({"model.0.weight": np.ones((2, 2), np.float32)}, tmp_path / "torch")
    assert list(load_params(tmp_path / "torch")) == ["model.0.weight"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"a/b": np.ones(1)}, ValueError, "the key 'a/b' is not valid in a file"),
        ({"a": None}, TypeError, "params contain None"),
        ({"a": np.array(["x"])}, TypeError, "a has type <U1"),
    ],
)
def test_what_no_file_can_hold_is_refused(tmp_path, params, error, message):
    with pytest.raises(error, match=message):
        save_params(tmp_path / "w", params)
    assert not list(tmp_path.iterdir())


def written(path, header, data=b""):
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\xff" * 64, struct.pack("<Q", 2**62) + b"{}"])
def test_other_files_are_named_as_such(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(FileError, match=r"w: .*safetensors"):
        load_params(tmp_path / "w")


def test_every_truncation_is_an_error_that_names_the_file(tmp_path):
    save_params(tmp_path / "w", {"a": np.arange(3, dtype=np.float32)})
    whole = (tmp_path / "w").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "w").write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"w: .*safetensors"):
            load_params(tmp_path / "w")


def test_shapes_that_the_bytes_do_not_fill_names_on_names_and_foreign_types_are_refused(tmp_path):
    bomb = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'
    with pytest.raises(FileError, match=r"w: .*safetensors"):
        load_params(written(tmp_path / "w", bomb, b"1234"))
    both = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a/b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'
    )
    with pytest.raises(FileError, match="a/b"):
        load_params(written(tmp_path / "w", both, b"12"))
    four = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    with pytest.raises(FileError, match=r"safetensors|a has type F4"):
        load_params(written(tmp_path / "w", four, b"1"))


def test_sixty_four_bits_are_not_cut_in_silence(tmp_path):
    save_params(tmp_path / "w", {"a": np.ones(2)})
    with pytest.raises(FileError, match=r"a is float64.*jax_enable_x64"):
        load_params(tmp_path / "w")
    with jax.enable_x64(True):
        assert load_params(tmp_path / "w")["a"].dtype == np.float64


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileError, match="w: No such file"):
        load_params(tmp_path / "w")
    with pytest.raises(FileError, match=f"{tmp_path}: it is a folder"):
        load_params(tmp_path)
    with pytest.raises(FileError, match="cannot be written"):
        save_params(tmp_path / "no" / "w", {})


def test_a_path_cannot_be_a_leaf_and_a_branch():
    for names in (["a", "a/b"], ["a/b", "a"], ["a", "a/b/c"]):
        with pytest.raises(ValueError, match=names[-1]):
            nested(dict.fromkeys(names, ml_dtypes.bfloat16(1)))


def test_the_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install safetensors"):
        load_params(tmp_path / "w")
