"""From whatever is raised about a file's content to a FileError: the file and the reason. Knows no formats."""

import contextlib
from collections.abc import Iterator
from typing import Any

from jaxconv.files.archive import FileError


@contextlib.contextmanager
def damaged(path: Any, what: str = "it") -> Iterator[None]:
    """Say that ``what`` is damaged, whatever is raised: what libraries raise on damaged bytes is no closed list."""
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
    """Give the reason that a layer or a config's reader has; say that ``where`` is damaged for all else."""
    with damaged(path, where):
        try:
            yield
        except FileError:
            raise
        except (ValueError, TypeError) as error:
            raise FileError(f"{path}: {where}: {_short(str(error))}") from error


def _short(text: str) -> str:
    """Give the two ends of a text that quotes all of a hostile config."""
    return text if len(text) <= 2000 else f"{text[:1000]} ... {text[-500:]}"
