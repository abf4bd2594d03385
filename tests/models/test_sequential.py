"""Sequential: names, params, options for all layers inside, errors that name the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers, merge

X = jnp.ones((2, 10, 3))


def stack(**options):
    return jc.Sequential([jc.Conv1D(4, 3), jc.BatchNormalization(), jc.Flatten(), jc.Dense(2)], **options)


def test_layers_are_applied_one_after_the_other(key):
    params, apply_fn = stack().init(key, X)
    y = X
    for name, layer in stack().children.items():
        y = layer.apply_fn(params.get(name, {}), y)
    np.testing.assert_array_equal(apply_fn(params, X), y)


def test_names_are_counted_as_keras_counts_them():
    model = jc.Sequential(
        [jc.Conv1D(1, 1), jc.MaxPooling1D(), jc.Conv1D(1, 1), jc.Conv1D(1, 1, name="own"), jc.Conv1D(1, 1)]
    )
    assert model.names == ("conv1d", "max_pooling1d", "conv1d_1", "own", "conv1d_2")


def test_a_counted_name_leaves_given_ones_alone(key):
    model = jc.Sequential([jc.Dense(1), jc.Dense(1), jc.Dense(1, name="dense"), jc.Dense(1, name="dense_2")])
    assert model.names == ("dense_1", "dense_3", "dense", "dense_2")
    assert sorted(model.init(key, (None, 2))[0]) == sorted(model.names)


def test_layers_without_weights_have_no_params(key):
    assert list(stack().init(key, X)[0]) == ["conv1d", "batch_normalization", "dense"]


def test_an_empty_stack_casts_and_does_no_more(key):
    params, apply_fn = jc.Sequential([], dtype="bfloat16").init(key, X)
    assert params == {} and apply_fn(params, X).dtype == jnp.bfloat16


def test_not_trainable_holds_for_all_layers_inside(key):
    inner = jc.Sequential([jc.Dense(2, kernel_regularizer="l2")])
    params, apply_fn = jc.Sequential([inner, jc.BatchNormalization()], trainable=False).init(key, (None, 3))
    assert jax.tree.leaves(apply_fn.split(params)[0]) == []
    assert apply_fn.penalty(params) == 0
    _, effects = apply_fn.forward(params, jnp.ones((4, 3)), train=True)
    np.testing.assert_array_equal(effects.fixed["batch_normalization"]["moving_mean"], 0)


def test_dtype_holds_for_layers_that_have_none_of_their_own(key):
    model = jc.Sequential([jc.Dense(2), jc.Sequential([jc.Dense(2)]), jc.Dense(2, dtype="float32")], dtype="bfloat16")
    params, apply_fn = model.init(key, (None, 3))
    assert [v.dtype.name for v in jax.tree.leaves(params)] == ["bfloat16"] * 2 + ["float32"] * 2 + ["bfloat16"] * 2
    assert apply_fn(params, jnp.ones((1, 3))).dtype == jnp.float32


def test_input_shape_of_the_stack_or_of_its_first_layer(key):
    first = jc.Sequential([jc.Dense(2, input_shape=(3,)), jc.Dense(1)])
    assert first.init(key)[0]["dense"]["kernel"].shape == (3, 2)
    assert jc.Sequential([jc.Dense(2)], input_shape=(5,)).init(key)[0]["dense"]["kernel"].shape == (5, 2)
    assert first.init(key, (None, 7))[0]["dense"]["kernel"].shape == (7, 2)
    with pytest.raises(ValueError, match="Sequential: init needs an input shape"):
        jc.Sequential([jc.Dense(2)]).init(key)


def test_shapes_lists_what_each_layer_gives():
    assert stack().shapes((None, 10, 3)) == [(None, 8, 4), (None, 8, 4), (None, 32), (None, 2)]


def test_effects_penalty_is_the_sum_of_all(key):
    activity = jc.regularizers.L1(1.0)
    model = jc.Sequential([jc.Activation(None, activity), jc.Sequential([jc.Activation(None, activity)])])
    assert model.apply_fn.forward({}, jnp.full((2, 3), 2.0))[1].penalty == 2 * 2 * 3 * 2 / 2


def test_penalty_and_projection_reach_nested_weights(key):
    inner = jc.Sequential([jc.Dense(1, kernel_regularizer=jc.regularizers.L2(1.0), kernel_constraint="non_neg")])
    apply_fn = jc.Sequential([inner]).apply_fn
    params = {"sequential": {"dense": {"kernel": jnp.array([[-2.0], [1.0]]), "bias": jnp.zeros(1)}}}
    assert apply_fn.penalty(params) == 5
    np.testing.assert_array_equal(apply_fn.project(params)["sequential"]["dense"]["kernel"], [[0], [1]])


@pytest.mark.slow
def test_a_training_step_by_hand_moves_statistics_and_weights(key):
    params, apply_fn = stack().init(key, X)
    trainable, fixed = apply_fn.split(params)
    x = jax.random.normal(key, X.shape)

    def loss(trainable):
        y, effects = apply_fn.forward(merge(trainable, fixed), x, train=True)
        return jnp.sum(jnp.square(y)), effects.fixed

    grads, fixed = jax.grad(loss, has_aux=True)(trainable)
    new = merge(jax.tree.map(lambda p, g: p - 0.1 * g, trainable, grads), fixed)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    assert not jnp.array_equal(new["batch_normalization"]["moving_mean"], params["batch_normalization"]["moving_mean"])
    assert not jnp.array_equal(new["dense"]["kernel"], params["dense"]["kernel"])


@pytest.mark.parametrize(
    "given, kind, message",
    [
        (None, TypeError, "layers=None is not a list"),
        (jc.Flatten(), TypeError, "is not a list; give one like"),
        ([jc.Flatten], TypeError, "is not a layer; call it"),
        (["Flatten"], TypeError, "'Flatten' is not a layer"),
        ([jc.Flatten(), None], TypeError, "None is not a layer"),
        ([jc.Flatten(name="a"), jc.Dense(1, name="a")], ValueError, "2 layers have the name 'a'; names must differ"),
    ],
)
def test_anything_but_a_list_of_layers_raises(given, kind, message):
    with pytest.raises(kind, match=f"Sequential: .*{message}"):
        jc.Sequential(given)


def test_an_error_inside_says_where_and_with_which_shape(key):
    model = jc.Sequential([jc.MaxPooling1D(4), jc.Sequential([jc.Conv1D(2, 3, name="late")], name="block")])
    message = r"block, given shape \(None, 2, 3\): late, given shape \(None, 2, 3\): Conv1D: input of length 2"
    with pytest.raises(ValueError, match=message):
        model.init(key, (None, 10, 3))
    params, apply_fn = model.init(key, (None, 20, 3))
    with pytest.raises(ValueError, match=message.replace("None", "2")):
        apply_fn(params, X)


def test_an_error_of_the_user_s_own_function_keeps_its_traceback(key):
    def broken(y):
        raise TypeError("my own mistake")

    params, apply_fn = jc.Sequential([jc.Dense(2, activation=broken)]).init(key, (None, 3))
    with pytest.raises(TypeError, match=r"dense, given shape \(1, 3\): my own mistake") as caught:
        apply_fn(params, jnp.ones((1, 3)))
    assert str(caught.value.__cause__) == "my own mistake"


def test_params_of_another_model_are_refused(key):
    params, apply_fn = stack().init(key, X)
    with pytest.raises(ValueError, match=r"Sequential: params has \[.*'other'\]; the layers here are \['conv1d', "):
        apply_fn({**params, "other": {}}, X)
    with pytest.raises(ValueError, match=r"dense, given shape \(2, 32\): Dense: params has \[\]"):
        apply_fn({k: v for k, v in params.items() if k != "dense"}, X)
    with pytest.raises(ValueError, match=r"Sequential: params .* array of shape \(2, 10, 3\), not a dict"):
        apply_fn(X, params)


def test_config_has_the_form_of_keras():
    config = layers.serialize(stack(name="net"))
    assert (config["module"], config["class_name"], config["config"]["name"]) == ("keras", "Sequential", "net")
    assert [layer["class_name"] for layer in config["config"]["layers"]] == [
        "Conv1D",
        "BatchNormalization",
        "Flatten",
        "Dense",
    ]
    assert layers.get(config) == stack(name="net")


@pytest.mark.slow
def test_a_model_is_exported_for_three_platforms_with_batch_and_length_left_open():
    model = jc.Sequential(
        [
            jc.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
            jc.Conv1D(4, 3, padding="same"),
            jc.BatchNormalization(),
            jc.MaxPooling1D(2),
            jc.AveragePooling1D(2, padding="same"),
            jc.GlobalAveragePooling1D(),
            jc.Dense(2),
        ]
    )
    params, apply_fn = model.init(jax.random.key(0), (None, 32, 3))
    batch, time = jax.export.symbolic_shape("b, t", constraints=["t >= 16"])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(apply_fn), platforms=platforms)(
        shapes, jax.ShapeDtypeStruct((batch, time, 3), jnp.float32)
    )
    x = jax.random.normal(jax.random.key(1), (2, 40, 3))
    np.testing.assert_allclose(exported.call(params, x), apply_fn(params, x), atol=1e-6)
