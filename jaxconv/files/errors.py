"""FileError, and context managers that raise any other exception about a file's content as a FileError."""

import contextlib
from collections.abc import Iterator
from typing import Any


class FileError(ValueError):
    """Error for a file that cannot be used. The message names the file and the reason, and is always printable.

    >>> jaxconv.load_model("nowhere.keras")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: nowhere.keras: No such file or directory
    """

    def __init__(self, message: str):
        # a file may contain invalid text, or characters that control a terminal
        text = message.encode(errors="backslashreplace").decode()
        super().__init__("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))


class NoLayerError(ValueError):
    """Error for a layer in a file that has no counterpart here. A custom layer can replace it."""


@contextlib.contextmanager
def damaged(path: Any, what: str = "it") -> Iterator[None]:
    """Raise any exception as a FileError that calls ``what`` damaged: readers may raise anything on damaged bytes."""
    try:
        yield
    except (FileError, ImportError):
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or f'{what} is truncated or damaged: {error}'}") from error
    except Exception as error:
        raise FileError(f"{path}: {what} is truncated or damaged: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def refused(path: Any, where: str) -> Iterator[None]:
    """Raise a ValueError or TypeError as a FileError with its reason, and any other exception as in :func:`damaged`."""
    with damaged(path, where):
        try:
            yield
        except FileError:
            raise
        except (ValueError, TypeError) as error:
            text = str(error)  # some messages quote a whole config
            text = text if len(text) <= 2000 else f"{text[:1000]} ... {text[-500:]}"
            raise FileError(f"{path}: {where}: {text}") from error
