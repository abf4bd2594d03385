"""The rules for a user's own arrays, whichever file they come from: which file, which dtypes, which shapes.

Knows arrays and paths; it reads no file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxconv.registry import nearest

KEYS = ("x_train", "y_train", "x_test", "y_test")


def existing(key: str, path: str, suffix: str) -> Path:
    """Give the file at ``path`` (``~`` is the home folder), or raise ValueError with the nearest file beside it."""
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise ValueError(f"data.{key}: {path!r} is a folder; give a {suffix} file")
    if not file.parent.is_dir():
        raise ValueError(f"data.{key}: no file {path!r}, nor its folder; relative paths start at {str(Path.cwd())!r}")
    beside = [entry.name for entry in file.parent.glob(f"*{suffix}")]
    raise ValueError(
        f"data.{key}: no file {path!r}; {hint(file.name, beside)}"
        f"the folder {str(file.parent.resolve())!r} holds {listed(beside, f'no {suffix} file')}"
    )


def hint(word: str, names: list[str]) -> str:
    """Give ``did you mean '...'? `` for the name closest to ``word``, or nothing."""
    return nearest(word, names).partition("legal: ")[0]


def listed(names: list[str], otherwise: str) -> str:
    """Write up to twenty names in order, or ``otherwise`` where there is none."""
    return ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "") if names else otherwise


def check(arrays: Mapping[str, np.ndarray], at: Callable[[str], str], label_kinds: str) -> dict[str, np.ndarray]:
    """Check that the four arrays fit together; bring y to the shape that a loss expects, as a view.

    Args:
        arrays: ``x_train``, ``y_train``, ``x_test``, ``y_test``.
        at: gives the start of an error message about one of them: ``"data.path: x_train in 'mine.npz'"``.
        label_kinds: dtype kinds (``numpy.dtype.kind``) that y may have besides float.

    Returns:
        The same arrays; a column of labels ``(cases, 1)`` became ``(cases,)``, float targets ``(cases,)`` a column.

    Raises:
        ValueError: an array has the wrong dtype or rank, or is empty; x and y differ in length; training and test set
            differ in the shape of a case or in the kind of y.
    """
    arrays = dict(arrays)
    for key, array in arrays.items():
        kinds = "biuf" if key[0] == "x" else "f" + label_kinds
        _check_one(array, at(key), rank=2 if key[0] == "x" else 1, kinds=kinds)
    for key in ("y_train", "y_test"):
        arrays[key] = _in_shape(arrays[key], at(key))
    for x, y in (("x_train", "y_train"), ("x_test", "y_test")):
        if len(arrays[x]) != len(arrays[y]):
            raise ValueError(f"{at(y)} has {len(arrays[y])} cases, but {x} has {len(arrays[x])}")
    if are_targets(arrays["y_train"]) != are_targets(arrays["y_test"]):
        raise ValueError(
            f"{at('y_test')} has dtype {arrays['y_test'].dtype}, but y_train has {arrays['y_train'].dtype}; "
            "integers are class labels and floats are targets"
        )
    for train, test in (("x_train", "x_test"), ("y_train", "y_test")):
        if arrays[train].shape[1:] != arrays[test].shape[1:]:
            raise ValueError(
                f"{at(test)} has cases of shape {arrays[test].shape[1:]}, "
                f"but {train} has cases of shape {arrays[train].shape[1:]}"
            )
    return arrays


def are_targets(y: np.ndarray) -> bool:
    """Tell float targets from class labels."""
    return y.dtype.kind == "f"


def _check_one(array: np.ndarray, where: str, rank: int, kinds: str) -> None:
    if array.dtype.kind not in kinds:
        words = [word for kind, word in _KINDS.items() if kind in kinds]
        raise ValueError(f"{where} has dtype {array.dtype}; legal: {', '.join(words)}")
    if array.ndim < rank:
        shape = "(cases, *spatial, channels)" if rank == 2 else "(cases,) or (cases, outputs)"
        raise ValueError(f"{where} has shape {array.shape}; expected {shape}")
    if array.size == 0:
        raise ValueError(f"{where} is empty: its shape is {array.shape}")


_KINDS = {"f": "floats", "i": "integers", "b": "booleans", "U": "strings"}  # "u" and "S" always come with "i" and "U"


def _in_shape(y: np.ndarray, where: str) -> np.ndarray:
    if are_targets(y):
        return y[:, None] if y.ndim == 1 else y
    if y.ndim > 1 and y.size != len(y):
        raise ValueError(f"{where} has shape {y.shape}; labels are {(len(y),)}, and one-hot rows are stored as floats")
    return y.reshape(len(y))
