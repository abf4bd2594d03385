"""Models that cannot be streamed, and bad input: each error has the facts and a remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

CHAIN = jc.Sequential([jc.Conv1D(4, 3, 2, "same"), jc.Conv1D(2, 3, padding="same")])
RUNNING = jc.stream(CHAIN, (None, None, 2))
PARAMS, _ = CHAIN.init(jax.random.key(0), (None, 8, 2))


def named(layer):
    """Return a model in which the layer has a name."""
    return jc.Sequential([layer], name="outer")


def branches(*parts):
    return jc.Parallel([list(part) for part in parts], "add")


@pytest.mark.parametrize(
    ("layer", "shape", "facts"),
    [
        (jc.LocallyConnected1D(2, 3, name="local"), (None, None, 2), ["local", "axis 1", "own for each step"]),
        (jc.Conv1D(2, 3, padding="same", padding_mode="reflect", name="conv"), (None, None, 2), ["conv", "'reflect'"]),
        (jc.Conv1D(2, 3, padding="same", padding_mode="circular", name="c"), (None, None, 2), ["circular", "'zeros'"]),
        (jc.Softmax(1, name="soft"), (None, None, 2), ["soft", "all steps", "axis 1", "window=W"]),
        (jc.GroupNormalization(1, name="norm"), (None, None, 2), ["norm", "all steps", "axis 1"]),
        (jc.InstanceNormalization(name="norm"), (None, None, 2), ["norm", "all steps", "axis 1"]),
        (jc.LayerNormalization([1, 2], name="norm"), (None, None, 2), ["norm", "all steps", "axis 1"]),
        (jc.Conv1D(2, 3, data_format="channels_first", name="conv"), (None, 2, None),
         ["conv", "axis 1 contains the channels", "axis=2"]),
        (jc.Conv2D(2, 3, data_format="channels_first", name="conv"), (None, 2, None, 8),
         ["conv", "axis 1 contains the channels", "axis=2 or axis=3"]),
        (jc.PReLU(name="prelu"), (None, None, 2), ["prelu", "own for each step"]),
        (jc.BatchNormalization(1, name="norm"), (None, None, 2), ["norm", "own for each step"]),
        (jc.Rescaling(np.ones((8, 2)), name="scale"), (None, 8, 2), ["scale", "own for each step"]),
        (jc.Reshape((4, 4), name="shape"), (None, 8, 2), ["shape", "all steps", "axis 1"]),
        (jc.AdaptiveMaxPooling1D(3, name="adaptive"), (None, None, 2), ["adaptive", "axis 1"]),
        (branches([jc.Conv1D(2, 3, 2, "same", name="half")], [jc.Conv1D(2, 1, name="all")]), (None, None, 2),
         ["half", "1/2", "all", "total stride"]),
        (branches([jc.Conv1D(2, 3, name="short")], [jc.Conv1D(2, 1, name="long")]), (None, None, 2),
         ["short", "long", "differ by 2"]),
        (branches([jc.GlobalMaxPooling1D(name="gone")], [jc.Conv1D(2, 1, name="here")]), (None, None, 2),
         ["gone", "pooling='cumulative'"]),
        (jc.Sequential([jc.Masking(name="mask"), jc.Conv1D(2, 3)]), (None, None, 2),
         ["conv1d (Conv1D)", "mask out", "stream.step a mask"]),
        (jc.MultiHeadAttention(1, 2, name="attend"), [(None, None, 2)] * 2, ["attend", "all steps", "axis 1"]),
        (jc.LSTM(3, name="memory"), [(None, None, 2), (None, 3), (None, 3)], ["memory", "first states"]),
        (jc.Conv2D(2, 3, name="image"), (None, None, None, 2), ["image", "None, None, None, 2", "input_shape"]),
    ],
)  # fmt: skip
def test_what_cannot_stream_is_refused_with_the_reason_and_a_way_out(layer, shape, facts):
    with pytest.raises(ValueError) as error:
        jc.stream(layer if isinstance(shape, list) else named(layer), shape)
    assert all(fact in str(error.value) for fact in facts), error.value


@pytest.mark.parametrize(
    ("arguments", "kind", "facts"),
    [
        ((CHAIN, (None, None, 2), 0), ValueError, ["axis=0", "1 to 2"]),
        ((CHAIN, (None, None, 2), 3), ValueError, ["axis=3", "1 to 2"]),
        ((CHAIN, (None, 8, 2), 2), ValueError, ["conv1d", "axis 2 contains the channels", "axis=1"]),
        ((CHAIN, (None, None, 2), "time"), TypeError, ["axis='time'", "integer"]),
        ((CHAIN,), ValueError, ["input_shape"]),
        (({}, (None, None, 2)), TypeError, ["of type dict", "a layer or its apply_fn"]),
    ],
)
def test_an_axis_that_is_not_time_is_refused(arguments, kind, facts):
    with pytest.raises(kind) as error:
        jc.stream(*arguments)
    assert all(fact in str(error.value) for fact in facts), error.value


def test_an_axis_of_channels_is_named_with_a_window_too():
    conv = jc.Conv1D(3, 3, padding="causal", data_format="channels_first")
    with pytest.raises(ValueError, match=r"axis 1 contains the channels; give axis=2"):
        jc.stream(conv, (None, 2, None), window=4)
    assert jc.stream(conv, (None, 2, None), axis=2).block == 1


def step(x=(1, 4, 2), state=None, params=PARAMS, running=RUNNING, **options):
    state = running.init(x[0]) if state is None else state
    return running.step(params, state, jnp.ones(x), **options)


NARROW = jax.tree.map(lambda v: v[..., :1], PARAMS)
SHORT = jc.stream(jc.Conv1D(2, 3), (None, None, 2))
SHORT_PARAMS = SHORT.layer.init(jax.random.key(0), (None, 8, 2))[0]
OTHER = jc.stream(jc.Conv1D(2, 3, padding="same"), (None, None, 2))


@pytest.mark.parametrize(
    ("call", "kind", "facts"),
    [
        (lambda: step((1, 3, 2)), ValueError, ["3", "block of 2", "2 or 4"]),
        (lambda: step((1, 1, 2)), ValueError, ["1", "block of 2"]),
        (lambda: step((1, 4, 3)), ValueError, ["(1, 4, 3)", "(None, None, 2)"]),
        (lambda: step((4, 2)), ValueError, ["(4, 2)", "(None, None, 2)"]),
        (lambda: step(state=RUNNING.init(3)), ValueError, ["batch of 3", "batch of 1", "stream.init(1)"]),
        (lambda: step(state=OTHER.init(1)), ValueError, ["state", "init"]),
        (lambda: step(state={}), ValueError, ["state", "init"]),
        (lambda: step(params={"dense": {}}), ValueError, ["dense", "conv1d"]),
        (lambda: step(params=NARROW), ValueError, ["conv1d", "kernel", "(3, 2, 4)"]),
        (lambda: step(mask=jnp.full((1, 4), jnp.nan)), TypeError, ["mask", "float32", "booleans"]),
        (lambda: step(mask=jnp.ones((1, 3), bool)), ValueError, ["mask", "(1, 3)", "(1, 4)"]),
        (lambda: step(reset=jnp.ones(1)), TypeError, ["reset", "float32"]),
        (lambda: step(active=jnp.ones(2, bool)), ValueError, ["active", "(2,)", "(1,)"]),
        (lambda: RUNNING.init(0), ValueError, ["batch_size=0"]),
        (lambda: RUNNING.init(np.ones(2)), ValueError, ["batch_size=array", "positive integer"]),
        (lambda: RUNNING.step(PARAMS, jnp.ones((1, 4, 2)), RUNNING.init(1)), ValueError, ["stream.step", "an array"]),
        (lambda: RUNNING.run(jnp.ones((1, 4, 2)), PARAMS), ValueError, ["params", "array of shape (1, 4, 2)"]),
        (lambda: RUNNING.run(PARAMS, jnp.ones((1, 8, 2)), chunk=3), ValueError, ["chunk=3", "block of 2"]),
        (lambda: RUNNING.run(PARAMS, jnp.ones((1, 7, 2))), ValueError, ["7 steps", "conv1d", "6 or 8"]),
        (lambda: SHORT.run(SHORT_PARAMS, jnp.ones((1, 2, 2))), ValueError, ["2 steps", "valid input is 3"]),
    ],
)  # fmt: skip
def test_bad_input_of_a_step_is_refused_with_the_right_value(call, kind, facts):
    with pytest.raises(kind) as error:
        call()
    assert all(fact in str(error.value) for fact in facts), error.value


def test_the_state_of_another_precision_is_refused():
    state = jax.tree.map(lambda v: v.astype(jnp.float16) if v.ndim > 1 else v, RUNNING.init(1))
    with pytest.raises(ValueError, match="state"):
        step(state=state)
