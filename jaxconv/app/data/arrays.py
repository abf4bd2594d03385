"""Checks of dtypes and shapes of the user's own arrays, from any kind of file. Reads no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxconv.training.targets import class_indices


@dataclass(frozen=True, eq=False)
class Splits:
    """A training and a test set, as arrays in memory or as memory maps of files.

    x_train, x_test: channels last, ``(samples, *spatial, channels)``: float32, except for ``npy``, whose maps have the
    dtype of their files. y_train, y_test: class indices ``(samples,)`` int32, or targets ``(samples, *outputs)``
    float32; those of ``npy`` may have other integer and float dtypes. classes: the name of each class index, as in the
    data; None for targets.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...] | None = None


KEYS = ("x_train", "y_train", "x_test", "y_test")


def check(arrays: Mapping[str, np.ndarray], label: Callable[[str], str], label_kinds: str) -> dict[str, np.ndarray]:
    """Check that the four arrays match, and return them with labels as ``(samples,)`` and targets as columns.

    label: returns the start of an error message about one of them: ``"data.path: x_train in 'mine.npz'"``. label_kinds:
    the dtype kinds (``numpy.dtype.kind``) of y besides float. Raises ValueError for a wrong dtype or rank, for no
    samples, and for differences between x and y or between training and test set.
    """
    arrays = dict(arrays)
    for key, array in arrays.items():
        kinds = "biuf" if key[0] == "x" else "f" + label_kinds
        _check_array(array, label(key), rank=2 if key[0] == "x" else 1, kinds=kinds)
    for key in ("y_train", "y_test"):
        array, size = arrays[key], len(arrays[key])
        if are_targets(array):
            arrays[key] = array[:, None] if array.ndim == 1 else array
        elif array.ndim > 1 and array.size != size:
            allowed = f"labels have {(size,)}, and one-hot rows are stored as floats"
            raise ValueError(f"{label(key)} has shape {array.shape}; {allowed}")
        else:
            arrays[key] = array.reshape(size)
    for x, y in (("x_train", "y_train"), ("x_test", "y_test")):
        if len(arrays[x]) != len(arrays[y]):
            what = f"{label(y)} has {len(arrays[y])} samples, but {x} has {len(arrays[x])}"
            raise ValueError(f"{what}; give equal numbers")
    if are_targets(arrays["y_train"]) != are_targets(arrays["y_test"]):
        raise ValueError(
            f"{label('y_test')} has dtype {arrays['y_test'].dtype}, but y_train has {arrays['y_train'].dtype}; "
            "integers are class labels and floats are targets"
        )
    for train, test in (("x_train", "x_test"), ("y_train", "y_test")):
        shape, expected = arrays[test].shape[1:], arrays[train].shape[1:]
        if shape != expected:
            raise ValueError(f"{label(test)} has samples of shape {shape}, but {train} has samples of shape {expected}")
    return arrays


def in_memory(arrays: Mapping[str, np.ndarray], label: Callable[[str], str], where: str) -> Splits:
    """Return checked arrays as float32 inputs, and class indices or float32 targets. Raises ValueError."""
    arrays = check(arrays, label, label_kinds="biuUS")
    x_train, x_test = (_float32(arrays[key], label(key)) for key in ("x_train", "x_test"))
    if are_targets(arrays["y_train"]):
        y_train, y_test = (_float32(arrays[key], label(key)) for key in ("y_train", "y_test"))
        return Splits(x_train, y_train, x_test, y_test)
    y_train, y_test, classes = class_indices(arrays["y_train"], arrays["y_test"], where)
    return Splits(x_train, y_train, x_test, y_test, classes)


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


def are_targets(y: np.ndarray) -> bool:
    """Return whether y contains float targets, not class labels."""
    return y.dtype.kind == "f"


def _check_array(array: np.ndarray, label: str, rank: int, kinds: str) -> None:
    if array.dtype.kind not in kinds:
        words = [word for kind, word in _KINDS.items() if kind in kinds]
        raise ValueError(f"{label} has dtype {array.dtype}; expected {', '.join(words)}")
    if array.ndim < rank:
        shape = "(samples, *spatial, channels)" if rank == 2 else "(samples,) or (samples, outputs)"
        raise ValueError(f"{label} has shape {array.shape}; expected {shape}")
    if array.size == 0:
        raise ValueError(f"{label} is empty: its shape is {array.shape}")


_KINDS = {"f": "floats", "i": "integers", "b": "booleans", "U": "strings"}  # "u" and "S" always occur with "i" and "U"
