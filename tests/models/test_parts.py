"""Parts of models: one layer, a slice, the model up to a layer; on the params of the whole model."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import merge
from jaxconv.contract.tap import tap

X = jax.random.normal(jax.random.key(1), (2, 8, 3))


def stack(**options):
    encoder = jc.Sequential([jc.Conv1D(4, 3), jc.BatchNormalization()], name="encoder")
    last = [jc.Conv1D(2, 2, kernel_regularizer="l2", kernel_constraint="max_norm"), jc.Flatten(), jc.Dense(2)]
    return jc.Sequential([encoder, jc.Conv1D(3, 2), *last], **options)


def graph():
    x = jc.Input((8, 3), name="x")
    h = jc.Conv1D(4, 3, padding="same", activation="tanh")(x)
    return jc.Model(x, jc.Dense(2)(jc.Flatten()(jc.Add()([h, jc.Conv1D(4, 1)(x)]))))


def values(apply_fn, params, x):
    found = {}
    with tap(lambda path, y, _: found.setdefault(path, y)):
        apply_fn(params, x)
    return found


def test_a_sequential_is_a_sequence_of_layers():
    model = stack()
    assert len(model) == 5 and list(model) == list(model.layers) == [model[i] for i in range(5)]
    assert model["conv1d_1"] is model[2] and model[-1] == jc.Dense(2)
    assert model["encoder/conv1d"] == jc.Conv1D(4, 3)
    assert graph()["flatten"] == jc.Flatten(name="flatten") and len(graph()) == 5
    assert isinstance(model[:1], jc.Sequential) and len(model[5:]) == 0
    dense = jc.Dense(3)
    shared = jc.Sequential([dense, jc.ReLU(), dense])  # one layer, called twice
    assert len(shared) == len(list(shared)) == 3 and shared[2] is shared[0] and len(shared[1:]) == 2


@pytest.mark.parametrize("part", [slice(3), slice(1, 3), slice(2, None), slice(-2, None), slice(0)], ids=str)
def test_a_slice_computes_with_the_params_of_the_whole(part, key):
    model = stack()
    params, apply_fn = model.init(key, X.shape)
    inner = values(apply_fn, params, X)
    before = [X, *(inner[name] for name in model.names)]
    start, stop, _ = part.indices(5)
    got = model[part].apply_fn(params, before[start])
    np.testing.assert_array_equal(got, before[stop])
    own = {name: params[name] for name in model.names[part] if name in params}
    np.testing.assert_array_equal(model[part].apply_fn(own, before[start]), got)
    assert model[part].names == model.names[part]
    assert jax.tree.structure(model[part].init(key, before[start])[0]) == jax.tree.structure(own)


@pytest.mark.parametrize("name", ["conv1d", "add", "flatten"])
def test_a_graph_until_a_layer_computes_with_the_params_of_the_whole(name, key):
    params, apply_fn = graph().init(key)
    got = graph().until(name).apply_fn(params, X)
    np.testing.assert_array_equal(got, values(apply_fn, params, X)[name])
    np.testing.assert_array_equal(stack().until("encoder").apply_fn({**stack().init(key, X)[0]}, X).shape, (2, 6, 4))


def test_the_rest_of_the_params_is_fixed_and_unchanged(key):
    part = stack()[1:3]
    params = jax.tree.map(lambda leaf: leaf + 3, stack().init(key, X)[0])
    trainable, fixed = part.apply_fn.split(params)
    assert {path[0].key for path, _ in jax.tree.leaves_with_path(trainable)} == {"conv1d", "conv1d_1"}
    assert {path[0].key for path, _ in jax.tree.leaves_with_path(fixed)} == {"encoder", "dense"}
    jax.tree.map(np.testing.assert_array_equal, merge(trainable, fixed), params)
    _, effects = part.apply_fn.forward(params, jnp.ones((2, 6, 4)), train=True)
    jax.tree.map(np.testing.assert_array_equal, effects.fixed, fixed)
    assert part.apply_fn.penalty(params) == stack().apply_fn.penalty(params)
    projected = part.apply_fn.project(params)
    assert jnp.array_equal(projected["dense"]["kernel"], params["dense"]["kernel"])
    assert not jnp.array_equal(projected["conv1d_1"]["kernel"], params["conv1d_1"]["kernel"])


def test_a_part_is_an_ordinary_model(key):
    part = stack(trainable=False, dtype="bfloat16", input_shape=(8, 3))[:2]
    assert part == jc.Sequential.from_config(json.loads(json.dumps(part.get_config())))
    assert "other_names" not in repr(part) + str(part.get_config())
    assert (part.trainable, part.dtype, part.known_input_shape) == (False, "bfloat16", (None, 8, 3))
    assert part[1:].known_input_shape is None and part[1:].other_names == ("conv1d_1", "flatten", "dense", "encoder")
    assert dataclasses.replace(part, trainable=True).other_names == part.other_names
    whole = jc.Sequential([stack()[:3], stack()[3:]])
    assert whole.output_shape(X.shape) == (2, 2)
    params, _ = stack().init(key, X)
    inference, _ = jc.optimize(stack()[:2], params)
    assert inference.output_shape(X.shape) == (2, 5, 3)
    streamed = jc.stream(stack()[:2], (None, None, 3)).run(params, X)
    np.testing.assert_allclose(streamed, stack()[:2].apply_fn(params, X), rtol=1e-5, atol=1e-6)


def test_a_model_as_a_branch_is_one_layer(key):
    branch = jc.Sequential([jc.Conv1D(2, 3, padding="same"), jc.ReLU()], name="branch")
    assert list(jc.Parallel([branch, [jc.ReLU()]]).init(key, X)[0]) == ["branch"]


def test_params_of_another_model_and_unknown_layers_are_errors(key):
    model = stack()
    params, _ = model.init(key, X)
    with pytest.raises(ValueError, match=r"'more'"):
        model[:2].apply_fn({**params, "more": {}}, X)
    with pytest.raises(ValueError, match=r"'dense'"):
        jc.Sequential(model.layers[:2]).apply_fn(params, X)
    for name in ("encodr", "encodr/conv1d"):
        with pytest.raises(ValueError, match=r"'encodr'.*'encoder'"):
            model[name]
    with pytest.raises(ValueError, match=r"'conv2d'.*'conv1d'"):
        model["encoder/conv2d"]
    with pytest.raises(ValueError, match=r"'flaten'.*'flatten'"):
        model.until("flaten")
    with pytest.raises(IndexError, match=r"\[5\].*5 layers"):
        model[5]
    with pytest.raises(TypeError, match=r"1\.0"):
        model[1.0]
    with pytest.raises(TypeError, match="slice"):
        graph()[:2]
