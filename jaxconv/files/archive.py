"""Named arrays and a JSON header in one file, written as a whole or not at all.

An ``.npz`` that NumPy opens, with the additional entry ``header.json``. No pickle. Knows nothing of layers or training.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError, damaged

_HEADER = "header.json"


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header to one file, atomically (see :func:`jaxconv.files.atomic.replacing`).

    Every dtype of JAX is kept: those that ``.npy`` cannot name, such as bfloat16, are stored as unsigned integers of
    the same width. The header's entry ``"arrays"`` records shape and dtype of each array. The same content gives the
    same bytes.

    Args:
        path: the file, under exactly this name.
        header: JSON values; ``"format"`` and ``"version"`` say what the file is.
        arrays: numbers only, by name; a name may contain ``/``.

    Raises:
        FileError: the file cannot be written.
        TypeError: an array does not hold numbers.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    manifest = {name: {"shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()}
    stored = {name: _storable(name, array) for name, array in arrays.items()}
    text = json.dumps({**header, "arrays": manifest}, indent=1)
    with replacing(path) as handle, zipfile.ZipFile(handle, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), text)  # a ZipInfo has no time unless it is given one
        for name, array in stored.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "biufc" and array.dtype.isbuiltin:
        return array
    if jnp.issubdtype(array.dtype, np.number):
        return array.view(f"u{array.dtype.itemsize}") if array.dtype.isnative else array.astype(array.dtype.type)
    raise TypeError(f"array {name!r} has dtype {array.dtype}; a file holds numbers only")


def read_format(path: str | os.PathLike[str]) -> str | None:
    """Return the format that the header of an archive names; None for any other file."""
    with contextlib.suppress(FileError), _opened(path, "archive") as archive:
        found = json.loads(archive.read(_HEADER)).get("format")
        return found if isinstance(found, str) else None
    return None


def read_archive(
    path: str | os.PathLike[str], format: str, version: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_archive` wrote: the header and the arrays, each with its dtype.

    Args:
        path: the file.
        format: the expected value of the header's ``"format"``.
        version: the newest version of that format that the caller can read.

    Raises:
        FileError: the file is missing, empty, truncated, damaged, of another format, or of a newer version.
    """
    with _opened(path, format) as archive:
        if _HEADER not in archive.namelist():
            raise FileError(f"{path} is not a {format}: it has no {_HEADER}")
        header = json.loads(archive.read(_HEADER))
        if header.get("format") != format:
            raise FileError(f"{path} is not a {format}: its header says {header.get('format')!r}")
        if header["version"] > version:
            raise FileError(
                f"{path} has version {header['version']} of the {format} format and this jaxconv reads up to "
                f"{version}; install a newer jaxconv"
            )
        return header, {name: _array(archive, name, spec) for name, spec in header["arrays"].items()}


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], format: str) -> Iterator[zipfile.ZipFile]:
    with damaged(path), open(path, "rb") as handle:
        start = handle.read(4)
        if not start.startswith(b"PK"):
            reason = "not an .npz file" if start else "it is empty"
            raise FileError(f"{path} is not a {format}: {reason}")
        with zipfile.ZipFile(handle) as archive:
            yield archive


def _array(archive: zipfile.ZipFile, name: str, spec: Mapping[str, Any]) -> np.ndarray:
    with archive.open(f"{name}.npy") as entry:
        array = np.lib.format.read_array(entry, allow_pickle=False)
        entry.read(1)  # zipfile compares the checksum at the end of the entry
    dtype = jnp.dtype(spec["dtype"])
    if array.dtype != dtype and array.dtype.kind == "u" and array.dtype.itemsize == dtype.itemsize:
        array = array.view(dtype)
    if array.dtype != dtype or list(array.shape) != spec["shape"]:
        raise ValueError(
            f"entry {name!r} has dtype {array.dtype} and shape {array.shape}, the header says "
            f"{dtype} and {tuple(spec['shape'])}"
        )
    return array
