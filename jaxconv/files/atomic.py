"""Atomic replacement of files, and creation of folders with unused names."""

import contextlib
import itertools
import os
import platform
import re
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxconv.files.errors import FileError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` when the block ends without an exception. Raises FileError.

    The temporary file is in the same folder, under a name that is unique to each writer: two threads that save to one
    path do not interfere, and the last one wins. It is flushed to disk (fsync) and then renamed: a process killed at
    any moment leaves the old file or the new one, never a part. Temporary files for ``path`` that killed processes of
    this machine left behind are removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_machine()}-{secrets.token_hex(4)}.tmp")
    _remove_leftovers(path)
    try:
        with open(temporary, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # after the rename, or on a read-only file system
            temporary.unlink()


def new_folder(folder: Path) -> Path:
    """Create a folder, or the first of NAME-2, NAME-3, ... that does not exist, and return it. Raises OSError."""
    for number in itertools.count(1):
        new = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):  # a check beforehand would let two processes share a folder
            new.mkdir(parents=True)
            break
    return new


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_leftovers(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,9}})-{_machine()}-[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError):  # a file of another user, or no such folder; saving continues
        for other in path.parent.iterdir():
            if (match := name.fullmatch(other.name)) and not _is_running(int(match[1])):
                other.unlink()


def _is_running(pid: int) -> bool:
    if os.name == "nt":
        return True  # unknown: signal 0 would be a Ctrl-C there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power failure, if the system can open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
