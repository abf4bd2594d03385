"""A layer object that occurs twice in a Sequential is one layer, as in Keras and in Model."""

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(2, 9, 4)).astype("float32")


def shared():
    conv = jc.Conv1D(4, 3, padding="causal", activation="tanh")
    return jc.Sequential([conv, jc.BatchNormalization(), conv, jc.Conv1D(4, 3, padding="causal")])


def test_the_same_object_is_shared_and_an_equal_one_is_not():
    params, apply_fn = shared().init(KEY, X)
    assert sorted(params) == ["batch_normalization", "conv1d", "conv1d_1"]
    conv = jc.Conv1D(4, 3)
    assert sorted(jc.Sequential([conv, jc.Conv1D(4, 3)]).init(KEY, X)[0]) == ["conv1d", "conv1d_1"]
    named = jc.Dense(4, name="d")
    assert sorted(jc.Sequential([named, named]).init(KEY, X)[0]) == ["d"]
    with pytest.raises(ValueError, match="2 layers have the name 'd'"):
        jc.Sequential([named, jc.Dense(4, name="d")])
    one, two = (jc.Dense(4).init(KEY, X)[1] for _ in range(2))
    x = jc.Input((9, 4))
    conv = jc.Conv1D(4, 3, padding="causal", activation="tanh")
    last = jc.Conv1D(4, 3, padding="causal")
    graph = jc.Model(x, last(conv(jc.BatchNormalization()(conv(x)))))
    assert one == two
    np.testing.assert_array_equal(apply_fn(params, X), graph.apply_fn(params, X))


def test_a_branch_that_occurs_twice_in_parallel_is_shared():
    conv, other = jc.Conv1D(4, 3, padding="causal"), jc.Conv1D(4, 3, padding="causal")
    model = jc.Parallel([conv, other, conv], merge="add")
    params, apply_fn = model.init(KEY, X)
    assert sorted(params) == ["conv1d", "conv1d_1"] and len(jc.Parallel([conv, other]).init(KEY, X)[0]) == 2
    one, two = (conv.apply_fn(params[name], X) for name in ("conv1d", "conv1d_1"))
    np.testing.assert_allclose(apply_fn(params, X), 2 * one + two, rtol=1e-5, atol=1e-6)
    again = jc.Parallel.from_config(json.loads(json.dumps(model.get_config())))
    frozen = model.map_layers(lambda name, layer: dataclasses.replace(layer, trainable=False))
    assert again == model and sorted(again.init(KEY, X)[0]) == sorted(frozen.init(KEY, X)[0]) == sorted(params)


def keras_output(model):
    with keras_rules():
        return np.asarray(model(X))


def test_values_are_keras_ones():
    conv = keras.layers.Conv1D(4, 3, padding="causal", activation="tanh")
    theirs = keras.Sequential([keras.Input((9, 4)), conv, keras.layers.Dense(4), conv])
    mine = jc.Conv1D(4, 3, padding="causal", activation="tanh")
    ours = jc.Sequential([mine, jc.Dense(4), mine])
    params, apply_fn = ours.init(KEY, X)
    theirs.set_weights([np.asarray(params[n][w]) for n in ("conv1d", "dense") for w in ("kernel", "bias")])
    np.testing.assert_allclose(apply_fn(params, X), keras_output(theirs), atol=1e-6)


def test_a_shared_layer_survives_configs_copies_and_changes():
    model = shared()
    for other in (
        jc.Sequential.from_config(json.loads(json.dumps(model.get_config()))),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        model.map_layers(lambda name, layer: layer),
        jc.Sequential([*model.layers]),
    ):
        assert other == model or other.graph.calls == model.graph.calls
        assert len(other.children) == 3 and other.layers[0] is other.layers[2]
    assert len(jc.Sequential([*model.layers], dtype="float16").children) == 3
    assert model != jc.Sequential([jc.Conv1D(4, 3, padding="causal", activation="tanh"), *model.layers[1:]])
    rows = model.summary((None, 9, 4), print_fn=None)
    assert [(row.name, row.trainable) for row in rows[1:]] == [
        ("conv1d", 52),
        ("batch_normalization", 8),
        ("conv1d", 0),
        ("conv1d_1", 52),
    ]
    assert [call.name for call in model.until("conv1d").graph.calls] == ["conv1d", "batch_normalization", "conv1d"]


def test_a_shared_layer_streams_and_keeps_masks():
    model = shared()
    params, apply_fn = model.init(KEY, X)
    stream = jc.stream(model, (None, None, 4))
    np.testing.assert_allclose(stream.run(params, X), apply_fn(params, X), atol=1e-6)
    mask = jnp.array([[True] * 9, [True] * 5 + [False] * 4])
    np.testing.assert_allclose(apply_fn(params, X, mask)[1, :5], apply_fn(params, X[1:, :5])[0], atol=1e-6)
    folded, inference = jc.optimize(model, params)
    np.testing.assert_allclose(folded.apply_fn(inference, X), apply_fn(params, X), atol=1e-5)


def test_the_file_of_a_shared_layer_computes_the_same_in_keras_and_here(tmp_path):
    model = shared()
    params, apply_fn = model.init(KEY, X)
    jc.save_model(tmp_path / "m.keras", model, params, input_shape=(None, 9, 4))
    again, loaded = jc.load_model(tmp_path / "m.keras")
    assert sorted(again) == sorted(params)
    np.testing.assert_array_equal(loaded(again, X), apply_fn(params, X))
    np.testing.assert_allclose(
        keras_output(keras.saving.load_model(tmp_path / "m.keras")), apply_fn(params, X), atol=1e-6
    )
    with pytest.raises(ValueError, match="cannot share"):
        jc.save_model(tmp_path / "n.keras", jc.Sequential([model]), {"sequential": params})
