"""Streams: equal to the whole sequence for random chunks, exact at both edges; delays, blocks, resets, gradients."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.support.catalogue import in_float64, randomised
from tests.support.streams import assert_streams, drive

KEY = jax.random.key(0)


def made(layer, shape, dtype=jnp.float32, seed=1):
    """Return (params away from their special first values, input)."""
    params = jax.jit(lambda key: randomised(layer.init(key, shape)[0]))(KEY)
    return params, jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.few(1)
@pytest.mark.parametrize("kernel, stride, dilation", [(3, 1, 1), (4, 2, 1), (3, 1, 4), (1, 3, 1), (2, 4, 1), (7, 3, 1)])
@pytest.mark.parametrize("padding", ["valid", "same", "causal", (0, 5), (5, 0), (3, 2)])
def test_float32_convolutions_equal_the_whole(kernel, stride, dilation, padding):
    layer = jc.Conv1D(4, kernel, stride, padding, dilation_rate=dilation, activation="sigmoid")
    params, x = made(layer, (2, 24, 3))
    assert_streams(jc.stream(layer, (None, None, 3)), params, x, 1e-6, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("layer", "block", "ratio", "delay", "flush"),
    [
        (jc.Conv1D(2, 3, padding="same"), 1, 1, 1, 1),
        (jc.Conv1D(2, 5, padding="same", dilation_rate=2), 1, 1, 4, 4),
        (jc.Conv1D(2, 3, 2, padding="same"), 2, Fraction(1, 2), 1, 2),
        (jc.Conv1D(2, 3, 2, padding="causal"), 2, Fraction(1, 2), 0, 0),
        (jc.Conv1D(2, 4, 4, padding="same"), 4, Fraction(1, 4), 0, 0),
        (jc.Conv1D(2, 7), 1, 1, 6, 0),
        (jc.MaxPooling1D(2), 2, Fraction(1, 2), 0, 0),
        (jc.UpSampling1D(2), 1, 2, 0, 0),
        (jc.Residual([jc.Conv1D(2, 5, padding="same"), jc.Conv1D(2, 3, padding="same")]), 1, 1, 3, 3),
        (jc.Sequential([jc.ZeroPadding1D((4, 0)), jc.Conv1D(2, 5)]), 1, 1, 0, 0),
        (jc.Cropping1D((0, 3)), 1, 1, 3, 0),
        (jc.Conv1DTranspose(2, 4, 2), 1, 2, 0, 1),
        (jc.Conv1DTranspose(2, 4, 2, "same"), 1, 2, 1, 1),
        (jc.Sequential([jc.Conv1D(2, 3, 2, "same"), jc.Conv1D(2, 3, 3, "same")]), 6, Fraction(1, 6), 1, 6),
    ],
)
def test_known_blocks_ratios_delays_and_flushes(layer, block, ratio, delay, flush):
    running = jc.stream(layer, (None, None, 2))
    assert (running.block, running.ratio, running.delay, running.flush) == (block, ratio, delay, flush)


def down_and_up():
    """Return a U-Net of one level: a skip connection beside pooling and upsampling."""
    inside = [jc.MaxPooling1D(2), jc.Conv1D(2, 3, padding="same", activation="relu"), jc.UpSampling1D(2)]
    return jc.Parallel([inside, jc.Conv1D(2, 1)], "concatenate")


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "layer",
    [down_and_up(), jc.Parallel([jc.AveragePooling1D(2), jc.Conv1D(2, 3, 2, "same", activation="relu")], "add")],
)
def test_branches_meet_whose_lengths_agree_where_the_block_divides_them(layer):
    params, x = made(layer, (2, 12, 2))
    running = jc.stream(layer, (None, None, 2))
    assert running.block == 2
    assert_streams(running, params, x, 1e-6, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"11 steps.*10 or 12"):  # the model itself has no output
        running.run(params, x[:, :11])


@pytest.mark.parametrize(
    "layer",
    [
        jc.Sequential([jc.ZeroPadding1D((3, 0)), jc.AveragePooling1D(3, 2, "same")]),  # of odd lengths
        jc.Sequential([jc.Conv1D(2, 4, 4), jc.Cropping1D((3, 1)), jc.Conv1D(2, 2, 2, (2, 1), activation="sigmoid")]),
    ],
)
def test_strided_layers_behind_padding_or_cropping_are_exact_where_the_block_divides(layer):
    params, x = made(layer, (2, 24, 2))
    assert_streams(jc.stream(layer, (None, None, 2)), params, x, 1e-6, np.random.default_rng(0), 1)


@pytest.mark.slow
def test_strided_layers_behind_a_delay_wait_until_the_stride_divides_it():
    frames = jc.Conv1D(4, 513, 160)
    layer = jc.Sequential([frames, jc.Conv1D(4, 3, 2, "same"), jc.Conv1D(4, 3, 2, "same")])
    running = jc.stream(layer, (None, None, 1))
    steps = [step.choice.operation for step in running.plan.steps]
    assert running.block == 640 and steps[0].keep >= 513 - 160
    params, x = made(layer, (1, 640 * 4, 1))
    assert_streams(running, params, x, 1e-5, np.random.default_rng(0))  # sums of 513 products


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "layer, shape",
    [
        (jc.Sequential([jc.Conv1D(2, 2, 2, "same"), jc.Conv1D(3, 3, 1, "same", dilation_rate=8)]), (2, 80, 2)),
        (jc.Conv1D(3, 2, 1, "valid", dilation_rate=9, activation="sigmoid"), (2, 40, 2)),
        (
            jc.Sequential([jc.Conv1D(2, 3, 1, "causal", dilation_rate=n) for n in (7, 9, 8)]),
            (1, 90, 2),
        ),  # shared, sliced
        (jc.Sequential([jc.Conv1D(2, 3, 1, "same", dilation_rate=n) for n in (7, 9, 8)]), (2, 90, 2)),
        (jc.Conv1D(3, 3, 3, "same", dilation_rate=9, strides_with_dilation=True), (1, 63, 2)),
        (jc.Conv2D(3, 3, 1, "same", dilation_rate=6, data_format="channels_first"), (2, 2, 20, 20)),
    ],
)
def test_states_in_rings_hold_what_is_read(layer, shape):
    params, x = made(layer, shape)
    axis = 2 if len(shape) == 4 else 1
    running, rng = jc.stream(layer, shape, axis=axis), np.random.default_rng(0)
    assert running.plan.steps[-1].choice.operation.ring in (16, 32)
    assert_streams(running, params, x, 2e-6, rng)
    assert_streams(running, params, x, 2e-6, rng, 30)  # chunks longer than the ring


def test_a_donated_ring_is_updated_in_place():
    conv = jc.Conv1D(4, 3, padding="causal", dilation_rate=512)
    params, _ = made(layer := jc.Sequential([conv, jc.ReLU(), conv]), (1, 8, 4))
    running = jc.stream(layer, (None, None, 4))
    assert len(jax.tree.leaves(running.init(1))) == 2  # both rings are in one array
    step = jax.jit(running.step, donate_argnums=1)
    memory = step.lower(params, running.init(8), jnp.zeros((8, 1, 4))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < running.state_bytes < memory.alias_size_in_bytes


def test_a_tcn_has_the_receptive_field_of_its_levels():
    def level(rate):
        conv = jc.Conv1D(4, 7, padding="causal", dilation_rate=rate, activation="relu")
        return jc.Residual([conv, conv], jc.Conv1D(4, 1))

    running = jc.stream(jc.Sequential([level(2**n) for n in range(8)]), (None, None, 2))
    assert (running.receptive_field, running.delay, running.flush, running.block) == (3061, 0, 0, 1)
    assert running.multiply_adds == sum(7 * (i + 4) * 4 + i * 4 for i in [2, *[4] * 7])
    kept = [6, 12, 24, *(8 * 2**n for n in range(3, 8))]  # from a dilation of 8 on in rings: powers of two
    assert running.state_bytes == 4 * (sum(kept) * 8 - 6 * 2) + 8


@pytest.mark.few(1)
@pytest.mark.parametrize("between", [jc.Conv1D(2, 1, activation="sigmoid"), jc.Conv1D(2, 1, 2), jc.MaxPooling1D(2)])
def test_layers_see_the_zeros_that_a_layer_before_has_padded(between):
    layer = jc.Sequential([jc.ZeroPadding1D((2, 1)), between, jc.Conv1D(2, 3, padding="causal")])
    params, x = made(layer, (2, 9, 2))
    assert_streams(jc.stream(layer, (None, None, 2)), params, x, 1e-6, np.random.default_rng(0))


def test_inner_layers_see_zeros_of_their_own_padding_at_both_ends():
    bias = {"bias_initializer": "ones"}
    layer = jc.Sequential([jc.Conv1D(2, 3, padding="same", **bias), jc.Conv1D(2, 5, padding="same", **bias)])
    params, x = made(layer, (2, 6, 2))
    running = jc.stream(layer, (None, None, 2))
    assert_streams(running, params, x, 1e-6, np.random.default_rng(0))
    np.testing.assert_allclose(
        jax.jit(running.run, static_argnums=2)(params, x), jax.jit(layer.apply_fn)(params, x), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_spectrograms_stream_along_one_of_their_axes(first):
    form = {"data_format": "channels_first" if first else "channels_last"}
    layer = jc.Sequential(
        [
            jc.Conv2D(4, (3, 5), (2, 1), "same", activation="relu", **form),
            jc.AveragePooling2D((1, 2), **form),
            jc.MaxPooling2D((2, 3), (1, 2), "same", **form),
            jc.AveragePooling2D((3, 2), (1, 1), "same", **form),
            jc.Conv2DTranspose(3, (3, 2), (2, 2), "same", **form),
        ]
    )
    for axis, shape in ((1, (2, 12, 8, 2)), (2, (2, 8, 12, 2))):
        shape = (shape[0], shape[3], *shape[1:3]) if first else shape
        params, x = made(layer, shape)
        assert_streams(jc.stream(layer, shape, axis=axis + first), params, x, 2e-6, np.random.default_rng(0))


@pytest.mark.slow
def test_video_streams_along_its_frames():
    layer = jc.Sequential([jc.Conv3D(3, (3, 2, 2), padding="same", activation="relu"), jc.MaxPooling3D((1, 2, 2))])
    params, x = made(layer, (1, 6, 4, 4, 2))
    assert_streams(jc.stream(layer, (None, None, 4, 4, 2)), params, x, 2e-6, np.random.default_rng(0))


@pytest.mark.slow
def test_the_steps_of_time_distributed_stream():
    layer = jc.TimeDistributed(jc.Sequential([jc.Conv2D(3, 2), jc.Flatten(), jc.Dense(2)]))
    params, x = made(layer, (2, 6, 4, 4, 2))
    assert_streams(jc.stream(layer, (None, None, 4, 4, 2)), params, x, 2e-6, np.random.default_rng(0))


def two_inputs():
    """Return a graph of two inputs and two outputs with a shared layer."""
    a, b = jc.Input((None, 2), name="a"), jc.Input((None, 2), name="b")
    conv = jc.Conv1D(2, 3, padding="same", activation="tanh")
    merged = jc.Concatenate()([conv(a), conv(conv(b))])
    return jc.Model({"a": a, "b": b}, [merged, jc.MaxPooling1D(2)(a)])


def test_several_inputs_and_outputs_and_a_shared_layer():
    layer = two_inputs()
    params, _ = layer.init(KEY)
    x = {name: jax.random.normal(jax.random.key(n), (2, 8, 2)) for n, name in enumerate("ab")}
    running = jc.stream(layer)
    assert (running.delay, running.ratio, running.block) == ([2, 0], [1, Fraction(1, 2)], 2)
    assert_streams(running, params, x, 1e-6, np.random.default_rng(0))
    states = running.plan.init(1)
    assert {"conv1d", "conv1d#1", "conv1d#2"} <= set(states)
    state = running.init(1)  # these are small: all of one type are one array
    assert set(state["kept"]) == {"float32"} and running.state_bytes == sum(
        leaf.nbytes for leaf in jax.tree.leaves(state)
    )
    for value, want in zip(jax.tree.leaves(running.plan.unpack(state["kept"])), jax.tree.leaves(states), strict=True):
        np.testing.assert_array_equal(value, want)


CHAIN = jc.Sequential(
    [
        jc.Conv1D(4, 3, padding="same", activation="tanh"),
        jc.Residual([jc.Conv1D(4, 3, 1, "same", dilation_rate=2, activation="tanh"), jc.BatchNormalization()]),
        jc.MaxPooling1D(2, padding="same"),
        jc.Conv1DTranspose(3, 4, 2, "same", activation="tanh"),
    ]
)


def test_gradients_through_a_scan_of_steps_are_those_of_the_whole(x64):
    layer = in_float64(CHAIN)
    params, x = made(layer, (2, 12, 2), jnp.float64)
    running = jc.stream(layer, (None, None, 2))
    weight = jax.random.normal(jax.random.key(5), (2, 12, 3), jnp.float64)

    def whole(params, x):
        return jnp.sum(weight * jax.jit(layer.apply_fn)(params, x) ** 2)

    def stepped(params, x):
        return jnp.sum(weight * running.run(params, x, chunk=2 * running.block) ** 2)

    want, got = (jax.jit(jax.grad(f, argnums=(0, 1)))(params, x) for f in (whole, stepped))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_what_comes_after_the_end_of_a_row_reaches_no_gradient():
    params, x = made(CHAIN, (2, 8, 2))
    running = jc.stream(CHAIN, (None, None, 2))
    mask = jnp.arange(8)[None] < jnp.array([[5], [8]])
    x = jnp.where(mask[..., None], x, jnp.nan)

    def loss(params, x):
        y, _, _ = jax.jit(running.step)(params, running.init(2), x, mask)
        return jnp.sum(y**2)

    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(jax.grad(loss, (0, 1))(params, x)))


@pytest.mark.slow
def test_outputs_read_no_input_beyond_the_look_ahead():
    params, x = made(CHAIN, (1, 16, 2))
    running = jc.stream(CHAIN, (None, None, 2))
    with jc.lowering("xla"):
        want, mask, _ = jax.jit(running.step)(params, running.init(1), x)
        for end in range(2, 16, running.block):  # what has come when the poison starts is what has been fed
            poisoned = x.at[:, end:].set(jnp.nan)
            got, _, _ = jax.jit(running.step)(params, running.init(1), poisoned)
            np.testing.assert_array_equal(got[:, :end][mask[:, :end]], want[:, :end][mask[:, :end]])


@pytest.mark.slow
def test_rows_start_anew_and_wait_each_on_their_own():
    params, x = made(CHAIN, (3, 24, 2))
    running = jc.stream(CHAIN, (None, None, 2))
    step, state = jax.jit(running.step), running.init(3)
    rows = [[], [], []]  # chunk by chunk: row 0 is fed always, row 1 starts anew at chunk 3, row 2 waits every second
    at = [0, 0, 0]
    for number in range(10):
        reset, active = jnp.array([False, number == 3, False]), jnp.array([True, True, number % 2 == 0])
        if number == 3:
            at[1], rows[1] = 0, []
        chunk = jnp.stack([x[row, at[row] : at[row] + 2] for row in range(3)])
        y, mask, state = step(params, state, chunk, None, reset, active)
        for row in range(3):
            rows[row] += list(np.asarray(y[row])[np.asarray(mask[row])])
            at[row] += 2 * bool(active[row])
    assert not mask[2].any()
    for row in range(3):
        fresh, real, _ = jax.jit(running.step)(params, running.init(1), x[row : row + 1, : at[row]])
        np.testing.assert_allclose(rows[row], fresh[0][real[0]], atol=1e-6)


@pytest.mark.slow
def test_rows_end_at_steps_of_their_own():
    params, x = made(CHAIN, (3, 12, 2))
    running, ends = jc.stream(CHAIN, (None, None, 2)), (6, 10, 12)
    total = 12 + running.flush
    mask = jnp.arange(total)[None] < jnp.array(ends)[:, None]
    x_long = jnp.pad(x, ((0, 0), (0, total - 12), (0, 0)))
    y, real, _ = jax.jit(running.step)(params, running.init(3), x_long, mask)
    for row, end in enumerate(ends):
        want = jax.jit(CHAIN.apply_fn)(params, x[row : row + 1, :end])[0]
        np.testing.assert_allclose(y[row][real[row]], want, atol=2e-6)


@pytest.mark.slow
def test_a_long_stream_does_not_count_beyond_its_integers():
    layer = jc.Sequential([jc.Conv1D(2, 3, 2, "same"), jc.Conv1D(2, 3, padding="same")])
    params, _ = made(layer, (1, 8, 2))
    running = jc.stream(layer, (None, None, 2))
    span = running.plan.span
    x = jax.random.normal(jax.random.key(3), (1, 3 * span, 2))
    step = jax.jit(running.step)
    _, _, state = step(params, running.init(1), x)
    fed, real = state["clock"][0].tolist()
    assert fed == real < 2 * span
    tail = jax.random.normal(jax.random.key(4), (1, 12, 2))
    y, mask, state = step(params, state, tail, jnp.arange(12)[None] < 8)
    want = jax.jit(layer.apply_fn)(params, jnp.concatenate([x, tail[:, :8]], 1))
    assert mask.sum() == 4 + running.delay
    np.testing.assert_allclose(y[mask], want[0, -6:], atol=2e-6)
    _, mask, _ = step(params, state, tail)  # the row has ended, and stays so
    assert not mask.any()


def test_nan_reaches_the_same_outputs_of_bilinear_upsampling_as_in_the_whole():
    layer = jc.UpSampling1D(3, interpolation="bilinear")
    params, _ = made(layer, (1, 9, 1))
    x = jnp.ones((1, 9, 1)).at[0, jnp.array([0, 5])].set(jnp.nan)
    want = jax.jit(layer.apply_fn)(params, x)
    assert 0 < jnp.isnan(want).sum() < 27
    for chunk in (1, 4):
        np.testing.assert_allclose(
            jax.jit(jc.stream(layer, (None, None, 1)).run, static_argnums=2)(params, x, chunk), want
        )


@pytest.mark.slow
def test_vmap_over_streams_equals_one_after_the_other():
    params, x = made(CHAIN, (3, 8, 2))
    running = jc.stream(CHAIN, (None, None, 2))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), running.init(1))
    y, _, _ = jax.vmap(running.step, (None, 0, 0))(params, states, x[:, None])
    want, _, _ = jax.jit(running.step)(params, running.init(3), x)
    np.testing.assert_allclose(y[:, 0], want, atol=1e-6)


@pytest.mark.slow
def test_run_equals_apply_for_every_chunk_and_length():
    params, x = made(CHAIN, (2, 20, 2))
    running = jc.stream(CHAIN, (None, None, 2))
    for length in (2, 6, 20):
        want = jax.jit(CHAIN.apply_fn)(params, x[:, :length])
        for chunk in (None, 2, 6):
            np.testing.assert_allclose(
                jax.jit(running.run, static_argnums=2)(params, x[:, :length], chunk), want, atol=2e-6
            )


def test_reparametrized_layers_stream():
    for inside in (jc.Conv1D(3, 3, padding="same"), jc.Conv1DTranspose(3, 4, 2, "same", activation="tanh")):
        layer = jc.WeightNormalization(inside)
        params, x = made(layer, (2, 8, 2))
        assert_streams(jc.stream(layer, (None, None, 2)), params, x, 1e-6, np.random.default_rng(0))


def test_permute_and_reshape_move_the_axis_of_time():
    layer = jc.Sequential([jc.Reshape((1, 12, 4)), jc.Permute((3, 2, 1)), jc.Conv2D(2, (2, 3), padding="same")])
    params, x = made(layer, (2, 12, 4))
    running = jc.stream(layer, (None, 12, 4))
    assert [signal.axis for signal in running.plan.signals] == [1, 2, 2, 2]
    got = drive(running, params, x, np.random.default_rng(0))[0]
    np.testing.assert_allclose(got, jax.jit(layer.apply_fn)(params, x), atol=1e-6)
