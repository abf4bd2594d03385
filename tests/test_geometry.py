"""Shape arithmetic: every padding against brute force, every message."""

import itertools

import numpy as np
import pytest

from jaxconv import geometry as geo
from jaxconv.kernels import xla


def brute_force_length(length, before, after, extent, stride):
    """Count the positions, ``stride`` apart, where a window of ``extent`` fits."""
    return sum(1 for start in range(0, length + before + after - extent + 1, stride))


@pytest.mark.parametrize("kernel, stride, rate", [*itertools.product([1, 2, 3, 5], [1, 2, 3], [1, 2])])
def test_lengths_and_pads_agree_with_counting_windows(kernel, stride, rate):
    extent = (kernel - 1) * rate + 1
    for length, padding in itertools.product(range(1, 12), ["valid", "same", "causal", ((2, 1),)]):
        options = padding, [length], [kernel], [stride], [rate]
        ((before, after),) = geo.pads(*options)
        want = brute_force_length(length, before, after, extent, stride)
        if want == 0:
            with pytest.raises(ValueError, match="shortest legal input"):
                geo.output_lengths(*options, "test")
        else:
            assert geo.output_lengths(*options, "test") == (want,)
        if padding == "same":
            assert want == -(-length // stride) and 0 <= after - before <= 1
        if padding == "causal":
            assert (before, after) == (extent - 1, 0)


def test_the_shortest_legal_input_is_named_exactly():
    with pytest.raises(ValueError) as error:
        geo.output_lengths("valid", [4], [5], [1], [2], "Conv1D")
    assert str(error.value) == (
        "Conv1D: input of length 4 is shorter than the effective kernel 9 (kernel_size=5, dilation_rate=2, "
        "padding='valid'); the shortest legal input is 9"
    )
    assert geo.output_lengths("valid", [9], [5], [1], [2], "Conv1D") == (1,)


def test_explicit_pads_reduce_the_shortest_legal_input():
    with pytest.raises(ValueError, match="shortest legal input is 2"):
        geo.output_lengths(((1, 2),), [1], [5], [1], [1], "test")
    assert geo.output_lengths(((1, 2),), [2], [5], [1], [1], "test") == (1,)


@pytest.mark.parametrize("padding", ["valid", "same", "causal", ((0, 9),)])
def test_an_empty_input_raises_for_every_padding(padding):
    with pytest.raises(ValueError, match="input of length 0"):
        geo.output_lengths(padding, [0], [3], [1], [1], "test")


def test_an_unknown_length_stays_unknown():
    assert geo.output_lengths("valid", [None, 5], [3, 3], [1, 2], [1, 1], "test") == (None, 2)


@pytest.mark.parametrize(
    "value, sizes", [(3, (3, 3)), ([1, 2], (1, 2)), (np.int64(2), (2, 2)), (np.array([4, 5]), (4, 5))]
)
def test_sizes_are_integers_or_iterables_of_integers(value, sizes):
    assert geo.as_sizes(value, 2, "strides", "test") == sizes


@pytest.mark.parametrize("value", [0, -1, (1, 0), (1, 2, 3), 2.0, (3.0, 1), None, np.array(1.5), ()])
def test_illegal_sizes_raise_and_the_message_has_the_legal_form(value):
    with pytest.raises(ValueError, match=r"test: strides=.*integer or 2 integers.* at least 1"):
        geo.as_sizes(value, 2, "strides", "test")


def test_a_string_is_not_a_size():
    with pytest.raises(TypeError, match=r"strides .*'3'"):
        geo.as_sizes("3", 1, "strides", "test")
    with pytest.raises(TypeError, match=r"filters .*'3'"):
        geo.as_size("3", "filters", "test")


@pytest.mark.parametrize("value", [0, -2, 1.5, None])
def test_illegal_counts_raise(value):
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
def test_illegal_padding_raises(padding, rank, error, message):
    with pytest.raises(error, match=message):
        geo.as_padding(padding, rank, "test", causal=True)


def test_the_lengths_of_a_geometry_equal_those_of_xla():
    g = geo.Geometry(
        (7, 1), (3, 2), (2, 1), ((2, 1), (0, 0)), (1, 2), (2, 3), 1, (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    y = xla.convolve(
        np.ones((1, 7, 1, 1), "f4"), np.ones((3, 2, 1, 1), "f4"), geometry=g, precision=None, dtype="float32"
    )
    assert y.shape[1:-1] == g.y_lengths == (3, 0)
