"""Keras's ``.keras`` archive: which files are in the zip, and that they are no larger than they may be.

Knows zip files, and nothing of what is in a config or of layers.
"""

import json
import os
import zipfile
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jaxconv.files.errors import FileError, damaged
from jaxconv.files.hdf5 import budget

TEXT = 2**25  # the most bytes of JSON in a file
_ENTRIES = 10_000


class Archive(NamedTuple):
    """What a ``.keras`` file holds. config and metadata are JSON as read; weights are the bytes of an HDF5 file."""

    config: Any
    metadata: dict[str, Any]
    weights: bytes


def read_archive(path: str | os.PathLike[str], handle: Any) -> Archive:
    """Read the three files of a ``.keras`` archive, in memory: nothing is ever unpacked to disk.

    Raises:
        FileError: an entry is missing, damaged, or larger than a file of this size can stand for; a name that points
            out of the archive.
    """
    with damaged(path), zipfile.ZipFile(handle) as archive:
        infos = archive.infolist()
        if len(infos) > _ENTRIES:
            raise FileError(f"{path}: the archive has {len(infos)} entries; a model has three, and its assets")
        for info in infos:
            _check_name(path, info.filename)
        names = [info.filename for info in infos]
        if "config.json" not in names or "model.weights.h5" not in names:
            raise FileError(f"{path}: the archive holds no Keras model: config.json and model.weights.h5 are not in it")
        most = budget(os.fstat(handle.fileno()).st_size)
        config = parse(path, _entry(path, archive, "config.json", TEXT), "config.json")
        metadata = _entry(path, archive, "metadata.json", TEXT) if "metadata.json" in names else b"{}"
        about = parse(path, metadata, "metadata.json")
        if not isinstance(about, dict):
            raise FileError(f"{path}: metadata.json holds no table of names, but {type(about).__name__}")
        return Archive(config, about, _entry(path, archive, "model.weights.h5", most))


def parse(path: Any, text: bytes | str, what: str) -> Any:
    """Read JSON. Raises FileError for what is none, or too long."""
    if len(text) > TEXT:
        raise FileError(f"{path}: {what} is {len(text)} long; at most {TEXT} is read")
    with damaged(path, what):
        return json.loads(text)


def _entry(path: Any, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > most:
        raise FileError(f"{path}: {name} unpacks to {info.file_size} bytes; a file of this size may hold {most}")
    with damaged(path, name), archive.open(info) as entry:
        content = entry.read(most + 1)
        if len(content) != info.file_size or entry.read(1):
            raise FileError(f"{path}: {name} unpacks to other than the {info.file_size} bytes that it declares")
        return content


def _check_name(path: Any, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise FileError(f"{path}: the archive has an entry {name!a}, which points out of it")
