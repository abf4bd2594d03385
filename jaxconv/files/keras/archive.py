"""Keras's ``.keras`` archive: the files in the zip, none of them larger than it may be.

Knows zip files, and nothing of configs or layers.
"""

import json
import os
import zipfile
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5 import budget

TEXT = 2**25  # the largest number of bytes of JSON in a file
_ENTRIES = 10_000


class Archive(NamedTuple):
    """The content of a ``.keras`` file: config and metadata as JSON values, weights as the bytes of an HDF5 file."""

    config: Any
    metadata: dict[str, Any]
    weights: bytes


def read_archive(path: str | os.PathLike[str], handle: Any) -> Archive:
    """Read the three files of a ``.keras`` archive, in memory: nothing is unpacked to disk.

    Raises:
        FileError: an entry is missing, damaged, larger than a file of this size may hold, or has a name that leads out
            of the archive.
    """
    with damaged(path), zipfile.ZipFile(handle) as archive:
        infos = archive.infolist()
        if len(infos) > _ENTRIES:
            raise FileError(f"{path}: the archive has {len(infos)} entries; at most {_ENTRIES} are read")
        for info in infos:
            _check_name(path, info.filename)
        names = {info.filename for info in infos}
        for name in ("config.json", "model.weights.h5"):
            if name not in names:
                raise FileError(f"{path}: the archive has no {name}: it is not a Keras model")
        config = parse_json(path, _entry(path, archive, "config.json", TEXT), "config.json")
        metadata = _entry(path, archive, "metadata.json", TEXT) if "metadata.json" in names else b"{}"
        about = parse_json(path, metadata, "metadata.json")
        if not isinstance(about, dict):
            raise FileError(f"{path}: metadata.json is of type {type(about).__name__}; a dict is expected")
        most = budget(os.fstat(handle.fileno()).st_size)
        return Archive(config, about, _entry(path, archive, "model.weights.h5", most))


def parse_json(path: Any, text: bytes | str, what: str) -> Any:
    """Return the value of a JSON text. Raises FileError if it is not JSON, or too long."""
    if len(text) > TEXT:
        raise FileError(f"{path}: {what} has {len(text)} bytes; at most {TEXT} are read")
    with damaged(path, what):
        return json.loads(text)


def _entry(path: Any, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > most:
        raise FileError(f"{path}: {name} unpacks to {info.file_size} bytes; a file of this size may hold {most}")
    with damaged(path, name), archive.open(info) as entry:
        content = entry.read(most + 1)
        if len(content) != info.file_size or entry.read(1):
            raise FileError(f"{path}: {name} does not unpack to the declared {info.file_size} bytes")
        return content


def _check_name(path: Any, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise FileError(f"{path}: the archive has an entry {name!a}, which leads out of it")
