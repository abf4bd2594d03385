"""Comparison of the outputs of several libraries for the same input."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxconv.bench.timing import Program


class Loaded(NamedTuple):
    """A trained model in one library.

    infer: inference of one batch. outputs: maps an input to the outputs, with Keras's order of axes, in the order of
    ``jax.tree.leaves``. seconds: compile time; 0 for a library that does not compile.
    """

    infer: Program
    outputs: Callable[[Any], list[np.ndarray]]
    seconds: float = 0.0


class Unsupported(ValueError):
    """A library does not support a model; the message names the layer or option."""


def difference(got: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """Return the largest difference between two lists of arrays, relative to the largest entry of each array.

    It is infinite if two shapes differ. Additional arrays of the longer list are ignored.

    >>> difference([np.array([1.0, 3.5])], [np.array([1.0, 4.0])])
    0.125
    """
    each = []
    for a, b in zip(got, exact, strict=False):
        if a.shape != b.shape:
            return float("inf")
        size = np.abs(b).max(initial=0)
        each.append(float(np.abs(a - b).max(initial=0) / (size or 1)))
    return float(np.max(each, initial=0))  # unlike max, np.max propagates NaN


def disagreeing(values: Mapping[str, Sequence[np.ndarray]], tolerance: float) -> list[str]:
    """Return the libraries that disagree with the first one; the first one too, if it has NaN.

    >>> disagreeing({"a": [np.ones(2)], "b": [np.ones(2)], "c": [np.zeros(2)]}, 1e-4)
    ['c']
    """
    first = next(iter(values.values()), [])
    return [name for name, got in values.items() if not difference(got, first) <= tolerance]
