"""Replace a file as a whole or not at all. Knows no formats."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxconv.files.errors import FileError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces ``path`` when the block ends without an exception.

    The temporary file is in the same folder and has the process id in its name. It is flushed to disk (fsync) and then
    renamed: a process killed at any moment leaves the old file or the new one, never a part. Temporary files that
    killed processes left for ``path`` are removed.

    Raises:
        FileError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        if not _is_running(old.name.split(".")[-2]):
            with contextlib.suppress(OSError):  # it may belong to another user; saving goes on
                old.unlink()
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    if os.name == "nt":
        return True  # unknown: signal 0 would be a Ctrl-C there
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
