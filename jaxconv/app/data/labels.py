"""Class labels of any kind (strings, integers, booleans) as indices 0..n-1, and the names of the classes.

Knows nothing about files or inputs.
"""

import math

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
    train, test = ([label_text(label) for label in y.tolist()] for y in (y_train, y_test))
    classes = sorted(set(train), key=_order)
    index = {label: i for i, label in enumerate(classes)}
    unseen = sorted(set(test) - set(train), key=_order)
    if unseen:
        raise ValueError(
            f"{where}: label {unseen[0]!r} is in the test set but not in the training set, "
            f"which has {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}; no model could learn it"
        )
    first, second = (np.array([index[label] for label in labels], np.int32) for labels in (train, test))
    return first, second, tuple(classes)


def label_text(label: object) -> str:
    """Return a label as a string.

    >>> label_text(b"dog"), label_text(3)
    ('dog', '3')
    """
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def _order(label: str) -> tuple[bool, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (False, number, label) if math.isfinite(number) else (True, 0.0, label)
