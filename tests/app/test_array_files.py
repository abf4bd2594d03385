"""Reading the user's .npy and .npz files, and the errors for unusable ones, which name the file."""

import io
import os
import zipfile

import numpy as np
import pytest

from jaxconv.app.array_files import map_npy, read_npz
from jaxconv.app.data import load
from jaxconv.app.schema import ConfigError
from jaxconv.cli.command_line import main

ARRAYS = {"x": np.arange(12.0).reshape(4, 3), "y": np.arange(4)}


def npz(**options) -> bytes:
    """Return an .npz file."""
    content = io.BytesIO()
    np.savez(content, **ARRAYS, **options)
    return content.getvalue()


def npy(shape: str = "(4, 3)", descr: str = "'<f8'") -> bytes:
    """Return an .npy file with this text in its header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + ARRAYS["x"].tobytes()


def patched(content: bytes, offset: int, value: int) -> bytes:
    """Return a zip file in which a field of two bytes of each entry is set, here and in the directory."""
    data = bytearray(content)
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = data.find(signature)
        while place >= 0:
            data[place + offset + shift : place + offset + shift + 2] = value.to_bytes(2, "little")
            place = data.find(signature, place + 4)
    return bytes(data)


DAMAGED_NPZ = {
    "empty": b"",
    "text": b"1,2,3",
    "encrypted": patched(npz(), 6, 1),
    "unknown compression": patched(npz(), 8, 77),
    "damaged directory": npz()[:-40] + bytes(40),
    "no directory": npz()[: len(npz()) // 2],
    "damaged values": npz().replace(ARRAYS["x"].tobytes()[40:60], b"?" * 20, 1),
    "damaged header": npz().replace(b"'descr': '<f8'", b"'descr': (((((", 1),
    "not numpy": b"",
    "Python objects": npz(z=np.array([{}])),
}
with io.BytesIO() as _content:
    with zipfile.ZipFile(_content, "w") as _archive:
        for _name in ("x", "y"):
            _archive.writestr(f"{_name}.npy", b"hello")
    DAMAGED_NPZ["not numpy"] = _content.getvalue()

DAMAGED_NPY = {
    "empty": b"",
    "text": b"1,2,3",
    "truncated": npy()[:150],
    "unknown dtype": npy(descr="'<q9'"),
    "open bracket": npy(shape="(4, 3"),
    "deep": npy(descr="[" * 40 + "]" * 40),
    "name": npy(shape="(os, 3)"),
    "negative": npy(shape="(-4, -3)"),
    "huge": npy(shape="(10**9, 10**9)"),
    "huge number": npy(shape=f"({'9' * 40}, 3)"),
    "objects": npy(descr="'|O'"),
    "version": npy().replace(b"NUMPY\x01", b"NUMPY\x09"),
}


@pytest.mark.parametrize("content", DAMAGED_NPZ.values(), ids=DAMAGED_NPZ)
def test_a_damaged_npz_file_is_one_error_with_its_name(tmp_path, capsys, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.npz") as caught:
        read_npz(path, ["x", "y", "z"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^data\.path: .*bad\.npz"):
        load({"source": "npz", "path": str(path)})


@pytest.mark.parametrize("content", DAMAGED_NPY.values(), ids=DAMAGED_NPY)
def test_a_damaged_npy_file_is_one_error_with_its_name(tmp_path, content):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.npy") as caught:
        map_npy(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^data\.x_train: .*bad\.npy"):
        load({"source": "npy", **dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), str(path))})


@pytest.mark.parametrize("read", [map_npy, lambda path: read_npz(path, ["x"])])
@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_not_a_regular_file_is_refused(tmp_path, kind, read):
    path = tmp_path / "data"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)  # opening it would wait for a writer
    with pytest.raises(ConfigError, match="data"):
        read(path)


@pytest.mark.parametrize("command", ["evaluate", "info", "train", "predict"])
def test_a_fifo_is_refused_by_every_command(tmp_path, capsys, command):
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    more = [pipe, "--out", str(tmp_path / "y.npy")] if command == "predict" else []
    assert main([command, pipe, *more]) == 2
    assert pipe in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"data\.path"):
        load({"source": "npz", "path": pipe})


def test_intact_files_are_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz())
    (tmp_path / "a.npy").write_bytes(npy())
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["y"])["y"], ARRAYS["y"])
    assert list(read_npz(tmp_path / "a.npz", ["z", "x"], ["y", "x"], ["x"])) == ["y", "x"]
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), ARRAYS["x"])
