"""The generated task "adding problem": add two marked numbers that are far apart in a long sequence."""

import numpy as np

from jaxconv.app.data.arrays import Splits
from jaxconv.app.data.bounds import MOST, MOST_SEED, between, check_memory


def adding_problem(*, length: int = 200, train: int = 10000, test: int = 1000, seed: int = 0) -> Splits:
    """Generate the adding problem: the target is the sum of the two marked values.

    Channel 0 contains independent values, uniform in [0, 1); channel 1 is 1 at one step of the first half and at one
    step of the second half, and 0 elsewhere. (The program of Bai et al. marks any two different steps. This does not
    change the distribution of the target, but with one step in each half every sample is long-range.)

    The constant prediction 1 has an expected mean squared error of 1/6 = 0.1667, the variance of the sum of two
    independent uniform numbers. Bai et al. report 0.1767, which their sampling does not give, either; on a test set of
    1,000 the standard deviation of this error is 0.006.

    Args:
        length: steps in a sequence, at least 2.
        train, test: number of samples in each set. Each set depends only on ``seed`` and its own size.
        seed: the same seed gives the same numbers.

    Shapes:
        x ``(samples, length, 2)`` float32; y ``(samples, 1)`` float32 in [0, 2).

    Raises:
        ValueError: ``length`` is below 2, a set is empty, or ``seed`` is negative.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, section 5.4 (values in [-1, 1], target scaled);
    in this form Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling", 2018.

    >>> splits = adding_problem(length=6, train=3, test=1)
    >>> splits.x_train.shape, splits.x_train[..., 1].sum(axis=1).tolist()
    ((3, 6, 2), [2.0, 2.0, 2.0])
    """
    between(2, MOST, length=length)
    between(1, MOST, train=train, test=test)
    check_memory(2 * length * (train + test), length=length, train=train, test=test)
    between(0, MOST_SEED, seed=seed)
    return Splits(*_samples((seed, 0), train, length), *_samples((seed, 1), test, length))


def _samples(seed: tuple[int, int], samples: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, length // 2, samples), rng.integers(length // 2, length, samples)
    x = np.zeros((samples, length, 2), np.float32)
    x[..., 0] = rng.random((samples, length), np.float32)
    rows = np.arange(samples)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, (x[rows, first, 0] + x[rows, second, 0])[:, None]
