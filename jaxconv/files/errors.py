"""FileError, and what turns every other exception about a file's content into one. Independent of formats."""

import contextlib
from collections.abc import Iterator
from typing import Any


class FileError(ValueError):
    """A file that cannot be used. The message names the file and the reason, and is always printable.

    >>> jaxconv.load_model("nowhere.keras")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: nowhere.keras: No such file or directory
    """

    def __init__(self, message: str):
        # a file may hold text that is not valid, or that a terminal would act on
        text = message.encode(errors="backslashreplace").decode()
        super().__init__("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))


class NoLayerError(ValueError):
    """A layer of a file that no layer here stands for. A custom layer can replace it."""


@contextlib.contextmanager
def damaged(path: Any, what: str = "it") -> Iterator[None]:
    """Raise any exception as a FileError that calls ``what`` damaged: readers of damaged bytes may raise anything."""
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
    """Raise a ValueError or TypeError as a FileError with its reason, any other exception as in :func:`damaged`."""
    with damaged(path, where):
        try:
            yield
        except FileError:
            raise
        except (ValueError, TypeError) as error:
            text = str(error)  # some messages quote a whole config
            text = text if len(text) <= 2000 else f"{text[:1000]} ... {text[-500:]}"
            raise FileError(f"{path}: {where}: {text}") from error
