"""The user's own data in four memory-mapped ``.npy`` files, which may be larger than memory."""

from collections.abc import Callable

import numpy as np

from jaxconv.app.array_files import map_npy
from jaxconv.app.data.arrays import Splits, are_targets, check
from jaxconv.app.schema import ConfigError, FilePath

MOST_CLASSES = 1_000_000  # larger integers are more likely targets or hashes than class indices
_BLOCK = 1 << 22  # labels read at a time


def npy(*, x_train: FilePath, y_train: FilePath, x_test: FilePath, y_test: FilePath) -> Splits:
    """Map four files written by ``numpy.save`` or ``numpy.lib.format.open_memmap``; of x only the header is read.

    The arrays keep the dtypes of their files (uint8 images remain one byte per value); a batch is converted when it is
    read, without scaling. The dtype of y determines the task: floats are targets, integers are class indices. These
    must already be 0..n-1, because a mapping would copy them. Labels are read once, block by block, for their range.
    Nothing else is read, so a value that is not finite is found only in training.

    Args:
        x_train, y_train, x_test, y_test: the files, relative to the config or to the current folder.

    Shapes:
        x ``(samples, *spatial, channels)`` of any float, integer or boolean dtype, in C order (in Fortran order one
        sample is scattered over the whole file); y ``(samples,)`` integers, or floats ``(samples, *outputs)``.

    Raises:
        ValueError: a file is missing or is not an ``.npy`` file; shapes or dtypes do not fit each other; a label is
            negative, larger than any training label, or a million or more.

    ::

        x = np.lib.format.open_memmap("x_train.npy", "w+", np.uint8, (2_000_000, 96, 96, 3))
        splits = load({"source": "npy", "x_train": "x_train.npy", ...})
    """
    paths = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}

    def label(key: str) -> str:
        return f"data.{key}: {paths[key]!r}"

    arrays = check({key: _map(key, path) for key, path in paths.items()}, label, label_kinds="iu")
    for key in ("x_train", "x_test"):
        if not arrays[key].flags.c_contiguous:
            raise ValueError(f"{label(key)} is in Fortran order, which scatters samples; save np.ascontiguousarray(x)")
    classes = None
    if not are_targets(arrays["y_train"]):
        classes = tuple(str(index) for index in range(_count_classes(arrays["y_train"], arrays["y_test"], label)))
    return Splits(**arrays, classes=classes)


def _map(key: str, path: str) -> np.ndarray:
    try:
        return map_npy(path)
    except ConfigError as error:
        raise ValueError(f"data.{key}: {error}") from None


def _count_classes(y_train: np.ndarray, y_test: np.ndarray, label: Callable[[str], str]) -> int:
    """Return one more than the largest training label, after checking all labels."""
    for key, y in (("y_train", y_train), ("y_test", y_test)):
        blocks = [y[start : start + _BLOCK] for start in range(0, len(y), _BLOCK)]
        low, high = min(int(block.min()) for block in blocks), max(int(block.max()) for block in blocks)
        if low < 0 or high >= MOST_CLASSES:
            raise ValueError(
                f"{label(key)} has the label {low if low < 0 else high}; integers are class indices from 0 "
                f"to at most {MOST_CLASSES - 1}, and targets are stored as floats"
            )
        if key == "y_train":
            classes = high + 1
        elif high >= classes:
            raise ValueError(f"{label(key)} has the label {high}, but y_train has only 0 to {classes - 1}")
    return classes
