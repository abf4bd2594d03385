"""Limits for reading untrusted files: only regular files, with an unpacked size in proportion to the file's size."""

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import IO, Any

from jaxconv.files.errors import FileError, damaged

TEXT = 2**23  # the largest number of bytes of JSON; the configs of Keras's own largest models have a tenth of that
_DIRECTORY = 2**21  # the largest number of bytes of a zip's directory
_COMPRESSION = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def budget(size: int) -> int:
    """Return the unpacked size that a file of ``size`` bytes may have: weights hardly compress, a zip bomb does."""
    return 2**26 + 16 * size


def open_file(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading. Raises FileError for a folder, a pipe, a device or a very sparse file."""
    with damaged(path):
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            model = next(
                (file for ending in ("*.keras", "*.h5", "*.safetensors") for file in sorted(Path(path).glob(ending))),
                None,
            )
            raise FileError(f"{path}: it is a folder; name a file" + (f", such as {model}" if model else ""))
        if not stat.S_ISREG(info.st_mode):
            raise FileError(f"{path}: it is not a regular file")
        stored = 512 * getattr(info, "st_blocks", info.st_size)  # fewer for a sparse file; Windows does not say
        if info.st_size > budget(stored):
            raise FileError(f"{path}: it is sparse: it has {info.st_size} bytes, of which {stored} are stored")
        return open(path, "rb")


def parse_json(path: Any, text: bytes | str, what: str) -> Any:
    """Return the value of a JSON text. Raises FileError if it is not JSON or is too long."""
    if len(text) > TEXT:
        raise FileError(f"{path}: {what} has {len(text)} bytes; at most {TEXT} are read")
    with damaged(path, what):
        return json.loads(text)


class ZipReader:
    """A zip file whose entries are read into memory, with one size budget for all of them. Raises FileError."""

    def __init__(self, path: Any, handle: IO[bytes]):
        self._path, self._left = path, budget(os.fstat(handle.fileno()).st_size)
        with damaged(path):
            limited: Any = _LimitedReads(path, handle)
            self._archive = zipfile.ZipFile(limited)
            limited.largest = None
        self.names = set(self._archive.namelist())

    def read(self, name: str, largest: int | None = None) -> bytes:
        """Read an entry of at most ``largest`` bytes. Raises FileError."""
        if name not in self.names:
            raise FileError(f"{self._path}: the archive has no {name}")
        info = self._archive.getinfo(name)
        largest = self._left if largest is None else min(largest, self._left)
        if info.file_size > largest:
            raise FileError(f"{self._path}: {name} unpacks to {info.file_size} bytes; at most {largest} are read")
        if info.compress_type not in _COMPRESSION:
            raise FileError(f"{self._path}: {name} is compressed with method {info.compress_type}; expected 0 and 8")
        with damaged(self._path, name), self._archive.open(info) as entry:
            content = entry.read(info.file_size + 1)
            if len(content) != info.file_size:
                raise FileError(f"{self._path}: {name} does not unpack to the declared {info.file_size} bytes")
        self._left -= info.file_size
        return content

    def read_json(self, name: str) -> Any:
        """Read an entry of JSON. Raises FileError."""
        return parse_json(self._path, self.read(name, TEXT), name)


class _LimitedReads:
    """A file that limits the size of each read until ``largest`` is None: zipfile reads the directory in one piece."""

    def __init__(self, path: Any, handle: IO[bytes]):
        self._path, self._handle, self.largest = path, handle, _DIRECTORY

    def read(self, size: int = -1) -> bytes:
        if self.largest is not None and size > self.largest:
            raise FileError(f"{self._path}: the directory of the archive has {size} bytes; at most {self.largest}")
        return self._handle.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)
