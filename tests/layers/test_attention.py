"""MultiHeadAttention compared with Keras and with its formula: masks, dropout, several axes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.support.keras_oracle import (
    assert_close,
    keras,
    keras_arguments,
    keras_rules,
    keras_values,
    random_params,
    theirs,
)

KEY = jax.random.key(0)
QUERY, VALUE = (2, 4, 3), (2, 5, 6)


def drawn(layer, shapes):
    rng = np.random.default_rng(0)
    return random_params(layer, shapes, rng), [jnp.asarray(rng.normal(size=one), jnp.float32) for one in shapes]


def by_formula(layer, params, x, visible):
    """Return the output in float64, head by head."""
    params = jax.tree.map(lambda v: np.asarray(v, np.float64), params)

    def heads_of(name, index):
        own = params[name]
        return np.einsum("btc,chd->hbtd", np.asarray(x[index], np.float64), own["kernel"]) + own["bias"][:, None, None]

    q, k, v = heads_of("query", 0), heads_of("key", 2 if len(x) > 2 else 1), heads_of("value", 1)
    scores = np.where(visible, q @ k.swapaxes(-1, -2) / np.sqrt(layer.key_dim), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    heads = weights / weights.sum(-1, keepdims=True) @ v
    out = params["attention_output"]
    return np.einsum("hbtv,hvo->bto", heads, out["kernel"]) + out["bias"]


@pytest.mark.few(1)
@pytest.mark.parametrize("value_dim", [3, 5])
@pytest.mark.parametrize("inputs", [2, 3])
def test_the_output_is_that_of_the_formula(inputs, value_dim):
    """Equal channels go through JAX's function, others do not."""
    layer = jc.MultiHeadAttention(2, 3, value_dim, use_causal_mask=True)
    params, x = drawn(layer, [QUERY, VALUE, (2, 5, 2)][:inputs])
    want = by_formula(layer, params, x, np.tri(4, 5, dtype=bool))
    assert_close(layer.apply_fn(params, x), want, "output")


@pytest.mark.few(1)
@pytest.mark.parametrize("heads", [False, True])
def test_an_attention_mask_is_an_input_as_in_keras(heads):
    layer = jc.MultiHeadAttention(2, 3, use_causal_mask=heads)
    params, x = drawn(layer, [QUERY, VALUE])
    mask = np.random.default_rng(1).integers(0, 2, (2, 2, 4, 5) if heads else (2, 4, 5)).astype(bool)
    mask[..., 0] = True
    x = [*x, x[1], mask]
    other = theirs(layer, [v.shape for v in x])
    args, named = keras_arguments(layer, x)
    values = [*zip(other.trainable_variables, keras_values(params, layer)[0], strict=True)]
    with keras_rules(), keras.StatelessScope(values):
        want = other(*args, **named)
    assert_close(layer.apply_fn(params, x), want, "output")


def test_masked_values_are_not_seen_and_the_mask_of_the_query_goes_on():
    layer = jc.MultiHeadAttention(2, 3)
    params, (query, value) = drawn(layer, [QUERY, VALUE])
    masks = [np.arange(4) < np.array([[4], [2]]), np.arange(5) < np.array([[3], [5]])]
    y, effects = layer.apply_fn.forward(params, [query, value], mask=masks)
    np.testing.assert_array_equal(effects.mask, masks[0])
    np.testing.assert_allclose(y[0], layer.apply_fn(params, [query, value[:, :3]])[0], rtol=1e-5)
    np.testing.assert_allclose(y[1, :2], layer.apply_fn(params, [query, value])[1, :2], rtol=1e-5)
    assert layer.apply_fn.forward(params, [query, value], mask=[None, masks[1]])[1].mask is None


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [False, True])
def test_attention_over_two_of_three_axes_is_that_over_one_axis_of_pairs(hidden):
    layer, flat = jc.MultiHeadAttention(2, 3, attention_axes=[1, -2]), jc.MultiHeadAttention(2, 3)
    params, (query, value) = drawn(layer, [(2, 2, 5, 3, 4), (2, 3, 5, 2, 4)])
    visible = np.random.default_rng(0).random((2, 2, 3, 3, 2)) < 0.7
    y = layer.apply_fn(params, [query, value, value, visible] if hidden else [query, value])
    for place in (0, 4):
        one, other = (v[:, :, place].reshape(2, 6, 4) for v in (query, value))
        x = [one, other, other, visible.reshape(2, 6, 6)] if hidden else [one, other]
        np.testing.assert_allclose(y[:, :, place].reshape(2, 6, 4), flat.apply_fn(params, x), rtol=1e-5, atol=1e-6)


def test_the_axes_of_an_attention_mask_are_in_the_order_of_attention_axes_as_in_keras():
    layer = jc.MultiHeadAttention(2, 3, attention_axes=[2, 1])
    params, x = drawn(layer, [(2, 3, 3, 2), (2, 3, 3, 4)])
    visible = np.random.default_rng(0).random((2, 3, 3, 3, 3)) < 0.7
    other = theirs(layer, [v.shape for v in x])
    values = [*zip(other.trainable_variables, keras_values(params, layer)[0], strict=True)]
    with keras_rules(), keras.StatelessScope(values):
        want = other(*x, attention_mask=visible)
    assert_close(layer.apply_fn(params, [*x, x[1], visible]), want, "output")


@pytest.mark.parametrize("dropout", [0, 0.5])
def test_a_query_that_sees_nothing_gives_what_keras_gives(dropout):
    layer = jc.MultiHeadAttention(2, 3, dropout=dropout)
    params, x = drawn(layer, [QUERY, VALUE])
    visible = np.random.default_rng(1).random((2, 4, 5)) < 0.6
    visible[0, 1] = False
    other = theirs(layer, [v.shape for v in x])
    values = [*zip(other.trainable_variables, keras_values(params, layer)[0], strict=True)]
    with keras_rules(), keras.StatelessScope(values):
        want = other(*x, attention_mask=visible)
    assert_close(layer.apply_fn(params, [*x, x[1], visible]), want, "output")


@pytest.mark.slow
def test_dropout_drops_weights_and_scales_what_is_left():
    layer = jc.MultiHeadAttention(1, 2, dropout=0.5, use_bias=False)
    params, x = drawn(layer, [(3, 500, 2), (3, 1, 2)])
    y = layer.apply_fn(params, x)
    dropped = layer.apply_fn.forward(params, x, train=True, key=KEY)[0]
    kept = jnp.abs(dropped).max(-1) > 0  # with one value, each weight is 1
    np.testing.assert_allclose(dropped, jnp.where(kept[..., None], 2 * y, 0), rtol=1e-5)
    assert 0.4 < kept.mean() < 0.6
    nothing = jc.MultiHeadAttention(1, 2, dropout=1.0, use_bias=False)
    assert (nothing.apply_fn.forward(params, x, train=True, key=KEY)[0] == 0).all()
    with pytest.raises(ValueError, match="key"):
        layer.apply_fn.forward(params, x, train=True)


def test_a_model_with_attention_is_written_as_keras_calls_it():
    x, y = jc.Input((4, 6), name="x"), jc.Input((4, 4), name="seen")
    attend = jc.MultiHeadAttention(2, 3, use_causal_mask=True, name="attend")
    model = jc.Model([x, y], attend([x, x, x, y]))
    config = model.get_config()
    (node,) = config["layers"][-1]["inbound_nodes"]
    assert len(node["args"]) == 2 and node["kwargs"]["use_causal_mask"] is True
    assert sorted(node["kwargs"]) == ["attention_mask", "key", "use_causal_mask"]
    assert jc.Model.from_config(config) == model
    node["kwargs"]["return_attention_scores"] = True
    with pytest.raises(ValueError, match="return_attention_scores"):
        jc.Model.from_config(config)


@pytest.mark.parametrize(
    "options, shapes, facts",
    [
        ({}, [QUERY], "1 inputs"),
        ({}, [(2, 3), (2, 3)], r"\(batch, steps, channels\)"),
        ({}, [QUERY, (2, 5, 4, 3)], "ranks 3 and 4"),
        ({}, [QUERY, (3, 5, 3)], "axis 0 has 2 and 3"),
        ({}, [QUERY, (2, 0, 3)], "length 0"),
        ({}, [QUERY, VALUE, (2, 4, 6)], "axis 1 has 5 and 4"),
        ({}, [QUERY, VALUE, VALUE, (2, 5, 4)], r"\(2, 5, 4\).*\(2, 4, 5\) or \(2, 2, 4, 5\)"),
        ({"attention_axes": 2}, [QUERY, VALUE], r"attention_axes=\(2,\).*1 to 1"),
        ({"attention_axes": 2}, [(2, 4, 5, 3), (2, 3, 5, 3)], "axis 1 has 4 and 3"),
        ({"use_causal_mask": True}, [(2, 4, 5, 3)] * 2, r"one axis.*\(1, 2\)"),
        ({}, [(2, 4, None), VALUE], "channel count"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(options, shapes, facts):
    with pytest.raises(ValueError, match=facts):
        jc.MultiHeadAttention(2, 3, **options).init(KEY, shapes)


def test_invalid_options_are_refused():
    for options, facts in [
        ({"num_heads": 0}, "num_heads=0"),
        ({"value_dim": 0}, "value_dim=0"),
        ({"dropout": 2}, "dropout=2"),
        ({"sliding_window": 0}, "sliding_window=0"),
        ({"flash_attention": True}, "flash_attention=True"),
        ({"attention_axes": []}, "attention_axes"),
    ]:
        with pytest.raises(ValueError, match=facts):
            jc.MultiHeadAttention(**({"num_heads": 2, "key_dim": 3} | options))
