"""The user's own data in one ``.npz`` file that fits in memory.

Knows the file format of numpy; the rules for the arrays are in ``arrays``.
"""

import zipfile
import zlib

import numpy as np

from jaxconv.app.data.arrays import KEYS, are_targets, check, existing, hint, listed
from jaxconv.app.data.labels import class_indices
from jaxconv.app.data.splits import Splits


def npz(*, path: str) -> Splits:
    """Load a file that ``numpy.savez`` or ``numpy.savez_compressed`` wrote, with four arrays named as in ``Splits``.

    x may be of any float, integer or boolean dtype; its values are cast to float32 and not scaled. The dtype of y tells
    the task: integers, booleans and strings are class labels of any value, mapped to 0..n-1 in sorted order; floats
    are targets. All four arrays are required: a set without test cases gets its test set before training, not after.
    Other arrays in the file are left alone. Pickled objects are refused, because reading one can run code.

    Args:
        path: the file; a relative path starts at the current directory.

    Shapes:
        In the file: x ``(cases, *spatial, channels)``; y ``(cases,)`` or, for targets, ``(cases, *outputs)``.
        In the result: labels ``(cases,)`` int32; targets float32, ``(cases, *outputs)`` and at least ``(cases, 1)``.

    Raises:
        ValueError: the file or an array in it is missing or cannot be read; shapes or dtypes do not fit together; a
            value is not finite in float32; the test set has a label that the training set has not.

    ::

        np.savez("mine.npz", x_train=..., y_train=..., x_test=..., y_test=...)
        splits = load({"source": "npz", "path": "mine.npz"})
    """

    def at(key: str) -> str:
        return f"data.path: {key} in {path!r}"

    arrays = check(_read(path), at, label_kinds="biuUS")
    x_train, x_test = (_float32(arrays[key], at(key)) for key in ("x_train", "x_test"))
    if are_targets(arrays["y_train"]):
        y_train, y_test = (_float32(arrays[key], at(key)) for key in ("y_train", "y_test"))
        return Splits(x_train, y_train, x_test, y_test)
    y_train, y_test, classes = class_indices(arrays["y_train"], arrays["y_test"], f"data.path: {path!r}")
    return Splits(x_train, y_train, x_test, y_test, classes)


def _read(path: str) -> dict[str, np.ndarray]:
    file = existing("path", path, ".npz")
    if not zipfile.is_zipfile(file):
        other = "; single .npy files go into source 'npy'" if file.suffix == ".npy" else ""
        raise ValueError(f"data.path: {path!r} is not an .npz file, such as numpy.savez writes{other}")
    with np.load(file) as archive:
        held = list(archive.files)
        for key in KEYS:
            if key not in held:
                raise ValueError(
                    f"data.path: no array {key!r} in {path!r}; {hint(key, held)}"
                    f"it holds {listed(held, 'nothing')}; it needs {', '.join(KEYS)}"
                )
        return {key: _array(archive, key, path) for key in KEYS}


def _array(archive: "np.lib.npyio.NpzFile", key: str, path: str) -> np.ndarray:
    try:
        array = archive[key]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            raise ValueError(
                f"data.path: {key} in {path!r} holds Python objects, which are pickled and could run code; "
                "store numbers, or strings of fixed width: y.astype(str)"
            ) from None
        raise ValueError(f"data.path: {key} in {path!r} cannot be read: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"data.path: {key} in {path!r} is not an array in numpy's format")
    return array


def _float32(array: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is named below
        array = array.astype(np.float32)
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{where} has values that are not finite in float32, in {np.sum(~finite)} of {len(array)} cases, "
            f"the first at index {np.argmin(finite)}"
        )
    return array
