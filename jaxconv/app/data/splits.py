"""The result of a data source: four arrays and the names of the classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Splits:
    """A training and a test set, as arrays in memory or as memory maps of files.

    Args:
        x_train, x_test: inputs, channels last: ``(samples, *spatial, channels)``. Every source returns float32, except
            ``npy``, whose maps have the dtype of their files; a batch is converted when it is read.
        y_train, y_test: class indices ``(samples,)``, or float targets ``(samples, *outputs)``. Every source returns
            int32 and float32, except ``npy``, whose maps may have other integer and float dtypes.
        classes: the name of each class index, as in the data; ``None`` if the targets are floats.

    >>> x, y = np.zeros((4, 9, 1), np.float32), np.array([0, 1, 1, 0], np.int32)
    >>> Splits(x, y, x, y, ("dog", "cat")).classes[y[1]]
    'cat'
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...] | None = None
