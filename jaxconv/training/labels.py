"""Class labels of any kind (strings, integers, booleans) as indices 0..n-1, and the names of the classes.

Knows nothing about files, inputs or losses.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def class_indices(
    y_train: np.ndarray, y_test: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Map labels to 0..n-1 in the sorted order of the training labels: numbers by value, then other strings.

    Args:
        y_train, y_test: labels ``(samples,)``: strings, bytes (UTF-8), integers or booleans.
        where: the start of an error message: ``"data.path: 'mine.npz'"``.

    Returns:
        Both as int32 indices ``(samples,)``, and the label of each index.

    Raises:
        ValueError: a label of the test set is not in the training set.

    >>> class_indices(np.array(["2", "10", "2"]), np.array(["10"]), "")
    (array([0, 1, 0], dtype=int32), array([1], dtype=int32), ('2', '10'))
    """
    classes = tuple(label_text(label) for label in sorted_labels(np.unique(y_train).tolist()))
    return indices(y_train, classes, where), indices(y_test, classes, f"{where}: the test set"), classes


def indices(y: Any, classes: Sequence[Any], where: str) -> np.ndarray:
    """Return the index of each label in ``classes``, as int32 in the shape of ``y``.

    Labels are compared as text, so the integer 1 is the class ``"1"``. Raises ValueError for an unknown label.
    """
    labels, inverse = np.unique(y, return_inverse=True)
    index = {label_text(label): i for i, label in enumerate(classes)}
    unknown = [label for label in sorted_labels(labels.tolist()) if label_text(label) not in index]
    if unknown:
        shown = f"{', '.join(list(index)[:20])}{', ...' if len(index) > 20 else ''}"
        raise ValueError(f"{where} has the label {label_text(unknown[0])!r}; the classes of the training set: {shown}")
    return np.array([index[label_text(label)] for label in labels.tolist()], np.int32)[inverse].reshape(np.shape(y))


def label_text(label: object) -> str:
    """Return a label as a string.

    >>> label_text(b"dog"), label_text(3)
    ('dog', '3')
    """
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def sorted_labels(labels: Iterable[Any]) -> list[Any]:
    """Return labels in their order: numbers by value, then other strings."""
    return sorted(labels, key=lambda label: _order(label_text(label)))


def _order(label: str) -> tuple[bool, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (False, number, label) if math.isfinite(number) else (True, 0.0, label)
