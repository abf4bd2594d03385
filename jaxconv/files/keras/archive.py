"""Keras's ``.keras`` archive: the files in the zip. Knows nothing of configs or layers."""

from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from jaxconv.files.bounds import ZipReader
from jaxconv.files.errors import FileError

_ENTRIES = 10_000


class Archive(NamedTuple):
    """The content of a ``.keras`` file: config and metadata as JSON values, weights as the bytes of an HDF5 file."""

    config: Any
    metadata: dict[str, Any]
    weights: bytes


def read_archive(path: Any, handle: IO[bytes]) -> Archive:
    """Read the three files of a ``.keras`` archive, in memory: nothing is unpacked to disk. Raises FileError."""
    archive = ZipReader(path, handle)
    if len(archive.names) > _ENTRIES:
        raise FileError(f"{path}: the archive has {len(archive.names)} entries; at most {_ENTRIES} are read")
    for name in archive.names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise FileError(f"{path}: the archive has an entry {name!a}, which leads out of it")
    config = archive.read_json("config.json")
    metadata = archive.read_json("metadata.json") if "metadata.json" in archive.names else {}
    if not isinstance(metadata, dict):
        raise FileError(f"{path}: metadata.json is of type {type(metadata).__name__}; a dict is expected")
    return Archive(config, metadata, archive.read("model.weights.h5"))
