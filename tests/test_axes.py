"""Axes: the canonical forms, what they mean in a shape, and every refusal."""

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
def test_anything_else_is_refused(axis):
    with pytest.raises(TypeError, match="here: axis must be an int, a tuple of ints or 'filter'; got "):
        axes.canonical(axis, "here")


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, (0,)), (-1, (2,)), ((0, -2), (0, 1)), ("filter", (0, 1)), (None, (0, 1, 2)), ((), ())]
)
def test_indices_count_from_the_front(axis, expected):
    assert axes.indices(axis, (4, 5, 6), "here") == expected


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), (1, 7)], ids=str)
def test_axes_that_the_shape_does_not_have_are_refused(axis):
    with pytest.raises(ValueError, match=r"here: axis=.* does not name distinct axes of the shape \(4, 5, 6\)"):
        axes.indices(axis, (4, 5, 6), "here")


def test_only_the_word_filter_is_resolved():
    def anything(w):
        return w

    assert axes.resolve(anything, (0, 1)) is anything
    assert axes.resolve(None, (0, 1)) is None
