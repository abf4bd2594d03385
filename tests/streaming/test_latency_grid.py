"""The grid of sequence-layers' latency test, none skipped: two layers in a row, every padding, and transposed ones."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.streaming.test_stream import made
from tests.support.catalogue import in_float64
from tests.support.streams import assert_streams, valid_length

KERNELS, STRIDES = (1, 2, 3, 4, 7), (1, 2, 3, 4)
PADDINGS = ("valid", "same", "causal", "semicausal", "reverse_causal", "causal_valid", "reverse_causal_valid")
TRANSPOSED = ("valid", "same", "causal")
GRID = [(k, s, p) for k in KERNELS for s in STRIDES for p in PADDINGS]
GRID_TRANSPOSED = [(k, s, p) for k in KERNELS for s in STRIDES for p in TRANSPOSED]


def layer_of(kernel, stride, padding):
    """Return a convolution with one of sequence-layers' paddings, spelled out where Keras has no name for it."""
    more = max(kernel - stride, 0)
    pads = {
        "semicausal": (more, kernel - 1 - more),
        "reverse_causal": (0, kernel - 1),
        "causal_valid": (kernel - 1, 0),
        "reverse_causal_valid": (0, kernel - 1),
    }
    return jc.Conv1D(2, kernel, stride, pads.get(padding, padding), activation="sigmoid")


def transposed_of(kernel, stride, padding):
    """Return a transposed convolution; a causal one cuts its tail off."""
    padding = (0, max(kernel - stride, 0)) if padding == "causal" else padding
    return jc.Conv1DTranspose(2, kernel, stride, padding, activation="sigmoid")


def sampled(grid, every):
    return [
        pytest.param(*one, marks=() if number % every == 0 else pytest.mark.slow) for number, one in enumerate(grid)
    ]


def check(layer):
    layer = in_float64(layer)
    running = jc.stream(layer, (None, None, 2))
    params, x = made(layer, (1, valid_length(running, 36), 2), jnp.float64)
    assert_streams(running, params, x, 1e-12, np.random.default_rng(0))


@pytest.mark.few(1)
@pytest.mark.parametrize("kernel, stride, padding", sampled(GRID, 23))
def test_a_convolution_behind_another_steps(kernel, stride, padding, x64):
    # what comes before is one step late: the stride need not divide that
    check(jc.Sequential([jc.Conv1D(2, 3, padding="same"), layer_of(kernel, stride, padding)]))


@pytest.mark.few(1)
@pytest.mark.parametrize("kernel, stride, padding", sampled(GRID_TRANSPOSED, 13))
def test_a_transposed_convolution_steps(kernel, stride, padding, x64):
    before = layer_of(3, 2, ("causal_valid", "same", "valid")[kernel % 3])
    check(jc.Sequential([before, transposed_of(kernel, stride, padding), jc.Conv1D(2, 2, padding="same")]))
