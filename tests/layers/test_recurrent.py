"""Recurrent layers compared with Keras: masks, states, dropout, half precision, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxconv as jc
from tests.support.keras_oracle import assert_close, keras, keras_rules, keras_values, random_params, theirs

KEY = jax.random.key(0)
SHAPE = (3, 5, 2)
MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [1, 1, 0, 0, 0]], bool)


def keras_call(layer, params, x, **arguments):
    """Return the output of Keras's layer with these weights."""
    other = theirs(layer, x.shape)
    with (
        keras_rules(),
        keras.StatelessScope([*zip(other.trainable_variables, keras_values(params, layer)[0], strict=True)]),
    ):
        return other(x, **arguments)


def drawn(layer, shape=SHAPE):
    rng = np.random.default_rng(0)
    return random_params(layer, shape, rng), jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.few(2)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_masked_steps_keep_the_states_as_in_keras(name, sequences, reverse):
    layer = getattr(jc, name)(3, return_sequences=sequences, go_backwards=reverse, return_state=True)
    params, x = drawn(layer)
    got, effects = layer.apply_fn.forward(params, x, mask=MASK)
    for one, wanted in zip(got, keras_call(layer, params, x, mask=jnp.asarray(MASK)), strict=True):
        assert_close(one, wanted, name)
    assert (effects.mask is None) == (not sequences)
    if sequences:
        np.testing.assert_array_equal(effects.mask[0], MASK[:, ::-1] if reverse else MASK)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["LSTM", "SimpleRNN", "GRU"])
def test_first_states_follow_the_sequence_in_the_list_of_inputs(name):
    layer = getattr(jc, name)(3, return_sequences=True, return_state=True)
    params, x = drawn(layer)
    states = [jnp.full((3, 3), 0.5 * (i + 1)) for i in range(layer.state_count)]
    got, effects = layer.apply_fn.forward(params, [x, *states], mask=[MASK, *[None] * len(states)])
    want = keras_call(layer, params, x, mask=jnp.asarray(MASK), initial_state=states)
    for one, wanted in zip(got, want, strict=True):
        assert_close(one, wanted, name)
    np.testing.assert_array_equal(effects.mask[0], MASK)
    first, last = layer.apply_fn(params, x[:, :2]), layer.apply_fn(params, x)
    again = layer.apply_fn(params, [x[:, 2:], *first[1:]])  # a sequence in two parts
    np.testing.assert_allclose(jnp.concatenate([first[0], again[0]], 1), last[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=rf"{layer.state_count} states of shape \(3, 3\)"):
        layer.init(KEY, [SHAPE, (3, 4)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM", "SimpleRNN", "GRU"])
def test_what_keras_computes_with_cells_is_computed_with_layers(name):
    """One step, and a stack of cells in an RNN with a mask: the rows of examples/coming_from_keras.md."""
    one = getattr(jc, name)(3, return_state=True)
    params, x = drawn(one)
    states = [jnp.full((3, 3), 0.5 * (i + 1)) for i in range(one.state_count)]
    stack = jc.Sequential([getattr(jc, name)(3, return_sequences=True), getattr(jc, name)(4)])
    weights = random_params(stack, SHAPE, np.random.default_rng(1))
    cell = getattr(keras.layers, f"{name}Cell")
    with keras_rules():
        other = cell(3)
        other.build((3, 2))
        other.set_weights([np.asarray(params[leaf]) for leaf in ("kernel", "recurrent_kernel", "bias")])
        want, after = other(x[:, 0], states)
        rnn = keras.layers.RNN([cell(3), cell(4)])
        rnn.build(SHAPE)
        leaves = [weights[part][leaf] for part in weights for leaf in ("kernel", "recurrent_kernel", "bias")]
        rnn.set_weights(list(map(np.asarray, leaves)))
        wanted = rnn(x, mask=jnp.asarray(MASK))
    for mine, theirs_ in zip(one.apply_fn(params, [x[:, :1], *states]), [want, *after], strict=True):
        assert_close(mine, theirs_, name)
    assert_close(stack.apply_fn(weights, x, mask=MASK), wanted, name)


@pytest.mark.few(1)
@pytest.mark.parametrize("merge", ["concat", None])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_first_states_of_both_directions_follow_the_sequence(name, merge):
    layer = jc.Bidirectional(getattr(jc, name)(3, return_sequences=True, return_state=True), merge)
    params, x = drawn(layer)
    states = [jnp.full((3, 3), 0.5 * (i + 1)) for i in range(2 * layer.layer.state_count)]
    got, effects = layer.apply_fn.forward(params, [x, *states], mask=[MASK, *[None] * len(states)])
    want = keras_call(layer, params, x, mask=jnp.asarray(MASK), initial_state=states)
    for one, wanted in zip(got, want, strict=True):
        assert_close(one, wanted, name)
    assert layer.output_shape([SHAPE, *(s.shape for s in states)]) == [one.shape for one in got]
    np.testing.assert_array_equal(effects.mask[0], MASK)
    with pytest.raises(ValueError, match=rf"Bidirectional.* {len(states)} states of shape \(3, 3\)"):
        layer.init(KEY, [SHAPE, *[(3, 3)] * (len(states) // 2)])


def test_zero_output_for_mask_hides_masked_steps_as_in_keras():
    layer = jc.GRU(3, return_sequences=True, zero_output_for_mask=True)
    params, x = drawn(layer)
    got = layer.apply_fn(params, x, MASK)
    assert_close(got, keras_call(layer, params, x, mask=jnp.asarray(MASK)), "output")
    assert (got[~MASK] == 0).all() and (got[MASK] != 0).all()


def test_the_states_are_those_after_the_last_step():
    layer = jc.LSTM(3, return_sequences=True, return_state=True)
    params, x = drawn(layer)
    y, h, c = layer.apply_fn(params, x)
    assert layer.output_shape((None, 5, 2)) == [(None, 5, 3), (None, 3), (None, 3)]
    np.testing.assert_array_equal(y[:, -1], h)
    assert c.shape == h.shape


def test_a_model_takes_an_output_and_a_state():
    x = jc.Input((5, 2))
    y, h, _ = jc.LSTM(3, return_sequences=True, return_state=True)(x)
    model = jc.Model(x, jc.Dense(2)(jc.Concatenate()([jc.GlobalAveragePooling1D()(y), h])))
    params, apply_fn = model.init(KEY)
    assert apply_fn(params, jnp.ones((4, 5, 2))).shape == (4, 2)


@pytest.mark.few(2)
@pytest.mark.parametrize("recurrent", [0.0, 0.5])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_dropout_keeps_one_mask_for_all_steps_and_scales_what_is_left(name, recurrent):
    layer = getattr(jc, name)(2, activation=None, dropout=0.5, recurrent_dropout=recurrent, return_sequences=True)
    params, _ = drawn(layer, (400, 3, 2))
    x = jnp.broadcast_to(jnp.array([1.0, -1.0]), (400, 3, 2))
    y = layer.apply_fn.forward(params, x, train=True, key=KEY)[0]
    assert (y == layer.apply_fn.forward(params, x, train=True, key=KEY)[0]).all()
    assert not (y == layer.apply_fn.forward(params, x, train=True, key=jax.random.key(1))[0]).all()
    # with one mask for all gates and steps there are two inputs that are kept or dropped: four sequences
    distinct = len(np.unique(np.asarray(y).round(3), axis=0))
    assert distinct == 4 if recurrent == 0 else distinct > 4
    with pytest.raises(ValueError, match="key"):
        layer.apply_fn.forward(params, x, train=True)


def test_dropout_of_everything_leaves_the_bias():
    layer = jc.SimpleRNN(2, dropout=1.0, recurrent_dropout=1.0)
    params, x = drawn(layer)
    y = layer.apply_fn.forward(params, x, train=True, key=KEY)[0]
    np.testing.assert_allclose(y, jnp.broadcast_to(jnp.tanh(params["bias"]), y.shape), rtol=1e-6)


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_half_precision_is_near_float32(name, dtype):
    layer = getattr(jc, name)(3, return_sequences=True, dtype=dtype)
    params, apply_fn = layer.init(KEY, SHAPE)
    x = jax.random.normal(KEY, SHAPE)
    wide = getattr(jc, name)(3, return_sequences=True)
    want = wide.apply_fn(jax.tree.map(lambda v: v.astype(jnp.float32), params), x)
    got = apply_fn(params, x)
    assert got.dtype == layer.policy.compute
    # a few roundings of a state below 1 in each of five steps
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=10 * float(jnp.finfo(got.dtype).eps))


def test_the_forget_gate_of_an_lstm_starts_open():
    params, _ = jc.LSTM(2).init(KEY, SHAPE)
    np.testing.assert_array_equal(params["bias"], [0, 0, 1, 1, 0, 0, 0, 0])
    assert (jc.LSTM(2, unit_forget_bias=False).init(KEY, SHAPE)[0]["bias"] == 0).all()


def test_states_between_calls_are_refused():
    with pytest.raises(ValueError, match=r"stateful=True.*stream"):
        jc.GRU(3, stateful=True)


@pytest.mark.parametrize(
    "layer, shape, facts",
    [
        (jc.LSTM(3), (2, 4), "batch, time, channels"),
        (jc.LSTM(3), (2, 0, 4), "at least 1"),
        (jc.LSTM(3), (2, 4, None), "channel count"),
    ],
)
def test_an_invalid_input_is_refused(layer, shape, facts):
    with pytest.raises(ValueError, match=facts):
        layer.init(KEY, shape)


def test_invalid_options_are_refused():
    with pytest.raises(ValueError, match="dropout=2"):
        jc.GRU(3, dropout=2)
    with pytest.raises(ValueError, match="units=0"):
        jc.LSTM(0)
    with pytest.raises(ValueError, match="glu"):
        jc.LSTM(2, "glu")


def test_a_mask_of_samples_alone_is_refused():
    layer = jc.LSTM(3)
    params, x = drawn(layer)
    with pytest.raises(ValueError, match=r"\(3,\).*\(3, 5\)"):
        layer.apply_fn(params, x, np.ones(3, bool))


@pytest.mark.slow
def test_a_layer_runs_over_sharded_data():
    layer = jc.LSTM(3)
    params, x = drawn(layer, (2, 5, 2))
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    spread = jax.shard_map(
        layer.apply_fn, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("batch")), out_specs=PartitionSpec("batch")
    )
    np.testing.assert_allclose(spread(params, x), layer.apply_fn(params, x), rtol=1e-6)


# -- both directions


@pytest.mark.few(3)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_both_directions_agree_with_keras_under_a_mask(sequences, mode):
    layer = jc.Bidirectional(jc.LSTM(3, return_sequences=sequences, return_state=mode is None), mode)
    params, x = drawn(layer)
    got, effects = layer.apply_fn.forward(params, x, mask=MASK)
    want = keras_call(layer, params, x, mask=jnp.asarray(MASK))
    got, want = ([*value] if mode is None else [value] for value in (got, want))
    assert len(got) == len(want) == (6 if mode is None else 1)
    for one, wanted in zip(got, want, strict=True):
        assert_close(one, wanted, str(mode))
    shapes = layer.output_shape(x.shape)
    assert [v.shape for v in got] == (shapes if mode is None else [shapes])
    masks = effects.mask[:2] if sequences and mode is None else [effects.mask]
    for mask in masks:
        np.testing.assert_array_equal(mask, MASK) if sequences else None
    assert sequences or effects.mask is None


def test_outputs_of_a_first_layer_that_goes_backwards_are_in_its_order_as_in_keras():
    first, second = (jc.SimpleRNN(3, return_sequences=True, go_backwards=reverse) for reverse in (True, False))
    layer = jc.Bidirectional(first, backward_layer=second)
    params, x = drawn(layer)
    y, effects = layer.apply_fn.forward(params, x, mask=MASK)
    assert_close(layer.apply_fn(params, x), keras_call(layer, params, x), "output")
    np.testing.assert_array_equal(effects.mask, MASK[:, ::-1])
    np.testing.assert_array_equal((y != 0).any(-1), MASK[:, ::-1])


def test_the_layers_of_two_directions_must_fit():
    for options, facts in [
        ({"merge_mode": "max"}, "'max'"),
        ({"backward_layer": jc.LSTM(2)}, "go_backwards=False"),
        ({"backward_layer": jc.LSTM(2, go_backwards=True, return_sequences=True)}, "return_sequences"),
    ]:
        with pytest.raises(ValueError, match=facts):
            jc.Bidirectional(jc.LSTM(2), **options)
    with pytest.raises(TypeError, match="Dense"):
        jc.Bidirectional(jc.Dense(2))
    other = jc.Bidirectional(jc.LSTM(2), "sum", jc.LSTM(3, go_backwards=True))
    with pytest.raises(ValueError, match="'sum'"):
        other.init(KEY, SHAPE)


def test_a_bidirectional_layer_at_each_step_of_frames():
    layer = jc.TimeDistributed(jc.Bidirectional(jc.GRU(2)))
    params, apply_fn = layer.init(KEY, (2, 4, 5, 3))
    x = jax.random.normal(KEY, (2, 4, 5, 3))
    y = apply_fn(params, x, np.ones((2, 4), bool))
    assert y.shape == (2, 4, 4)
    np.testing.assert_allclose(y[:, 1], layer.layer.apply_fn(params["layer"], x[:, 1]), rtol=1e-5)
