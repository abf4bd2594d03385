"""Reading and writing of params as safetensors, a format of arrays without code that many frameworks read."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.errors import require
from jaxconv.files.atomic import replacing
from jaxconv.files.bounds import TEXT, open_file
from jaxconv.files.errors import FileError, refused
from jaxconv.files.leaves import LEAVES, flat, nested, on_device

# safetensors's name of a type -> the type; its own numpy reader lacks those that numpy lacks
_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "C64": np.complex64,
    "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
}


def save_params(path: str | os.PathLike[str], params: Params) -> None:
    """Write params to a safetensors file, atomically: each leaf under its path, ``conv1d/kernel``.

    Every type keeps its bits, bfloat16 included. The same params give the same bytes.

    Args:
        path: the file, under exactly this name; ".safetensors" is the usual ending.
        params: nested dicts of arrays. Empty dicts are not stored.

    Raises:
        FileError: the file cannot be written.
        TypeError: a leaf is not an array of numbers, such as None from ``split``.
        ValueError: a key contains "/", which joins keys in the file.
        ImportError: safetensors is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/w.safetensors", {"conv1d": {"kernel": np.ones((3, 2, 4), np.float32)}})
    ...     load_params(f"{folder}/w.safetensors")["conv1d"]["kernel"].shape
    (3, 2, 4)
    """
    numpy = require("safetensors.numpy", "save_params", "safetensors")
    _check_keys(path, params)
    arrays = {name: np.array(leaf, order="C") for name, leaf in flat(params).items()}
    allowed = {np.dtype(kind) for kind in _TYPES.values()}
    for name, array in arrays.items():
        if array.dtype not in allowed:
            raise TypeError(f"{path}: {name} has type {array.dtype}, which safetensors lacks; give arrays of numbers")
    with replacing(path) as handle:
        handle.write(numpy.save(arrays, metadata={"format": "jax"}))


def _check_keys(path: Any, params: Any) -> None:
    if not isinstance(params, dict):
        if params is None or isinstance(params, list | tuple):
            raise TypeError(f"{path}: params contain {params!r}; give dicts of arrays, and merge the parts of a split")
        return
    for key, value in params.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(f"{path}: the key {key!r} is not valid in a file; give a non-empty string without '/'")
        _check_keys(path, value)


def load_params(path: str | os.PathLike[str]) -> Params:
    """Read params from a safetensors file, as nested dicts of arrays: "/" in a name separates keys.

    Args:
        path: the file.

    Returns:
        params: nested dicts of JAX arrays, each in its type in the file.

    Raises:
        FileError: the file is missing, truncated or not a safetensors file; it has a type that JAX lacks, or one of 64
            bits while ``jax_enable_x64`` is off; one name continues another one, such as "a/b" and "a".
        ImportError: safetensors is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_params(f"{folder}/w.safetensors", {"dense": {"bias": np.ones(2, np.float32)}})
    ...     load_params(f"{folder}/w.safetensors")
    {'dense': {'bias': Array([1., 1.], dtype=float32)}}
    >>> load_params("nowhere.safetensors")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: nowhere.safetensors: No such file or directory
    """
    safetensors = require("safetensors", "load_params")
    arrays = {}
    with open_file(path) as handle, refused(path, "it"):
        content = handle.read()
        if int.from_bytes(content[:8], "little") > min(TEXT, len(content)):
            raise FileError(f"{path}: not a safetensors file, or truncated, or with a header of more than {TEXT} bytes")
        try:
            entries = safetensors.deserialize(content)
        except safetensors.SafetensorError as error:
            raise FileError(f"{path}: it is truncated, damaged or not a safetensors file: {error}") from error
        if len(entries) > LEAVES:
            raise FileError(f"{path}: it has {len(entries)} arrays; at most {LEAVES} are read")
        for name, entry in entries:
            if entry["dtype"] not in _TYPES:
                raise FileError(f"{path}: {name} has type {entry['dtype']}, which JAX does not have")
            arrays[name] = np.frombuffer(entry["data"], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        return nested(on_device(path, dict(sorted(arrays.items()))))
