"""Options of convolutions in canonical form, with all errors; the lengths of a geometry."""

import numpy as np
import pytest

from jaxconv import geometry as geo
from jaxconv import kernels


@pytest.mark.parametrize(
    "value, sizes", [(3, (3, 3)), ([1, 2], (1, 2)), (np.int64(2), (2, 2)), (np.array([4, 5]), (4, 5))]
)
def test_sizes_are_integers_or_iterables_of_integers(value, sizes):
    assert geo.as_sizes(value, 2, "strides", "test") == sizes


@pytest.mark.parametrize("value", [0, -1, (1, 0), (1, 2, 3), 2.0, (3.0, 1), None, np.array(1.5), ()])
def test_invalid_sizes_raise_and_the_message_has_the_valid_form(value):
    with pytest.raises(ValueError, match=r"test: strides=.*integer or 2 integers.* at least 1"):
        geo.as_sizes(value, 2, "strides", "test")


def test_a_string_is_not_a_size():
    with pytest.raises(TypeError, match=r"strides .*'3'"):
        geo.as_sizes("3", 1, "strides", "test")
    with pytest.raises(TypeError, match=r"filters .*'3'"):
        geo.as_size("3", "filters", "test")


@pytest.mark.parametrize("value", [0, -2, 1.5, None])
def test_invalid_counts_raise(value):
    with pytest.raises(ValueError, match=f"filters={value} "):
        geo.as_size(value, "filters", "test")


@pytest.mark.parametrize(
    "given, rank, canonical",
    [
        ("SAME", 2, "same"),
        ("Causal", 1, "causal"),
        ((2, 1), 1, ((2, 1),)),
        ([[2, 1]], 1, ((2, 1),)),
        ([(1, 2), (3, 4)], 2, ((1, 2), (3, 4))),
        (np.array([[1, 2], [3, 4]]), 2, ((1, 2), (3, 4))),
    ],
)
def test_padding_has_one_canonical_form(given, rank, canonical):
    assert geo.as_padding(given, rank, "test", causal=True) == canonical


@pytest.mark.parametrize(
    "padding, rank, error, message",
    [
        ("smae", 1, ValueError, "'smae'.*'same'"),
        ("causal", 2, ValueError, "'causal'.* one dimension.* 2"),
        (1, 1, TypeError, "padding=1"),
        (None, 1, TypeError, "padding=None"),
        ((1, 2), 2, ValueError, r"padding=\(1, 2\).* 2 spatial"),
        ([(1, 2)], 2, ValueError, r"padding=\[\(1, 2\)\].* 2 spatial"),
        ([(-1, 2)], 1, ValueError, r"axis 0.*at least 0"),
        ([(1, 2, 3)], 1, ValueError, "axis 0.* 2 integers"),
    ],
)
def test_invalid_padding_raises(padding, rank, error, message):
    with pytest.raises(error, match=message):
        geo.as_padding(padding, rank, "test", causal=True)


def test_the_lengths_of_a_geometry_equal_those_of_xla():
    g = geo.Geometry(
        (7, 1), (3, 2), (2, 1), ((2, 1), (0, 0)), (1, 2), (2, 3), 1, (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    y = kernels.convolve(np.ones((1, 7, 1, 1), "f4"), np.ones((3, 2, 1, 1), "f4"), g)
    assert y.shape[1:-1] == g.y_lengths == (3, 0)
