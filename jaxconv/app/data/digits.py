"""The handwritten digits in scikit-learn."""

import numpy as np

from jaxconv.app.data.arrays import Splits
from jaxconv.app.data.bounds import between
from jaxconv.errors import require


def digits(*, test_size: float = 0.2, seed: int = 0) -> Splits:
    """Load scikit-learn's 1,797 handwritten digits, with the same proportion of each digit in both sets.

    Args:
        test_size: fraction of the samples in the test set, 0.01 to 0.9.
        seed: of the split; the same seed gives the same split.

    Shapes:
        x ``(samples, 8, 8, 1)`` float32 in 0..1 (sixteenths); y ``(samples,)`` int32.

    Raises:
        ValueError: ``test_size`` or ``seed`` is out of range.
        ImportError: scikit-learn is not installed.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.

    >>> splits = digits(test_size=0.25)
    >>> splits.x_train.shape, splits.x_test.shape, len(splits.classes)
    ((1347, 8, 8, 1), (450, 8, 8, 1), 10)
    """
    between(0.01, 0.9, test_size=test_size)
    between(0, 2**32 - 1, seed=seed)
    names = ("sklearn.datasets", "sklearn.model_selection")
    datasets, selection = (require(name, "data.source 'digits'", "scikit-learn") for name in names)
    table = datasets.load_digits()
    x = (table.images[..., None] / 16).astype(np.float32)
    y = table.target.astype(np.int32)
    split = selection.train_test_split(x, y, test_size=test_size, random_state=seed, stratify=y)
    x_train, x_test, y_train, y_test = split
    return Splits(x_train, y_train, x_test, y_test, tuple(str(digit) for digit in range(10)))
