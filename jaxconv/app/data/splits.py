"""What a data source gives: four arrays and the names of the classes.

Knows nothing of where the arrays come from, of batches or of models.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Splits:
    """Hold a training and a test set, as arrays in memory or as memory maps of files.

    Args:
        x_train, x_test: inputs, channels last: ``(cases, *spatial, channels)``. Every source gives float32, except
            ``npy``, whose maps keep the dtype of their files; a batch is cast to float32 when it is read.
        y_train, y_test: class indices ``(cases,)``, or float targets ``(cases, *outputs)``. Every source gives int32
            and float32; the maps of ``npy`` may be of other integer and float types.
        classes: the name of each class index, as it stood in the data; ``None`` where the targets are floats.

    >>> x, y = np.zeros((4, 9, 1), np.float32), np.array([0, 1, 1, 0], np.int32)
    >>> Splits(x, y, x, y, ("dog", "cat")).classes[y[1]]
    'cat'
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...] | None = None
