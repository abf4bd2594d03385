"""MultiHeadAttention in files: those that Keras 3 writes and opens, and the forms of Keras 2 written by hand."""

import numpy as np
import pytest

from jaxconv.files.loading import load_model
from tests.support.keras_files import functional, layer, write_hdf5, write_keras
from tests.support.keras_oracle import assert_file_goes_back, keras, keras_rules

pytest.importorskip("h5py")
L = keras.layers
RNG = np.random.default_rng(0)
LEAVES = ("query", "key", "value", "attention_output")


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def transformer():
    """Return a model with a causal call, a call by names with a mask of its own, and a padded sequence."""
    x, seen, words = L.Input((5, 6), name="x"), L.Input((5, 5), name="seen"), L.Input((7,), name="words")
    y = L.MultiHeadAttention(2, 3, use_gate=True)(x, x, use_causal_mask=True)
    known = L.Embedding(9, 4, mask_zero=True)(words)
    y = L.LayerNormalization()(L.Add()([x, y]))
    y = L.MultiHeadAttention(2, 3, output_shape=4)(y, known)
    y = L.MultiHeadAttention(1, 4)(query=y, key=x, value=y, attention_mask=seen)
    return keras.Model([x, seen, words], L.Dense(2)(y))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_file_of_keras_gives_its_outputs_and_goes_back(ending, tmp_path):
    seen = RNG.integers(0, 2, (2, 5, 5)).astype(np.float32)
    seen[..., 0] = 1
    x = [draw(2, 5, 6), seen, np.array([[3, 1, 4, 0, 0, 0, 0], [2, 7, 1, 8, 2, 8, 0]], np.float32)]
    assert_file_goes_back(transformer, lambda model: x, tmp_path, ending)


def of_keras_2(**named):
    """Return the config of a model as Keras 2 wrote it, and the weights of its layer."""
    own = {"num_heads": 2, "key_dim": 3, "value_dim": 3, "attention_axes": [1], "query_shape": [None, 4, 5]}
    attend = layer("MultiHeadAttention", "attend", [[["x", 0, 0, {"value": ["y", 0, 0], **named}]]], **own)
    inputs = [layer("InputLayer", name, [], batch_input_shape=[None, 4, 5]) for name in "xy"]
    config = functional([*inputs, attend], [["x", 0, 0], ["y", 0, 0]], [["attend", 0, 0]])
    weights = {name: [draw(5, 2, 3), draw(2, 3)] for name in LEAVES[:3]}
    return config, weights | {"attention_output": [draw(2, 3, 5), draw(5)]}


@pytest.mark.few(1)
@pytest.mark.parametrize("archive", [False, True])
def test_the_forms_of_keras_2_are_read(archive, tmp_path):
    config, weights = of_keras_2(use_causal_mask=True, attention_mask=None, training=None)
    if archive:
        folder = "_layer_checkpoint_dependencies/multi_head_attention"
        names = dict(zip(LEAVES, ("_query_dense", "_key_dense", "_value_dense", "_output_dense"), strict=True))
        tables = {f"{folder}/{names[n]}/vars/{i}": value for n in LEAVES for i, value in enumerate(weights[n])}
        path = write_keras(tmp_path / "m.keras", config, tables, "2.14.0")
    else:
        listed = [(f"attend/{n}/{e}:0", v) for n in LEAVES for e, v in zip(("kernel", "bias"), weights[n], strict=True)]
        path = write_hdf5(tmp_path / "m.h5", config, {"attend": listed}, "2.9.0", "tensorflow")
    params, apply_fn = load_model(path)
    x = [draw(2, 4, 5), draw(2, 4, 5)]
    other = L.MultiHeadAttention(2, 3)
    with keras_rules():
        other.build((None, 4, 5), (None, 4, 5))
        other.set_weights([value for name in LEAVES for value in weights[name]])
        want = other(*x, use_causal_mask=True)
    np.testing.assert_allclose(apply_fn(params, x), want, rtol=0, atol=1e-5)


def test_calls_that_differ_in_an_option_of_the_layer_are_refused(tmp_path):
    config, _ = of_keras_2()
    attend = config["config"]["layers"][-1]
    attend["inbound_nodes"].append([["x", 0, 0, {"value": ["y", 0, 0], "use_causal_mask": True}]])
    with pytest.raises(ValueError, match=r"attend.*use_causal_mask"):
        load_model(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0", "tensorflow"))
