"""An ``.npz`` file of named arrays with a JSON header in the entry ``header.json``. Nothing is pickled."""

import contextlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.files.atomic import replacing
from jaxconv.files.bounds import ZipReader, open_file
from jaxconv.files.errors import FileError, damaged

_HEADER = "header.json"


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header to one file, atomically. The same content gives the same bytes.

    Every dtype of JAX is kept: those that ``.npy`` cannot name, such as bfloat16, are stored as unsigned integers of
    the same width. The header's entry ``"arrays"`` records the shape and dtype of each array. header: JSON values;
    ``"format"`` and ``"version"`` identify the kind of file. Raises FileError, or TypeError for an array that does not
    contain numbers.
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
    raise TypeError(f"array {name!r} has dtype {array.dtype}; give an array of numbers")


def read_format(path: str | os.PathLike[str]) -> str | None:
    """Return the format that an archive's header names, or None for any other file."""
    with contextlib.suppress(FileError), open_file(path) as handle:
        header = ZipReader(path, handle).read_json(_HEADER)
        found = header.get("format") if isinstance(header, dict) else None
        return found if isinstance(found, str) else None
    return None


def read_archive(
    path: str | os.PathLike[str], format: str, version: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays, in their dtypes, that :func:`write_archive` wrote. Raises FileError.

    format: the expected value of the header's ``"format"``. version: the newest one that the caller can read.
    """
    with open_file(path) as handle, damaged(path):
        start = handle.read(2)
        if start != b"PK":
            reason = "not an .npz file" if start else "it is empty"
            raise FileError(f"{path} is not a {format}: {reason}")
        archive = ZipReader(path, handle)
        if _HEADER not in archive.names:
            raise FileError(f"{path} is not a {format}: it has no {_HEADER}")
        header = archive.read_json(_HEADER)
        header = header if isinstance(header, dict) else {}
        if header.get("format") != format:
            raise FileError(f"{path} is not a {format}: its header says {header.get('format')!r}")
        stored, specs = header.get("version"), header.get("arrays")
        if type(stored) is not int or not isinstance(specs, dict):
            raise FileError(f"{path} is damaged: its header has no version or no list of arrays")
        if stored > version:
            reads = f"this jaxconv reads up to {version}; install a newer jaxconv"
            raise FileError(f"{path} has version {stored} of the {format} format and {reads}")
        return header, {name: _array(archive, name, spec) for name, spec in specs.items()}


def _array(archive: ZipReader, name: str, spec: Any) -> np.ndarray:
    content = archive.read(f"{name}.npy")
    if not isinstance(spec, dict) or not isinstance(spec.get("dtype"), str) or not isinstance(spec.get("shape"), list):
        raise ValueError(f"entry {name!r} has no dtype or no shape in the header")
    dtype, shape = jnp.dtype(spec["dtype"]), tuple(spec["shape"])
    if math.prod(shape) * dtype.itemsize > len(content):
        raise ValueError(f"entry {name!r} has {len(content)} bytes, too few for {dtype} of shape {shape}")
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"entry {name!r} is not an array in version 1.0 of NumPy's format")
    stored_shape, fortran, stored = np.lib.format.read_array_header_1_0(file)
    same_bits = stored == dtype or (stored.kind == "u" and stored.itemsize == dtype.itemsize)
    if fortran or not same_bits or stored_shape != shape:
        raise ValueError(f"entry {name!r} has {stored} of shape {stored_shape}, the header says {dtype} of {shape}")
    array = np.frombuffer(content, stored, math.prod(shape), file.tell())
    return array.copy().view(dtype).reshape(shape)
