"""Graphs: values of networks written by hand and of Keras's models; sharing, nesting, configs, errors."""

import copy
import dataclasses
import json
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers, merge
from tests.support.catalogue import inputs, randomised
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)


def unet():
    """Return a net of two levels with a skip connection, BatchNormalization and Dropout in it."""
    x = jc.Input((8, 6, 2), name="image")
    down = jc.BatchNormalization()(jc.Conv2D(3, 3, padding="same", activation="relu")(x))
    low = jc.Conv2D(4, 3, padding="same", activation="tanh")(jc.MaxPooling2D(2)(down))
    up = jc.Dropout(0.3)(jc.UpSampling2D(2, interpolation="bilinear")(low))
    joined = jc.Concatenate()([up, down])
    return jc.Model(x, jc.Conv2D(1, 1, activation="sigmoid")(joined), name="unet"), (2, 8, 6, 2)


def two_in_two_out():
    """Return a net of a sequence and a vector, as a dict, that gives a sequence and a vector, as a dict."""
    sound, speaker = jc.Input((7, 3), name="sound"), jc.Input((4,), name="speaker")
    steps = jc.Conv1D(5, 3, padding="causal", kernel_regularizer="l2")(sound)
    bias = jc.RepeatVector(7)(jc.Dense(5)(speaker))
    mixed = jc.Activation("elu", activity_regularizer="l1")(jc.Add()([steps, bias]))
    voice = jc.Dense(2, "softmax", name="voice")(jc.GlobalAveragePooling1D()(mixed))
    model = jc.Model({"sound": sound, "speaker": speaker}, {"steps": mixed, "voice": voice})
    return model, {"sound": (3, 7, 3), "speaker": (3, 4)}


def siamese():
    """Return the cosine of two sequences under one shared encoder, which holds a statistic too."""
    left, right = jc.Input((6, 2), name="left"), jc.Input((6, 2), name="right")
    conv, norm, pool = jc.Conv1D(4, 3, activation="tanh"), jc.BatchNormalization(), jc.GlobalMaxPooling1D()
    encoded = [pool(norm(conv(x))) for x in (left, right)]
    return jc.Model([left, right], jc.Dot(1, normalize=True)(encoded)), [(3, 6, 2), (3, 6, 2)]


def nested():
    """Return a model that holds a model of two outputs, called twice, and a Sequential."""
    x = jc.Input((6, 4))
    half = jc.Model(x, [jc.Conv1D(2, 1)(x), jc.Conv1D(2, 3, padding="same", activation="gelu")(x)], name="halves")
    y = jc.Input((6, 4), name="y")
    once = jc.Concatenate()(half(y))
    twice = jc.Maximum()(half(once))
    top = jc.Sequential([jc.Flatten(), jc.Dense(3, name="d"), jc.BatchNormalization(name="n")], name="top")
    return jc.Model([y], [top(twice), once]), (2, 6, 4)


def shared_at_two_depths():
    """Return A(B(A(B(x)))): shared layers whose calls lie at different depths."""
    a, b = jc.Dense(3, "tanh", name="a"), jc.Dense(3, "elu", name="b")
    x = jc.Input((3,))
    return jc.Model(x, a(b(a(b(x))))), (2, 3)


NETS = {net.__name__: net for net in (unet, two_in_two_out, siamese, nested, shared_at_two_depths)}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def made(net):
    model, shape = net()
    params, apply_fn = model.init(KEY, shape)
    return model, randomised(params), apply_fn, inputs(shape)


def assert_close(got, want, rtol=2e-6):
    """Compare to some rounding errors of float32, relative to the largest entry: sums of many terms cancel."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol, atol=rtol * max(float(np.abs(b).max(initial=0)), 1e-2))


# -- values


@pytest.mark.slow
def test_unet_is_the_net_written_by_hand():
    model, params, apply_fn, x = made(unet)
    assert model.names == (
        "conv2d",
        "batch_normalization",
        "max_pooling2d",
        "conv2d_1",
        "up_sampling2d",
        "dropout",
        "concatenate",
        "conv2d_2",
    )

    def by_hand(params, x):
        down = model.children["conv2d"].apply_fn(params["conv2d"], x)
        down = model.children["batch_normalization"].apply_fn(params["batch_normalization"], down)
        low = jc.Conv2D(4, 3, padding="same", activation="tanh").apply_fn(
            params["conv2d_1"], jc.MaxPooling2D(2).apply_fn({}, down)
        )
        up = jc.UpSampling2D(2, interpolation="bilinear").apply_fn({}, low)
        return jc.Conv2D(1, 1, activation="sigmoid").apply_fn(params["conv2d_2"], jnp.concatenate([up, down], -1))

    assert_close(jax.jit(apply_fn)(params, x), jax.jit(by_hand)(params, x))
    grads = [jax.jit(jax.grad(lambda p, f=f: jnp.sum(jnp.square(f(p, x)))))(params) for f in (apply_fn, by_hand)]
    assert_close(*grads, rtol=1e-5)


@pytest.mark.slow
def test_siamese_has_one_set_of_params_and_its_gradients_add_up():
    model, params, apply_fn, (left, right) = made(siamese)
    assert set(params) == {"conv1d", "batch_normalization"}
    encoder = jc.Sequential(model.layers[:3])

    def cosine(u, v):
        return (
            jnp.sum(u * v, -1, keepdims=True)
            / jnp.linalg.norm(u, axis=-1, keepdims=True)
            / jnp.linalg.norm(v, axis=-1, keepdims=True)
        )

    def by_hand(one, other):
        return cosine(encoder.apply_fn(one, left), encoder.apply_fn(other, right))

    assert_close(apply_fn(params, [left, right]), by_hand(params, params))
    got = jax.grad(lambda p: jnp.sum(apply_fn(p, (left, right))))(params)
    parts = jax.grad(lambda p, q: jnp.sum(by_hand(p, q)), (0, 1))(params, params)
    assert_close(got, jax.tree.map(jnp.add, *parts), rtol=1e-4)  # a cosine's gradients cancel


def test_shared_statistics_go_on_from_the_last_call():
    norm = jc.BatchNormalization(momentum=0.5)
    x = jc.Input((2,))
    model = jc.Model(x, norm(norm(x)))
    params, apply_fn = model.init(KEY)
    ones = jnp.ones((4, 2)) * 8
    fixed = apply_fn.forward(params, ones, train=True)[1].fixed["batch_normalization"]
    # the first call sees a mean of 8: 0 -> 4; the second sees zeros: 4 -> 2
    np.testing.assert_allclose(fixed["moving_mean"], 2.0)
    assert apply_fn.forward(params, ones)[1].fixed["batch_normalization"]["moving_mean"] is not None


def test_equal_layers_are_two_and_one_layer_object_is_one():
    x = jc.Input((3,))
    one, other = jc.Dense(3), jc.Dense(3)
    assert one == other
    two = jc.Model(x, other(one(x)))
    shared = jc.Model(x, one(one(x)))
    assert two != shared
    params = two.init(KEY)[0]
    assert set(params) == {"dense", "dense_1"} and set(shared.init(KEY)[0]) == {"dense"}
    assert not np.array_equal(params["dense"]["kernel"], params["dense_1"]["kernel"])


def test_two_calls_of_a_shared_dropout_use_different_masks():
    drop, x = jc.Dropout(0.5), jc.Input((50,))
    model = jc.Model(x, [drop(x), drop(x)])
    first, second = model.apply_fn.forward({}, jnp.ones((1, 50)), train=True, key=KEY)[0]
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match="draws random numbers and got no key"):
        model.apply_fn.forward({}, jnp.ones((1, 50)), train=True)


def test_outputs_come_in_the_structure_that_was_asked_for():
    x = jc.Input((3,), name="x")
    y = jc.Dense(2)(x)
    one = jnp.ones((1, 3))
    for outputs, want in [
        (y, 0),
        ([y], 0),
        ((y, x), [0, 0]),
        ({"a": y, "b": [x, y]}, {"a": 0, "b": [0, 0]}),
        ({"a": y}, {"a": 0}),
    ]:
        params, apply_fn = jc.Model(x, outputs).init(KEY)
        assert jax.tree.structure(apply_fn(params, one)) == jax.tree.structure(want)


def test_inputs_may_be_given_by_name_in_any_structure():
    a, b = jc.Input((2,), name="a"), jc.Input((2,), name="b")
    apply_fn = jc.Model([b, a], jc.Subtract()([a, b])).apply_fn
    big, small = jnp.full((1, 2), 3.0), jnp.ones((1, 2))
    for given in ([small, big], (small, big), {"a": big, "b": small}):
        np.testing.assert_array_equal(apply_fn({}, given), [[2.0, 2.0]])
    p, q = jc.Input((2,)), jc.Input((2,))
    assert [s.name for s in jc.Model({"q": q, "p": p}, jc.Add()([p, q])).sources] == ["p", "q"]
    single = jc.Model(a, jc.Flatten()(a)).apply_fn
    np.testing.assert_array_equal(single({}, [big]), single({}, big))


def test_penalties_of_shared_and_nested_layers_count_weights_once():
    dense, x = jc.Dense(2, kernel_regularizer="l2"), jc.Input((2,))
    inner = jc.Model(x, dense(dense(x)))
    model = jc.Model(x, inner(x))
    params, apply_fn = model.init(KEY)
    kernel = params["functional"]["dense"]["kernel"]
    np.testing.assert_allclose(apply_fn.penalty(params), 0.01 * np.sum(np.square(kernel)), rtol=1e-6)


def test_trainable_and_dtype_hold_for_all_layers_inside():
    x = jc.Input((4, 2))
    inner = jc.Sequential([jc.Conv1D(2, 2), jc.BatchNormalization()])
    model = jc.Model(x, jc.Dense(2, dtype="float32")(inner(x)), trainable=False, dtype="mixed_bfloat16")
    params, apply_fn = model.init(KEY)
    assert jax.tree.leaves(apply_fn.split(params)[0]) == []
    assert [layer.dtype for layer in model.layers[0].layers] == ["mixed_bfloat16"] * 2
    assert apply_fn(params, jnp.ones((1, 4, 2))).dtype == jnp.float32


def test_input_dtype_reaches_the_first_layer():
    ids = jc.Input((3,), dtype="int32", name="ids")
    apply_fn = jc.Model(ids, jc.Flatten()(ids)).apply_fn
    assert apply_fn({}, np.array([[1, 2, 3]])).dtype == jnp.float32  # Flatten's own policy
    with pytest.raises(TypeError, match=r"input 'ids' has type float32; its Input .*int32"):
        apply_fn({}, jnp.ones((1, 3)))


def test_a_model_may_begin_and_end_in_the_middle():
    model, params, apply_fn, x = made(unet)
    low = jc.Model(model.inputs, model.tensor("conv2d_1"))
    rest = jc.Model([model.tensor("conv2d_1"), model.tensor("batch_normalization")], model.outputs)
    assert low.names == ("conv2d", "batch_normalization", "max_pooling2d", "conv2d_1")
    assert set(rest.init(KEY)[0]) == {"conv2d_2"}

    def part(sub, x):
        return sub.apply_fn({name: params[name] for name in sub.names if name in params}, x)

    skip = part(jc.Model(model.inputs, model.tensor("batch_normalization")), x)
    assert_close(part(rest, [part(low, x), skip]), apply_fn(params, x))
    with pytest.raises(ValueError, match=r"unet: .*'conv2d_9'; did you mean 'conv2d"):
        model.tensor("conv2d_9")
    with pytest.raises(ValueError, match="conv2d is called 1 time"):
        model.tensor("conv2d", 1)


def test_map_layers_keeps_graph_and_names():
    model, _ = siamese()
    frozen = model.map_layers(lambda name, layer: dataclasses.replace(layer, trainable=False))
    assert frozen.names == model.names and frozen.graph.calls == model.graph.calls
    params, apply_fn = frozen.init(KEY)
    assert jax.tree.leaves(apply_fn.split(params)[0]) == []


@pytest.mark.slow
def test_a_graph_of_a_thousand_layers_needs_no_recursion():
    x = y = jc.Input((2,))
    for _ in range(1000):
        y = jc.Add()([y, x])
    model = jc.Model(x, y)
    assert model.names[-1] == "add_999"
    np.testing.assert_allclose(model.apply_fn({}, jnp.ones((1, 2))), 1001.0)
    assert pickle.loads(pickle.dumps(model)) == model


# -- the contract


@every_net
def test_models_built_alike_are_equal_hash_equal_and_compile_once(net):
    (model, shape), (again, _) = net(), net()
    assert model == again and hash(model) == hash(again) and model.apply_fn == again.apply_fn
    assert pickle.loads(pickle.dumps(model)) == model and copy.deepcopy(model) == model
    assert dataclasses.replace(model, trainable=False) != model
    traces = []

    def run(apply_fn, params, x):
        traces.append(1)
        return apply_fn(params, x)

    jitted = jax.jit(run, static_argnums=0)
    params, apply_fn = model.init(KEY, shape)
    jitted(apply_fn, params, inputs(shape))
    jitted(again.apply_fn, params, inputs(shape))
    assert len(traces) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "other"


@every_net
def test_config_round_trip_is_equal(net):
    model, shape = net()
    again = jc.Model.from_config(json.loads(json.dumps(model.get_config())))
    assert again == model
    assert layers.get(json.loads(json.dumps(layers.serialize(model)))) == model
    assert_close(again.init(KEY, shape)[0], model.init(KEY, shape)[0], rtol=0)


def test_shape_comes_from_the_inputs_or_from_the_call():
    x = jc.Input((None, 2), batch_size=4)
    model = jc.Model(x, jc.Conv1D(3, 3)(x))
    assert model.output_shape((4, 9, 2)) == (4, 7, 3) and model.output_shape((None, None, 2)) == (4, None, 3)
    assert model.init(KEY)[0]["conv1d"]["kernel"].shape == (3, 2, 3)


def test_a_model_is_a_layer_of_a_sequential_and_a_sequential_may_begin_with_an_input():
    model, shape = two_in_two_out()
    one = jc.Model(model.inputs, model.tensor("voice"))
    stack = jc.Sequential([one, jc.Dense(3)])
    params, apply_fn = stack.init(KEY, shape)
    assert set(params) == {"functional", "dense"} and apply_fn(params, inputs(shape)).shape == (3, 3)
    halves = jc.Sequential([nested()[0].children["halves"], jc.Add()])
    assert halves.output_shape((None, 6, 4)) == (None, 6, 2)
    begun = jc.Sequential([jc.Input((10, 3)), jc.Flatten(), jc.Dense(2)])
    assert begun == jc.Sequential([jc.Flatten(), jc.Dense(2)], input_shape=(10, 3))
    assert begun.init(KEY)[0]["dense"]["kernel"].shape == (30, 2)


# -- Keras


def assign(model, params):
    """Return Keras's model our params, by the names of its layers; give the path of each variable as well."""
    paths = {}
    for layer in model.layers:
        own = params.get(layer.name, {})
        if hasattr(layer, "layers"):
            paths |= {key: (layer.name, *path) for key, path in assign(layer, own).items()}
            continue
        for variable in layer.variables:
            if variable.name in own:
                variable.assign(own[variable.name])
                paths[id(variable)] = (layer.name, variable.name)
    return paths


def at(params, path):
    for name in path:
        params = params[name]
    return params


@pytest.mark.slow
@pytest.mark.parametrize("train", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    "net",
    [pytest.param(net, marks=pytest.mark.slow if net in (unet, nested) else ()) for net in NETS.values()],
    ids=NETS,
)
def test_keras_s_functional_model_of_our_config_gives_the_same_values_and_gradients(net, train):
    model, params, apply_fn, x = made(net)
    if train and net is unet:
        model = model.map_layers(lambda name, layer: jc.Dropout(0) if name == "dropout" else layer)
        apply_fn = model.apply_fn  # the two would draw different numbers
    other = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    with keras_rules():
        paths = assign(other, params)
    assert [layer.name for layer in other.layers if "InputLayer" not in type(layer).__name__] == list(model.names)
    trainable, fixed = apply_fn.split(params)

    def ours(trainable, x):
        y, effects = apply_fn.forward(merge(trainable, fixed), x, train=train, key=KEY)
        return sum(jnp.sum(jnp.square(v)) for v in jax.tree.leaves(y)) + effects.penalty, (y, effects.fixed)

    def theirs(values, x):
        rest = [v.value for v in other.non_trainable_variables]
        y, rest, losses = other.stateless_call(values, rest, x, training=train, return_losses=True)
        activity = losses[0] if net is two_in_two_out else jnp.zeros(())  # Keras lists it before those of weights
        return sum(jnp.sum(jnp.square(v)) for v in jax.tree.leaves(y)) + activity, (y, rest)

    (_, (y, new)), (grads, x_grads) = jax.value_and_grad(ours, (0, 1), has_aux=True)(trainable, x)
    with keras_rules():
        values = [v.value for v in other.trainable_variables]
        (_, (want, state)), (want_grads, want_x) = jax.value_and_grad(theirs, (0, 1), has_aux=True)(values, x)
    assert_close(y, want, rtol=1e-5)
    assert_close(x_grads, want_x, rtol=1e-4)  # a cosine's gradients cancel
    for variable, grad in zip(other.trainable_variables, want_grads, strict=True):
        assert_close(at(grads, paths[id(variable)]), grad, rtol=1e-4)
    for variable, value in zip(other.non_trainable_variables, state, strict=True):
        if id(variable) in paths:
            assert_close(at(merge(trainable, new), paths[id(variable)]), value, rtol=1e-5)


def random_graph(seed):
    """Draw a graph of vectors of length 3, with shared layers, merges and up to three inputs and outputs."""
    rng = np.random.default_rng(seed)
    starts = [jc.Input((3,), name=f"x{i}") for i in range(rng.integers(1, 4))]
    pool = [jc.Dense(3, "tanh") for _ in range(3)]
    tensors, loose = list(starts), set(starts)
    for _ in range(int(rng.integers(3, 9))):
        layer = [pool[rng.integers(3)], jc.Dense(3, "elu"), jc.Add(), jc.Maximum(), jc.Subtract()][rng.integers(5)]
        merges = not isinstance(layer, jc.Dense)
        given = [tensors[i] for i in rng.integers(0, len(tensors), 1 + merges)]
        tensors.append(layer(given if merges else given[0]))
        loose = loose - set(given) | {tensors[-1]}
    ends = [tensor for tensor in tensors if tensor in loose]
    return jc.Model(starts, ends), [(2, 3)] * len(starts)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_equal_keras(seed):
    model, shapes = random_graph(seed)
    assert jc.Model.from_config(json.loads(json.dumps(model.get_config()))) == model
    params, apply_fn = model.init(KEY, shapes)
    params, x = randomised(params), inputs(shapes)
    other = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    with keras_rules():
        assign(other, params)
        want = other(x if len(x) > 1 else x[0])
    named = [layer.name for layer in other.layers if "InputLayer" not in type(layer).__name__]
    assert named == list(model.names)
    assert_close(jax.tree.leaves(apply_fn(params, x)), jax.tree.leaves(want), rtol=1e-5)


@every_net
def test_keras_s_config_of_our_model_loads_as_our_model(net):
    model, _ = net()
    other = keras.Model.from_config(json.loads(json.dumps(model.get_config())))
    again = layers.get(json.loads(json.dumps(keras.saving.serialize_keras_object(other))))
    # Keras writes out the policies and names that ours leaves open
    other_again = keras.Model.from_config(json.loads(json.dumps(again.get_config())))
    first, second = (re.sub(r"input_layer\w*", "", json.dumps(m.get_config())) for m in (other, other_again))
    assert json.loads(first) == json.loads(second)
    assert again.graph.calls == model.graph.calls and again.names == model.names and again.sources == model.sources


def test_a_functional_model_built_in_keras_loads():
    def block(x, filters):
        y = keras.layers.Conv1D(filters, 3, padding="same", activation="relu")(x)
        return keras.layers.Add()([y, keras.layers.Conv1D(filters, 1)(x)])

    x, other_x = keras.Input((9, 2), name="x"), keras.Input((9, 2), name="z")
    shared = keras.layers.Conv1D(4, 1, name="shared")
    inner_x = keras.Input((9, 4))
    inner = keras.Model(inner_x, block(inner_x, 4), name="inner")
    y = inner(shared(x)) + inner(shared(other_x))  # an operator: Keras writes a call with two arguments
    other = keras.Model([x, other_x], {"sum": y, "mean": keras.layers.GlobalAveragePooling1D()(y)})
    ours = layers.get(json.loads(json.dumps(keras.saving.serialize_keras_object(other))))
    assert isinstance(ours, jc.Model) and ours.names[:2] == ("shared", "inner")
    params, apply_fn = ours.init(KEY)
    given = inputs([(2, 9, 2), (2, 9, 2)])
    with keras_rules():
        assign(other, params)
        want = other(given)
    assert_close(apply_fn(params, given), {"sum": want["sum"], "mean": want["mean"]}, rtol=1e-5)


def test_sequential_config_has_an_input_layer_that_keras_reads():
    model = jc.Sequential([jc.Conv1D(4, 3), jc.Flatten(), jc.Dense(2)], input_shape=(10, 3))
    config = json.loads(json.dumps(layers.serialize(model)))
    assert config["config"]["layers"][0]["class_name"] == "InputLayer"
    other = keras.layers.deserialize(config)
    assert other.input_shape == (None, 10, 3) and other.output_shape == (None, 2)
    assert jc.Sequential.from_config(config["config"]) == model
    assert layers.get(json.loads(json.dumps(keras.layers.serialize(other)))).input_shape == (10, 3)


def test_keras_2_writes_nodes_as_lists_and_they_load():
    def dense(name, units, *given):
        config = {"name": name, "units": units}
        return {"class_name": "Dense", "name": name, "config": config, "inbound_nodes": [[list(g) for g in given]]}

    entry = {"batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "name": "in"}
    config = {
        "name": "old",
        "layers": [
            {"class_name": "InputLayer", "config": entry, "name": "in", "inbound_nodes": []},
            dense("a", 2, ["in", 0, 0, {}]),
            dense("b", 2, ["in", 0, 0, {}]),
            {
                "class_name": "Add",
                "config": {"name": "sum"},
                "name": "sum",
                "inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]],
            },
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["sum", 0, 0]],
    }
    model = jc.Model.from_config(config)
    assert model.names == ("a", "b", "sum") and model.output_shape((5, 3)) == (5, 2)


# -- bad input


def test_the_first_inputs_of_a_model_do_not_lead_to_its_outputs():
    a = jc.Input((3,), name="a")
    model = jc.Model(a, jc.Dense(2)(a))
    with pytest.raises(ValueError, match=r"not among the inputs \(a\); two different Inputs .* model\.inputs"):
        jc.Model(a, jc.Dense(2)(model.outputs))
    jc.Model(model.inputs, jc.Dense(2)(model.outputs))


def test_an_output_that_needs_another_input_names_it():
    a, b = jc.Input((3,), name="a"), jc.Input((3,), name="b")
    with pytest.raises(ValueError, match=r"output 0, at add,.* depends on .*from Input 'b'>, which is not among the"):
        jc.Model(a, jc.Add(name="add")([a, b]))
    with pytest.raises(ValueError, match=r"output 1 depends on .*Input 'b'"):
        jc.Model(a, [jc.Dense(2)(a), b])


def test_an_input_that_nothing_depends_on_is_refused():
    a, b = jc.Input((3,), name="a"), jc.Input((3,), name="b")
    with pytest.raises(ValueError, match="no output depends on 'b'; leave this input out, or connect it"):
        jc.Model([a, b], jc.Dense(2)(a))


def test_one_name_twice_is_refused():
    x = jc.Input((3,), name="x")
    with pytest.raises(ValueError, match="Model: 2 layers have the name 'same'; names must differ"):
        jc.Model(x, jc.Dense(2, name="same")(jc.Dense(3, name="same")(x)))
    with pytest.raises(ValueError, match="2 layers have the name 'x'"):
        jc.Model(x, jc.Dense(2, name="x")(x))
    with pytest.raises(ValueError, match=r"inputs has .* twice"):
        jc.Model([x, x], jc.Add()([x, x]))
    named = jc.Model(x, jc.Dense(2)(jc.Dense(2, name="dense")(x)))
    assert named.names == ("dense", "dense_1")


def test_a_cycle_cannot_be_built_and_is_refused_in_a_config():
    # a symbolic tensor holds what it came from and never changes: only a config can describe a cycle
    x = jc.Input((3,), name="x")
    y = jc.Add(name="sum")([x, jc.Dense(3, name="back")(x)])
    with pytest.raises(dataclasses.FrozenInstanceError):
        y.node = None
    config = jc.Model(x, y).get_config()
    entry = next(entry for entry in config["layers"] if entry["name"] == "back")
    entry["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0] = "sum"
    with pytest.raises(ValueError, match=r"the calls of \['back', 'sum'\]"):
        jc.Model.from_config(config)


def test_a_config_that_lacks_something_says_what():
    x = jc.Input((3,), name="x")
    config = jc.Model(x, jc.Dense(2, name="d")(x)).get_config()
    with pytest.raises(ValueError, match="the config has no 'output_layers'"):
        jc.Model.from_config({key: value for key, value in config.items() if key != "output_layers"})
    with pytest.raises(ValueError, match="output_layers names output 0 of call 3 of 'd'"):
        jc.Model.from_config(config | {"output_layers": ["d", 3, 0]})
    odd = json.loads(json.dumps(config))
    odd["layers"][1]["inbound_nodes"][0]["kwargs"] = {"training": True}
    with pytest.raises(ValueError, match=r"call 0 of 'd' in the config: the layer is called with {'training': True}"):
        jc.Model.from_config(odd)
    odd["layers"][1]["inbound_nodes"][0]["kwargs"] = {"training": False, "mask": None}  # what Keras writes by itself
    assert jc.Model.from_config(odd) == jc.Model(x, jc.Dense(2, name="d")(x))
    odd["layers"][1]["inbound_nodes"][0] = {"args": [3.0], "kwargs": {}}
    with pytest.raises(ValueError, match=r"layer is called with 3\.0"):
        jc.Model.from_config(odd)
    odd["layers"][1]["class_name"] = "Dens"
    with pytest.raises(ValueError, match="layer 'd' of the config: unknown layer 'Dens'; did you mean"):
        jc.Model.from_config(odd)


def test_inputs_that_do_not_fit_name_the_input():
    a, b = jc.Input((3,), name="a"), jc.Input((3,), name="b")
    model = jc.Model([a, b], jc.Add()([a, b]), name="both")
    one = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"both: takes a list of 2 inputs, \['a', 'b'\]; got 3"):
        model.apply_fn({}, [one, one, one])
    with pytest.raises(ValueError, match=r"both: takes a list of 2 inputs, .*; got a ArrayImpl"):
        model.apply_fn({}, one)
    with pytest.raises(ValueError, match=r"takes a dict of the inputs \['a', 'b'\]; got the names \['a', 'c'\]"):
        model.apply_fn({}, {"a": one, "c": one})
    with pytest.raises(ValueError, match=r"both: input 'b' has shape \(2, 4\); its Input .*\(None, 3\)"):
        model.apply_fn({}, [one, jnp.ones((2, 4))])
    with pytest.raises(ValueError, match=r"input 'a' has shape \(3,\)"):
        model.init(KEY, [(3,), (None, 3)])
    with pytest.raises(TypeError, match="both: input 'a' is not an array of numbers"):
        model.apply_fn({}, ["text", one])
    with pytest.raises(ValueError, match=r"params has \['extra'\]; the layers here are \['add'\]"):
        model.apply_fn({"extra": {}}, [one, one])


def test_an_error_of_a_layer_has_its_name_and_shape_in_front():
    x = jc.Input((5, 3))
    with pytest.raises(ValueError, match=r"wide, called on <SymbolicTensor of shape \(None, 5, 3\) .*: Conv1D: .*9"):
        jc.Conv1D(2, 9, name="wide")(x)
    free = jc.Input((None, 3))
    model = jc.Model(free, jc.Conv1D(2, 9, name="wide")(free))
    with pytest.raises(ValueError, match=r"wide, given shape \(2, 5, 3\): Conv1D"):
        model.apply_fn(model.init(KEY)[0], jnp.ones((2, 5, 3)))


def test_a_shared_layer_that_would_need_two_sets_of_weights_is_refused():
    dense, a, b = jc.Dense(2), jc.Input((3,)), jc.Input((4,))
    model = jc.Model([a, b], jc.Add()([dense(a), dense(b)]))
    with pytest.raises(ValueError, match=r"dense, given shape \(None, 4\): the layer is shared, .* \(None, 3\)"):
        model.init(KEY)


def test_anything_but_a_symbolic_tensor_raises():
    x = jc.Input((3,))
    with pytest.raises(TypeError, match="dense: called on symbolic tensors and on a ArrayImpl"):
        jc.Add(name="dense")([x, jnp.ones((1, 3))])
    with pytest.raises(TypeError, match=r"called on several arguments; .* train, key"):
        jc.Add()(x, x)
    with pytest.raises(TypeError, match="a layer stores no weights and cannot be called"):
        jc.Add()([jnp.ones((1, 3))])
    with pytest.raises(TypeError, match="Model: outputs has 3, which is not a symbolic tensor"):
        jc.Model(x, [3])
    with pytest.raises(TypeError, match=r"Model: inputs has .*Dense"):
        jc.Model(jc.Dense(2), x)
    with pytest.raises(ValueError, match=r"Model: outputs=\[\] contains no tensor"):
        jc.Model(x, [])
    with pytest.raises(ValueError, match=r"input_shape=\(3,\) is not an option"):
        jc.Model(x, x, input_shape=(3,))
    with pytest.raises(ValueError, match="Model: unknown argument 'input'"):
        jc.Model(input=x, outputs=x)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({}, ValueError, "got shape=None and batch_shape=None; give one of them"),
        ({"shape": (3,), "batch_shape": (2, 3)}, ValueError, "give one of them"),
        ({"batch_shape": (2, 3), "batch_size": 2}, ValueError, "leave out batch_size=2"),
        ({"shape": (3,), "name": "a/b"}, ValueError, "name='a/b' is not valid"),
        ({"shape": (-3,)}, ValueError, "size -3"),
        ({"shape": (3,), "batch_size": 2.5}, TypeError, "size 2.5"),
        ({"shape": 3}, TypeError, "cannot read 3 as a shape"),
        ({"shape": (3,), "dtype": "float33"}, TypeError, "Input: dtype"),
    ],
)
def test_an_invalid_input_raises(arguments, error, message):
    with pytest.raises(error, match=message):
        jc.Input(**arguments)


def test_symbolic_tensors_say_where_they_are_from():
    x = jc.Input((3,), name="x")
    assert repr(x) == "<SymbolicTensor of shape (None, 3) from Input 'x'>"
    assert repr(jc.Dense(2)(x)) == "<SymbolicTensor of shape (None, 2) from Dense>"
    assert jc.Input((3,)) != jc.Input((3,))
    lines = repr(jc.Model(x, jc.Dense(2)(x))).splitlines()
    assert lines[0] == "Model(inputs (batch, 3);" and "dense: Dense(" in lines[1] and lines[2] == ")"
