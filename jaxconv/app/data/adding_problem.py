"""The generated task "adding problem": add two marked numbers that stand far apart in a long sequence.

Knows numpy; nothing of training.
"""

import numpy as np

from jaxconv.app.data.bounds import at_least
from jaxconv.app.data.splits import Splits


def adding_problem(*, length: int = 200, train: int = 10000, test: int = 1000, seed: int = 0) -> Splits:
    """Generate the adding problem: the target is the sum of the two values that a marker points at.

    Channel 0 holds independent values, uniform in [0, 1); channel 1 is 1 at one step of the first half and at one step
    of the second, and 0 elsewhere. (Bai et al.'s program marks any two different steps; which ones are marked does not
    change the distribution of the target, but two halves make every case long-range.)

    Always answering 1 has an expected mean squared error of 1/6 = 0.1667, the variance of the sum of two independent
    uniform numbers, for every way of choosing two different steps. Bai et al. print 0.1767, and no sampling of theirs
    gives it; on a test set of 1,000 the figure scatters by 0.006.

    Args:
        length: steps in a sequence, at least 2.
        train, test: number of cases in each set. Each set depends on ``seed`` and its own size alone.
        seed: the same seed gives the same numbers.

    Shapes:
        x ``(cases, length, 2)`` float32; y ``(cases, 1)`` float32 in [0, 2).

    Raises:
        ValueError: ``length`` is below 2, a set is empty, or ``seed`` is negative.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997, section 5.4 (values in [-1, 1], target scaled);
    in this form Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks for
    sequence modeling", 2018.

    >>> splits = adding_problem(length=6, train=3, test=1)
    >>> splits.x_train.shape, splits.x_train[..., 1].sum(axis=1).tolist()
    ((3, 6, 2), [2.0, 2.0, 2.0])
    """
    at_least(2, length=length)
    at_least(1, train=train, test=test)
    at_least(0, seed=seed)
    return Splits(*_cases((seed, 0), train, length), *_cases((seed, 1), test, length))


def _cases(seed: tuple[int, int], cases: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, length // 2, cases), rng.integers(length // 2, length, cases)
    x = np.zeros((cases, length, 2), np.float32)
    x[..., 0] = rng.random((cases, length), np.float32)
    every = np.arange(cases)
    x[every, first, 1] = x[every, second, 1] = 1
    return x, (x[every, first, 0] + x[every, second, 0])[:, None]
