"""Safe reading of the user's ``.npy`` and ``.npz`` files; any unusable file raises ConfigError."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconv.app.schema import ConfigError
from jaxconv.registry import nearest


def map_npy(path: str | Path) -> np.ndarray:
    """Map the array of an ``.npy`` file into memory; only its header is read. Raises ConfigError."""
    path = find_file(path, ".npy")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises many kinds of errors for damaged bytes
        raise _damaged(path, path, "numpy.save", error) from None


def find_file(path: str | Path, suffix: str) -> Path:
    """Return a file (``~`` is the home folder). Raises ConfigError, which names the nearest file in its folder."""
    file = Path(path).expanduser()
    if file.is_file():
        return file
    expected = f"a {suffix} file is expected"
    if file.exists():
        kind = "a folder" if file.is_dir() else "not a regular file"
        raise ConfigError(f"{str(path)!r} is {kind}; {expected}")
    if not file.parent.is_dir():
        raise ConfigError(f"{str(path)!r}: no such file and no such folder in {str(Path.cwd())!r}; {expected}")
    names = [entry.name for entry in file.parent.glob(f"*{suffix}")]
    relative = "" if file.is_absolute() else "; it starts at the config that names it, or at the current folder"
    raise ConfigError(
        f"{str(path)!r}: no such file; {closest(file.name, names)}the folder {str(file.parent.resolve())!r} has "
        f"{listed(names, f'no {suffix} file')}; {expected}{relative}"
    )


def closest(word: str, names: Sequence[str]) -> str:
    """Return ``did you mean '...'? `` for the name closest to ``word``, or an empty string."""
    return nearest(word, names).partition("expected ")[0]


def listed(names: Sequence[str], otherwise: str) -> str:
    """Return up to twenty names in order, or ``otherwise`` if there are none."""
    return ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "") if names else otherwise


def read_npz(path: str | Path, *choices: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz`` file by name: those of the first choice whose first name is in the file.

    Python objects are rejected, because they are pickled and reading them can run code. Raises ConfigError.
    """
    path, name = find_file(path, ".npz"), None
    try:
        with open(path, "rb") as handle:
            start = handle.read(6)
            handle.seek(0)
            if start == b"\x93NUMPY":
                raise ConfigError(f"{path} is a single array; expected an .npz file, as written by numpy.savez")
            if not start.startswith(b"PK"):
                raise ValueError("it is not a zip file")
            with np.load(handle, allow_pickle=False) as archive:
                names = next((some for some in choices if some[0] in archive.files), choices[-1])
                for name in names:
                    if name not in archive.files:
                        has = f"{closest(name, archive.files)}it has {listed(archive.files, 'none')}"
                        raise ConfigError(f"{path} has no array {name!r}; {has}; it needs {', '.join(names)}")
                arrays = {}
                for name in names:
                    arrays[name] = archive[name]
                    if not isinstance(arrays[name], np.ndarray):
                        raise ConfigError(f"{path}: {name} is not an array in numpy's format")
                return arrays
    except ConfigError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors for damaged bytes
        raise _damaged(path, path if name is None else f"{path}: {name}", "numpy.savez", error) from None


def _damaged(path: Path, what: object, writer: str, error: Exception) -> ConfigError:
    reason = str(error) or type(error).__name__
    if "pickle" in reason:
        reason = "it has Python objects, which are pickled and could run code; save numbers, or strings: y.astype(str)"
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        reason += "; numpy.loadtxt reads a table of text, and numpy.save and numpy.savez write arrays"
    suffix = ".npz" if writer == "numpy.savez" else ".npy"
    return ConfigError(f"{what} cannot be read as an {suffix} file, as written by {writer}: {reason}")
