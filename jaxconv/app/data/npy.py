"""The user's own data in four ``.npy`` files, mapped into memory: they may be larger than it.

Knows the file format of numpy; the rules for the arrays are in ``arrays``.
"""

from collections.abc import Callable

import numpy as np

from jaxconv.app.data.arrays import are_targets, check, existing
from jaxconv.app.data.splits import Splits

MOST_CLASSES = 1_000_000  # beyond it, integers are more likely targets or hashes than class indices
_BLOCK = 1 << 22  # labels scanned at a time


def npy(*, x_train: str, y_train: str, x_test: str, y_test: str) -> Splits:
    """Map four files that ``numpy.save`` or ``numpy.lib.format.open_memmap`` wrote; x is not read, only its header.

    The arrays keep the dtypes of their files (uint8 images stay one byte a value); a batch is cast when it is read,
    to float32 without scaling. The dtype of y tells the task: floats are targets, integers are class indices, which
    have to be 0..n-1 already, because mapping them would copy them. Labels are scanned once, a block at a time, for
    their range. Nothing else is read, so a value that is not finite shows only in training.

    Args:
        x_train, y_train, x_test, y_test: the files; relative paths start at the current directory.

    Shapes:
        x ``(cases, *spatial, channels)`` of any float, integer or boolean dtype, in C order (in Fortran order one case
        lies scattered over the whole file); y ``(cases,)`` integers, or floats ``(cases, *outputs)``.

    Raises:
        ValueError: a file is missing or is no ``.npy`` file; shapes or dtypes do not fit together; a label is negative,
            larger than any training label, or a million or more.

    ::

        x = np.lib.format.open_memmap("x_train.npy", "w+", np.uint8, (2_000_000, 96, 96, 3))
        splits = load({"source": "npy", "x_train": "x_train.npy", ...})
    """
    paths = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}

    def at(key: str) -> str:
        return f"data.{key}: {paths[key]!r}"

    arrays = check({key: _map(key, path) for key, path in paths.items()}, at, label_kinds="iu")
    for key in ("x_train", "x_test"):
        if not arrays[key].flags.c_contiguous:
            raise ValueError(
                f"{at(key)} is in Fortran order, so that one case lies scattered over the whole file; "
                "save numpy.ascontiguousarray(x)"
            )
    classes = None
    if not are_targets(arrays["y_train"]):
        classes = tuple(str(label) for label in range(_classes(arrays["y_train"], arrays["y_test"], at)))
    return Splits(**arrays, classes=classes)


def _map(key: str, path: str) -> np.ndarray:
    file = existing(key, path, ".npy")
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"data.{key}: {path!r} cannot be mapped as an .npy file, such as numpy.save writes: "
            f"{' '.join(str(error).split())}"
        ) from None


def _classes(y_train: np.ndarray, y_test: np.ndarray, at: Callable[[str], str]) -> int:
    """Count the classes: one more than the largest training label."""
    for key, y in (("y_train", y_train), ("y_test", y_test)):
        low, high = _range(y)
        if low < 0 or high >= MOST_CLASSES:
            raise ValueError(
                f"{at(key)} has the label {low if low < 0 else high}; integers are class indices from 0 "
                f"to {MOST_CLASSES - 1} at most, and targets are stored as floats"
            )
        if key == "y_train":
            classes = high + 1
        elif high >= classes:
            raise ValueError(
                f"{at(key)} has the label {high}, but y_train has 0 to {classes - 1}; no model could learn it"
            )
    return classes


def _range(y: np.ndarray) -> tuple[int, int]:
    blocks = [y[start : start + _BLOCK] for start in range(0, len(y), _BLOCK)]
    return min(int(block.min()) for block in blocks), max(int(block.max()) for block in blocks)
