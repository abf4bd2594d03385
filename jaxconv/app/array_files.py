"""The user's arrays in ``.npy`` and ``.npz`` files: opened or read safely, with one error for everything unusable.

Knows numpy's file formats; nothing about models.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconv.app.schema import ConfigError, one_line


def map_npy(path: str | Path) -> np.ndarray:
    """Map the array of an ``.npy`` file into memory; only its header is read.

    Raises:
        ConfigError: the file is missing or unusable.
    """
    path = _existing(path, ".npy")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises many kinds of errors for damaged bytes
        raise ConfigError(
            f"{path} cannot be read as an .npy file, as written by numpy.save: {_reason(error)}{_text_hint(path)}"
        ) from None


def npz_names(path: str | Path) -> list[str]:
    """Return the names of the arrays in an ``.npz`` file. Raises ConfigError if the file is missing or unusable."""
    return _read(_existing(path, ".npz"), [])[0]


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file by their names.

    Python objects are refused, because they are pickled and reading them can run code.

    Raises:
        ConfigError: the file is missing or unusable, or has no such array.
    """
    return _read(_existing(path, ".npz"), names)[1]


def _existing(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; an {suffix} file is expected")
    if not path.exists():
        raise ConfigError(f"{path}: no such file; an {suffix} file is expected")
    if not path.is_file():
        raise ConfigError(f"{path} is not a regular file; an {suffix} file is expected")
    return path


def _read(path: Path, names: Sequence[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of all arrays, and the arrays called ``names``."""
    name = None
    try:
        with open(path, "rb") as handle:
            start = handle.read(6)
            handle.seek(0)
            if start == b"\x93NUMPY":
                raise ConfigError(f"{path} is a single array; an .npz file, as written by numpy.savez, is expected")
            if not start.startswith(b"PK"):
                raise ValueError("it is not a zip file")
            with np.load(handle, allow_pickle=False) as archive:
                for name in names:
                    if name not in archive.files:
                        raise ConfigError(f"{path} has no array {name!r}; it has {', '.join(archive.files) or 'none'}")
                arrays = {}
                for name in names:
                    arrays[name] = archive[name]
                    if not isinstance(arrays[name], np.ndarray):
                        raise ConfigError(f"{path}: {name} is not an array in numpy's format")
                return archive.files, arrays
    except ConfigError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors for damaged bytes
        what = path if name is None else f"{path}: {name}"
        raise ConfigError(
            f"{what} cannot be read as an .npz file, as written by numpy.savez: {_reason(error)}{_text_hint(path)}"
        ) from None


def _text_hint(path: str | Path) -> str:
    table = Path(path).suffix.lower() in (".csv", ".tsv", ".txt")
    return "; numpy.loadtxt reads a table of text, and numpy.save and numpy.savez write arrays" if table else ""


def _reason(error: Exception) -> str:
    if "pickle" in str(error):
        return "it has Python objects, which are pickled and could run code; save numbers, or strings: y.astype(str)"
    return one_line(str(error) or type(error).__name__)
