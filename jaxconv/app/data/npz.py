"""The user's own data in one ``.npz`` file that fits in memory.

Knows the rules for the arrays (``arrays``) and how files are read (``array_files``).
"""

import numpy as np

from jaxconv.app.array_files import npz_names, read_npz
from jaxconv.app.data.arrays import KEYS, are_targets, check, closest, find_file, listed
from jaxconv.app.data.splits import Splits
from jaxconv.app.schema import ConfigError
from jaxconv.training.labels import class_indices


def npz(*, path: str) -> Splits:
    """Load a file written by ``numpy.savez`` or ``numpy.savez_compressed``, with four arrays named as in ``Splits``.

    x has any float, integer or boolean dtype; its values are converted to float32 and not scaled. The dtype of y
    determines the task: integers, booleans and strings are class labels of any value, mapped to 0..n-1 in sorted order;
    floats are targets. All four arrays are required. Other arrays in the file are ignored. Pickled objects are refused,
    because reading one can run code.

    Args:
        path: the file, relative to the current directory.

    Shapes:
        In the file: x ``(samples, *spatial, channels)``; y ``(samples,)`` or, for targets, ``(samples, *outputs)``.
        In the result: labels ``(samples,)`` int32; targets float32, ``(samples, *outputs)`` and at least
        ``(samples, 1)``.

    Raises:
        ValueError: the file or an array in it is missing or cannot be read; shapes or dtypes do not fit each other; a
            value is not finite in float32; a label of the test set is not in the training set.

    ::

        np.savez("mine.npz", x_train=..., y_train=..., x_test=..., y_test=...)
        splits = load({"source": "npz", "path": "mine.npz"})
    """

    def label(key: str) -> str:
        return f"data.path: {key} in {path!r}"

    arrays = check(_read(path), label, label_kinds="biuUS")
    x_train, x_test = (_float32(arrays[key], label(key)) for key in ("x_train", "x_test"))
    if are_targets(arrays["y_train"]):
        y_train, y_test = (_float32(arrays[key], label(key)) for key in ("y_train", "y_test"))
        return Splits(x_train, y_train, x_test, y_test)
    y_train, y_test, classes = class_indices(arrays["y_train"], arrays["y_test"], f"data.path: {path!r}")
    return Splits(x_train, y_train, x_test, y_test, classes)


def _read(path: str) -> dict[str, np.ndarray]:
    file = find_file("path", path, ".npz")
    try:
        names = npz_names(file)
        for key in KEYS:
            if key not in names:
                raise ValueError(
                    f"data.path: no array {key!r} in {path!r}; {closest(key, names)}"
                    f"it has {listed(names, 'none')}; it needs {', '.join(KEYS)}"
                )
        return read_npz(file, KEYS)
    except ConfigError as error:
        hint = "; for single .npy files use source 'npy'" if file.suffix == ".npy" else ""
        raise ValueError(f"data.path: {error}{hint}") from None


def _float32(array: np.ndarray, label: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # overflow is reported below
        array = array.astype(np.float32)
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{label} has values that are not finite in float32, in {np.sum(~finite)} of {len(array)} samples, "
            f"the first at index {np.argmin(finite)}"
        )
    return array
