"""Axes: the canonical forms, the indices in a shape, and every error."""

import re

import numpy as np
import pytest

from jaxconv import axes


@pytest.mark.parametrize(
    ("axis", "expected"),
    [(0, 0), (-1, -1), (np.int64(2), 2), ([0, 1], (0, 1)), ((np.int32(1),), (1,)), ("filter", "filter"), (None, None)],
)
def test_canonical_forms_are_plain_and_hashable(axis, expected):
    assert axes.canonical(axis, "here") == expected
    assert type(axes.canonical(axis, "here")) is type(expected)


@pytest.mark.parametrize("axis", ["last", 1.0, [0.5], {0}, object()])
def test_other_axes_raise(axis):
    with pytest.raises(TypeError, match=rf"here: axis .*int.*'filter'.*{re.escape(repr(axis))}"):
        axes.canonical(axis, "here")


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, (0,)), (-1, (2,)), ((0, -2), (0, 1)), ("filter", (0, 1)), (None, (0, 1, 2)), ((), ())]
)
def test_indices_are_nonnegative(axis, expected):
    assert axes.indices(axis, (4, 5, 6), "here") == expected


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (1, 7)], ids=str)
def test_axes_out_of_range_and_repeated_axes_raise(axis):
    with pytest.raises(ValueError, match=rf"here: axis={re.escape(str(axis))} .*\(4, 5, 6\)"):
        axes.indices(axis, (4, 5, 6), "here")


def test_only_the_axis_filter_is_resolved():
    def anything(w):
        return w

    assert axes.resolve(anything, (0, 1)) is anything
    assert axes.resolve(None, (0, 1)) is None
