"""The latency grid compared with the package sequence-layers, for the layers that it can run step by step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.streaming.test_latency_grid import KERNELS, PADDINGS, STRIDES, TRANSPOSED, layer_of, transposed_of
from tests.streaming.test_stream import made
from tests.support.streams import drive, valid_length

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings are those of the other package


def compare(layer, config):
    """Compare the real outputs of a stream with those of their layer: of its steps, or of the whole."""
    sl = pytest.importorskip("sequence_layers.jax")
    running = jc.stream(layer, (None, None, 2))
    params, x = made(layer, (1, valid_length(running, 12), 2))
    theirs, given, weights = config.make(), sl.Sequence.from_values(x), {"params": dict(params)}
    if isinstance(layer, jc.Conv1DTranspose):  # their kernel is that of the convolution whose gradient ours is
        weights["params"]["kernel"] = weights["params"]["kernel"][::-1].swapaxes(1, 2)
    y = theirs.apply(weights, given, training=False, method=theirs.layer)
    if theirs.supports_step:
        state = theirs.apply(weights, 1, given.channel_spec, training=False, method=theirs.get_initial_state)
        late, step = (
            int(theirs.input_latency),
            jax.jit(lambda x, state: theirs.apply(weights, x, state, training=False, method=theirs.step)),
        )
        block, parts = theirs.block_size, []
        pad = -(-(x.shape[1] + late) // block) * block - x.shape[1]
        for at in range(0, x.shape[1] + pad, block):
            chunk = sl.Sequence(
                jnp.pad(x, ((0, 0), (0, pad), (0, 0)))[:, at : at + block],
                jnp.broadcast_to(jnp.arange(at, at + block) < x.shape[1], (1, block)),
            )
            out, state = step(chunk.mask_invalid(), state)
            parts.append(out.mask_invalid())
        stepped = np.concatenate([np.asarray(part.values) for part in parts], 1)[:, int(theirs.output_latency) :]
        length = min(stepped.shape[1], y.values.shape[1])
        np.testing.assert_allclose(stepped[:, :length], y.mask_invalid().values[:, :length], atol=1e-5)
    got = drive(running, params, x, np.random.default_rng(0))[0]
    want = np.asarray(y.values)[np.asarray(y.mask)]
    length = min(len(want), got.shape[1])
    assert length > 0
    np.testing.assert_allclose(got[0, :length], want[:length], atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_convolutions_equal_those_of_sequence_layers(kernel, stride, padding):
    sl = pytest.importorskip("sequence_layers.jax")
    layer = layer_of(kernel, stride, padding)
    if padding == "same":  # theirs pads as much for every stride
        layer = dataclasses.replace(layer, padding=((kernel - 1) // 2, kernel // 2))
    compare(layer, sl.Conv1D.Config(2, kernel, stride, padding=padding, activation=jax.nn.sigmoid))


@pytest.mark.parametrize("padding", TRANSPOSED)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_transposed_convolutions_equal_those_of_sequence_layers(kernel, stride, padding):
    sl = pytest.importorskip("sequence_layers.jax")
    config = sl.Conv1DTranspose.Config(2, kernel, stride, padding=padding, activation=jax.nn.sigmoid)
    compare(transposed_of(kernel, stride, padding), config)
