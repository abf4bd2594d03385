"""One file of named arrays and a JSON header, written whole or not at all.

An ``.npz`` that any NumPy opens, plus the entry ``header.json``. No pickle, ever. Knows nothing of layers or training.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError

_HEADER = "header.json"


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header to one file, atomically (see :func:`replacing`).

    Every dtype of JAX survives, bfloat16 and the float8 types included: what ``.npy`` has no name for is stored as
    unsigned integers of the same width, and the header's entry ``"arrays"`` records shape and true dtype of each array.
    The same content gives the same bytes.

    Args:
        path: the file, under exactly this name.
        header: what JSON can hold; ``"format"`` and ``"version"`` say what the file is.
        arrays: numbers only, by name; a name may hold ``/``.

    Raises:
        FileError: the file cannot be written.
        TypeError: an array does not hold numbers.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    manifest = {name: {"shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()}
    stored = {name: _storable(name, array) for name, array in arrays.items()}
    text = json.dumps({**header, "arrays": manifest}, indent=1)
    with replacing(path) as handle, zipfile.ZipFile(handle, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), text)  # a ZipInfo of its own has no time of day in it
        for name, array in stored.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "biufc" and array.dtype.isbuiltin:
        return array
    if jnp.issubdtype(array.dtype, np.number):
        return array.view(f"u{array.dtype.itemsize}") if array.dtype.isnative else array.astype(array.dtype.type)
    raise TypeError(f"array {name!r} has dtype {array.dtype}; a file holds numbers only")


def read_header(path: str | os.PathLike[str], format: str, version: int) -> dict[str, Any]:
    """Read and check the header alone, ``"arrays"`` (name -> shape and dtype) included.

    Raises:
        FileError: as :func:`read_archive`.
    """
    with _opened(path, format) as archive:
        return _header(Path(path), archive, format, version)


def read_archive(
    path: str | os.PathLike[str], format: str, version: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_archive` wrote: the header and the arrays, each with the dtype that it had.

    Args:
        path: the file.
        format: what it has to be: the header's ``"format"``.
        version: the newest version of that format that the caller understands.

    Raises:
        FileError: the file is missing, empty, truncated, damaged, of another kind, or of a newer version.
    """
    with _opened(path, format) as archive:
        header = _header(Path(path), archive, format, version)
        return header, {name: _array(archive, name, spec) for name, spec in header["arrays"].items()}


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], format: str) -> Iterator[zipfile.ZipFile]:
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            start = handle.read(4)
            if not start:
                raise FileError(f"{path} is empty; a {format} was expected")
            if not start.startswith(b"PK"):
                raise FileError(f"{path} is not a {format}: it is no .npz file")
            with zipfile.ZipFile(handle) as archive:
                yield archive
    except FileError:
        raise
    except FileNotFoundError:
        raise FileError(f"{path}: there is no such file; a {format} was expected") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what zipfile, numpy and json raise on damaged bytes is no closed list
        raise FileError(f"{path} is truncated or damaged: {error}") from error


def _header(path: Path, archive: zipfile.ZipFile, format: str, version: int) -> dict[str, Any]:
    if _HEADER not in archive.namelist():
        raise FileError(f"{path} is not a {format}: an .npz file, but without {_HEADER}")
    header = json.loads(archive.read(_HEADER))
    found = header.get("format")
    if found != format:
        raise FileError(f"{path} is not a {format}: its header says {found!r}")
    if header["version"] > version:
        raise FileError(
            f"{path} has version {header['version']} of the {format} format and this jaxconv reads up to {version}; "
            "install a newer jaxconv"
        )
    return header


def _array(archive: zipfile.ZipFile, name: str, spec: Mapping[str, Any]) -> np.ndarray:
    with archive.open(f"{name}.npy") as entry:
        array = np.lib.format.read_array(entry, allow_pickle=False)
        entry.read(1)  # reaching the end makes zipfile compare the checksum
    dtype = jnp.dtype(spec["dtype"])
    if array.dtype != dtype and array.dtype.kind == "u" and array.dtype.itemsize == dtype.itemsize:
        array = array.view(dtype)
    if array.dtype != dtype or list(array.shape) != spec["shape"]:
        raise ValueError(
            f"entry {name!r} has dtype {array.dtype} and shape {array.shape}, the header says "
            f"{dtype} and {tuple(spec['shape'])}"
        )
    return array
