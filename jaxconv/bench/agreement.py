"""What libraries answer to the same question, and whether they agree. Knows arrays, and no library."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxconv.bench.timing import Program


class Loaded(NamedTuple):
    """A trained model in one library, ready to be compared and timed.

    Args:
        infer: one batch through the model.
        outputs: from an input to the outputs, in Keras's order of axes, as ``jax.tree.leaves`` lists them.
        seconds: for compiling; 0 where nothing is compiled.
    """

    infer: Program
    outputs: Callable[[Any], list[np.ndarray]]
    seconds: float = 0.0


class Inexpressible(ValueError):
    """A model that a library has no means to compute. The message says what of it."""


def difference(got: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """Give the largest difference between two lists of arrays, each relative to the array's largest entry.

    It is infinite where two shapes differ. A list that is longer is compared as far as the other goes.

    >>> difference([np.array([1.0, 3.5])], [np.array([1.0, 4.0])])
    0.125
    """
    each = []
    for a, b in zip(got, exact, strict=False):
        if a.shape != b.shape:
            return float("inf")
        size = np.abs(b).max(initial=0)
        each.append(float(np.abs(a - b).max(initial=0) / (size or 1)))
    return float(np.max(each, initial=0))  # a NaN goes through, other than with max


def disagreeing(values: Mapping[str, Sequence[np.ndarray]], tolerance: float) -> list[str]:
    """List the libraries that disagree with the first one; it too, where it gives NaN.

    >>> disagreeing({"a": [np.ones(2)], "b": [np.ones(2)], "c": [np.zeros(2)]}, 1e-4)
    ['c']
    """
    first = next(iter(values.values()), [])
    return [name for name, got in values.items() if not difference(got, first) <= tolerance]
