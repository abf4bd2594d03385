"""Layers that read the whole time axis: Flatten over a known number of frames, global pooling in its three meanings."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.streaming.test_stream import made
from tests.support.streams import assert_streams, drive

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def windows_of(x, size, hop=1):
    """Return every ``size`` successive steps of a sequence as samples."""
    return jnp.stack([x[0, at : at + size] for at in range(0, x.shape[1] - size + 1, hop)])


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_flatten_and_dense_over_frames_run_at_every_step(first):
    form = "channels_first" if first else "channels_last"
    parts = [jc.Conv1D(4, 3, activation="tanh", data_format=form), jc.Dropout(0.2), jc.Flatten(form)]
    layer = jc.Sequential([*parts, jc.Dense(5, activation="relu"), jc.BatchNormalization(), jc.Dense(2, "softmax")])
    shape = (1, 2, 9) if first else (1, 9, 2)
    params, x = made(layer, shape)
    running = jc.stream(layer, shape, axis=2 if first else 1)
    assert_streams(running, params, x, 1e-6, np.random.default_rng(0))
    long = jax.random.normal(jax.random.key(7), (1, 2, 20) if first else (1, 20, 2))
    samples = windows_of(jnp.moveaxis(long, 1, 2) if first else long, 9)
    want = jax.jit(layer.apply_fn)(params, jnp.moveaxis(samples, 1, 2) if first else samples)
    got = drive(running, params, long, np.random.default_rng(1), 4)[0]
    np.testing.assert_allclose(got[0], want, atol=1e-6)
    assert running.delay == 8 and running.receptive_field == 9
    assert running.multiply_adds == 3 * 2 * 4 + 7 * 4 * 5 + 5 * 2


def test_flatten_needs_to_know_the_number_of_frames():
    with pytest.raises(ValueError, match=r"flatten \(Flatten\) reads all steps along axis 1; .*input_shape.*window=W"):
        jc.stream(jc.Sequential([jc.Flatten()]), (None, None, 2))


POOLS = [jc.GlobalAveragePooling1D, jc.GlobalMaxPooling1D]


@pytest.mark.few(1)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("keepdims", [False, True])
def test_cumulative_pooling_ends_at_the_pooling_of_the_whole(pool, keepdims):
    parts = [jc.Conv1D(4, 3, 2, "same", activation="tanh"), pool(keepdims=keepdims), jc.Dense(2, "softmax")]
    layer = jc.Sequential(parts)
    params, x = made(layer, (2, 12, 2))
    running = jc.stream(layer, (None, None, 2), pooling="cumulative")
    assert_streams(running, params, x, 1e-6, np.random.default_rng(0))
    got = drive(running, params, x, np.random.default_rng(1))[0]
    for steps in (4, 8):  # each output is that of the features so far, the last ones of which see no padding yet
        features = layer.layers[0].apply_fn(params["conv1d"], x)[:, : steps // 2]
        want = jc.Sequential(list(layer.layers[1:])).apply_fn({"dense": params["dense"]}, features)
        np.testing.assert_allclose(got[:, steps // 2 - 1], want, atol=1e-6)
    assert running.receptive_field is None


@pytest.mark.slow
def test_cumulative_pooling_of_a_spectrogram_pools_its_other_axis_too():
    layer = jc.Sequential([jc.Conv2D(3, 3, padding="same"), jc.GlobalAveragePooling2D(), jc.Dense(2)])
    params, x = made(layer, (2, 6, 4, 2))
    for axis, shape in ((1, (None, None, 4, 2)), (2, (None, 6, None, 2))):
        running = jc.stream(layer, shape, axis=axis, pooling="cumulative")
        assert_streams(running, params, x, 1e-6, np.random.default_rng(0))


@pytest.mark.few(1)
@pytest.mark.parametrize("pool", POOLS)
def test_a_window_equals_the_model_on_the_last_steps(pool):
    layer = jc.Sequential([jc.Conv1D(4, 3, 2, activation="tanh"), jc.Conv1D(4, 2), pool(), jc.Dense(2)])
    params, x = made(layer, (1, 20, 2))
    running = jc.stream(layer, (None, None, 2), window=8)
    got = drive(running, params, x, np.random.default_rng(0))[0]
    np.testing.assert_allclose(got[0], jax.jit(layer.apply_fn)(params, windows_of(x, 8, 2)), atol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("norm", [jc.Softmax(1), jc.GroupNormalization(2), jc.InstanceNormalization()])
def test_a_window_runs_statistics_over_the_last_steps(norm):
    layer = jc.Sequential([jc.Conv1D(4, 3), norm, jc.GlobalMaxPooling1D()])
    params, x = made(layer, (1, 12, 2))
    got = drive(jc.stream(layer, (None, None, 2), window=7), params, x, np.random.default_rng(0))[0]
    np.testing.assert_allclose(got[0], jax.jit(layer.apply_fn)(params, windows_of(x, 7)), atol=2e-6)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, ["pool", "axis 1", "pooling='cumulative'", "window=W"]),
        ({"window": 3}, ["pool", "window=3", "valid window is 4"]),
        ({"window": 5}, ["window=5", "block of 2", "give 4 or 6"]),
        ({"window": 0}, ["window=0", "positive"]),
        ({"pooling": "mean"}, ["'mean'", "'cumulative'"]),
        ({"pooling": "cumulative", "window": 8}, ["'cumulative'", "window=8", "one of them"]),
    ],
)
def test_the_choices_of_global_pooling_are_named(options, facts):
    layer = jc.Sequential([jc.Conv1D(4, 4, 2, name="front"), jc.GlobalMaxPooling1D(name="pool")])
    with pytest.raises(ValueError) as error:
        jc.stream(layer, (None, None, 2), **options)
    assert all(fact in str(error.value) for fact in facts), error.value


@pytest.mark.parametrize("front", [jc.Conv1D(2, 3, padding="same"), jc.ZeroPadding1D(1), jc.Conv1DTranspose(2, 3)])
def test_a_window_behind_padding_is_refused_with_the_layer_that_pads(front):
    layer = jc.Sequential([jc.Sequential([front], name="front"), jc.GlobalMaxPooling1D()])
    with pytest.raises(ValueError, match=r"window|last 8 steps.*front/.* pads"):
        jc.stream(layer, (None, None, 2), window=8)


@pytest.mark.skipif(not MODELS.is_dir(), reason="the real files are not part of the repository")
def test_the_wake_word_net_frame_by_frame_equals_it_window_by_window():
    pytest.importorskip("h5py")
    layer, params = jc.load_layer(MODELS / "streaming_wakeword.h5")
    running = jc.stream(layer)
    with np.load(MODELS / "streaming_wakeword_windows.npz") as file:
        windows, labels = jnp.asarray(file["specs"]), file["labels"]
    want = jax.jit(layer.apply_fn)(params, windows)

    @jax.jit
    def frames(windows):
        def one(state, frame):
            y, mask, state = running.step(params, state, frame[:, None])
            return state, (y[:, 0], mask[:, 0])

        return jax.lax.scan(one, running.init(len(windows)), jnp.moveaxis(windows, 1, 0))[1]

    y, mask = frames(windows)
    assert mask.shape == (30, 45) and mask[-1].all() and not mask[:-1].any()
    np.testing.assert_allclose(y[-1], want, atol=1e-6)
    assert int((np.argmax(np.asarray(y[-1]), -1) == labels).sum()) == 41
    assert (running.block, running.delay, running.flush, running.receptive_field) == (1, 29, 0, 30)
    assert running.multiply_adds == 5240 + 17024 + 17664 + 6016 + 96  # one output of each layer
    assert layer.multiply_adds((None, 30, 1, 40)) == 28 * 5240 + 24 * 17024 + 15 * 17664 + 6016 + 96


def test_the_wake_word_net_of_its_authors_makes_a_twentieth_of_the_products_at_a_frame():
    parts = []
    for kernel, filters in ((3, 128), (5, 64), (10, 64), (15, 32)):
        parts += [jc.DepthwiseConv2D((kernel, 1)), jc.Conv2D(filters, 1), jc.BatchNormalization(), jc.ReLU()]
    layer, shape = jc.Sequential([*parts, jc.Flatten(), jc.Dense(3)]), (None, 30, 1, 40)
    running = jc.stream(layer, shape)
    assert (layer.multiply_adds(shape), running.multiply_adds) == (432_832, 21_912)  # 1/19.8


@pytest.mark.skipif(not MODELS.is_dir(), reason="the real files are not part of the repository")
def test_the_autoencoder_streams():
    layer, params = jc.load_layer(MODELS / "conv1d_autoencoder.keras")
    with np.load(MODELS / "conv1d_autoencoder_expected.npz") as file:
        x = jnp.asarray(file["x"])[:2]
    running = jc.stream(layer)
    np.testing.assert_allclose(running.run(params, x, running.block), jax.jit(layer.apply_fn)(params, x), atol=1e-5)


def test_a_window_behind_a_layer_with_a_state_is_refused_by_its_name():
    layer = jc.Sequential([jc.LSTM(2, return_sequences=True, name="memory"), jc.LSTM(2, name="end")])
    with pytest.raises(ValueError, match=r"end \(LSTM\) .*memory before it .*state"):
        jc.stream(layer, (None, None, 2), window=8)
