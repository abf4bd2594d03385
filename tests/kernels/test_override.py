"""Requesting a lowering by context and by argument, and errors."""

import re

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv.kernels.lowerings import LOWERINGS


def test_a_context_changes_jitted_code_and_an_argument_has_precedence():
    x, w = jnp.ones((1, 16, 2)), jnp.ones((3, 2, 4))
    call = jax.jit(lambda x, w: jaxconv.conv1d(x, w))
    assert "fft" not in call.lower(x, w).as_text()
    with jaxconv.lowering("fourier"):
        assert "fft" in call.lower(x, w).as_text()
        with jaxconv.lowering(None):
            assert "fft" not in call.lower(x, w).as_text()
        text = jax.jit(
            lambda x, w: jaxconv.conv_general_dilated(
                x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), lowering="matmul"
            )
        ).lower(x, w)
        assert "fft" not in text.as_text()
    assert "fft" not in call.lower(x, w).as_text()


def test_the_documentation_names_every_lowering():
    assert re.findall(r'``"(\w+)"``', jaxconv.lowering.__doc__.split("Args:")[1]) == list(LOWERINGS)


def test_an_unknown_lowering_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"lowering 'polyphas' is unknown; did you mean 'polyphase'"):
        jaxconv.lowering("polyphas").__enter__()


@pytest.mark.parametrize(
    ("lowering", "reason"),
    [
        ("shift_add", "it computes groups of one channel, not 2"),
        ("xla_extra_row", "it computes two spatial axes, not 1"),
        ("leading_axis", "it needs two spatial axes or more"),
        ("block_diagonal", "it needs more than one group"),
        ("polyphase", "it needs a stride above 1, and no dilation"),
        ("row_correlation", "in standard form this is the map 'convolve', and it computes 'correlate'"),
    ],
)
def test_an_unsupported_convolution_is_refused_with_the_reason_and_the_lowerings_that_can(lowering, reason):
    x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    with jaxconv.lowering(lowering), pytest.raises(ValueError, match=reason) as failure:
        jaxconv.conv1d(x, w)
    assert "these can: xla, xla_nhwc, matmul, stacked_taps, im2col, winograd, fourier" in str(failure.value)


def test_without_a_standard_form_only_xla_can():
    x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    with pytest.raises(ValueError, match=r"no strides together with a dilated input; these can: xla"):
        jaxconv.conv_general_dilated(
            x, w, (2,), [(1, 1)], (2,), None, ("NWC", "WIO", "NWC"), lowering="matmul"
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"matmul.*64 taps, not 81"):
        jaxconv.conv_general_dilated(
            jnp.ones((1, 9, 9, 1)), jnp.ones((9, 9, 1, 1)), (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"),
            lowering="matmul",
        )  # fmt: skip
