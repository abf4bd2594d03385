"""Replacements for code in a file: custom layers and objects, and models that end before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model, read_model
from tests.support.keras_files import functional, layer, sequential, write_hdf5, write_keras
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

pytest.importorskip("h5py")
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
CODE = {"module": "mine", "class_name": "Sparse", "config": {"amount": 0.5}, "registered_name": "mine>Sparse"}


class Sparse:
    """A regularizer of a user's."""

    def __init__(self, amount):
        self.amount = amount

    def __call__(self, w):
        return self.amount * jnp.sum(jnp.abs(w))


def one_dense(tmp_path, **options):
    config = sequential(layer("Dense", "d", units=2, use_bias=False, batch_input_shape=[None, 3], **options))
    return write_hdf5(tmp_path / "m.h5", config, {"d": [("d/kernel:0", KERNEL)]}, "2.9.0")


@pytest.mark.parametrize("name", ["Sparse", "mine>Sparse"])
def test_a_custom_regularizer_is_used_or_left_out(name, tmp_path):
    path = one_dense(tmp_path, kernel_regularizer=CODE)
    with pytest.raises(FileError, match=facts("layer 'd'", "kernel_regularizer", "'Sparse'", "custom_objects", "None")):
        load_model(path)
    params, apply_fn = load_model(path, custom_objects={name: Sparse})
    assert apply_fn.penalty(params) == 0.5 * KERNEL.sum()
    read = read_model(path, custom_objects={name: None})
    assert read.layer.layers[0].kernel_regularizer is None
    assert any("kernel_regularizer" in note and name in note for note in read.notes)
    np.testing.assert_array_equal(read.layer.apply_fn(read.params, np.ones((1, 3))), [KERNEL.sum(0)])


def test_a_custom_class_with_the_name_of_one_of_keras_is_not_taken_for_it(tmp_path):
    own = {"module": "mine.constraints", "class_name": "MaxNorm", "config": {"max_value": 3}, "registered_name": None}
    path = one_dense(tmp_path, kernel_constraint=own)
    with pytest.raises(FileError, match=facts("kernel_constraint", "'MaxNorm'", "custom_objects")):
        load_model(path)
    constraint = jc.constraints.MaxNorm(1.0)
    layer_, _ = load_layer(path, custom_objects={"MaxNorm": lambda w: constraint(w)})
    assert layer_.layers[0].kernel_constraint(2 * jnp.ones((1, 1))) == 1


@pytest.mark.parametrize("form", ["double", {"module": "mine", "class_name": "function", "config": "double"}])
def test_a_custom_activation_is_a_function(form, tmp_path):
    path = one_dense(tmp_path, activation=form)
    with pytest.raises(FileError, match=facts("layer 'd'", "activation", "'double'", "custom_objects")):
        load_model(path)
    params, apply_fn = load_model(path, custom_objects={"double": lambda x: 2 * x})
    np.testing.assert_array_equal(apply_fn(params, np.ones((1, 3))), [2 * KERNEL.sum(0)])
    with pytest.raises(FileError, match=facts("'double'", "None")):  # it would change the numbers
        load_model(path, custom_objects={"double": None})


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_custom_objects_of_keras_3(ending, tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class Half(keras.constraints.Constraint):
        def __call__(self, w):
            return w / 2

    with keras_rules():
        net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_constraint=Half(), name="dense")])
        net.save(tmp_path / f"m{ending}")
    with pytest.raises(FileError, match=facts("kernel_constraint", "Half", "custom_objects")):
        load_model(tmp_path / f"m{ending}")
    params, apply_fn = load_model(tmp_path / f"m{ending}", custom_objects={"mine>Half": lambda w: w / 2})
    np.testing.assert_array_equal(apply_fn.project(params)["dense"]["kernel"], params["dense"]["kernel"] / 2)
    assert load_model(tmp_path / f"m{ending}", custom_objects={"Half": None})


INNER = [layer("Quantize", "q", [[["x", 0, 0, {}]]], batch_input_shape=[None, 3]),
         layer("Dense", "d", [[["q", 0, 0, {}]]], units=2, use_bias=False)]  # fmt: skip
QUANTIZER = [("q/min:0", np.zeros(())), ("q/max:0", np.ones(()))]


@pytest.mark.parametrize("kind", ["old", "new", "inside"])
def test_a_layer_without_weights_replaces_one_with_weights(kind, tmp_path):
    config, path = sequential(*INNER), tmp_path / "m.h5"
    if kind == "old":
        write_hdf5(path, config, {"q": QUANTIZER, "d": [("d/kernel:0", KERNEL)]}, "2.9.0")
    elif kind == "new":
        tables = {"layers/quantize/vars/0": np.zeros(()), "layers/quantize/range/vars/0": np.ones(())}
        write_keras(path, config, {**tables, "layers/dense/vars/0": KERNEL})
    else:
        source = layer("InputLayer", "x", [], batch_input_shape=[None, 3])
        inner = functional([source, *INNER], [["x", 0, 0]], [["d", 0, 0]], "inner")
        inner = {**inner, "name": "inner", "inbound_nodes": [[["x", 0, 0, {}]]]}
        config = functional([source, inner], [["x", 0, 0]], [["inner", 1, 0]])
        write_hdf5(path, config, {"inner": [*QUANTIZER, ("d/kernel:0", KERNEL)]}, "2.9.0")
    custom = {"Quantize": lambda config: jc.Activation("linear")}
    params, apply_fn = load_model(path, custom_layers=custom)
    np.testing.assert_array_equal(apply_fn(params, np.ones((1, 3))), [KERNEL.sum(0)])
    assert len(jax.tree.leaves(params)) == 1
    with pytest.raises(FileError):  # one with weights must have those of the file
        load_model(path, custom_layers={"Quantize": lambda config: jc.Dense(3)})


def until_hint(path):
    with pytest.raises(FileError, match="custom_layers") as caught:
        load_model(path)
    return str(caught.value).partition("until=")[2].partition(" ")[0].strip("'\"")


def test_the_hint_names_the_last_layer_that_can_be_had(tmp_path):
    chain = [layer("Flatten", "a", batch_input_shape=[None, 3]), layer("Dense", "b", units=2), layer("RNN", "c")]
    path = write_hdf5(tmp_path / "m.h5", sequential(*chain, layer("Flatten", "d")), {}, "2.9.0")
    assert until_hint(path) == "b"
    assert until_hint(write_hdf5(path, sequential(layer("RNN", "c"), layer("Flatten", "d")), {}, "2.9.0")) == ""
    source = layer("InputLayer", "x", [], batch_input_shape=[None, 3])
    nested = {**sequential(layer("Flatten", "g"), layer("RNN", "h")), "name": "n", "inbound_nodes": [[["x", 0, 0, {}]]]}
    graph = [
        source,
        layer("Flatten", "e", [[["x", 0, 0, {}]]]),
        layer("Lambda", "f", [[["x", 0, 0, {}]]]),
        nested,
        layer("Activation", "i", [[["e", 0, 0, {}]]], activation="relu"),
        layer("Add", "j", [[["i", 0, 0, {}], ["f", 0, 0, {}]]]),
        layer("Flatten", "k", [[["n", 1, 0, {}]]]),
    ]
    path = write_hdf5(path, functional(graph, [["x", 0, 0]], [["j", 0, 0], ["k", 0, 0]]), {}, "2.9.0")  # fmt: skip
    assert until_hint(path) == "i"
    assert load_layer(path, until="i")[0].names == ("e", "i")


def test_the_function_that_no_layer_computes_is_named_with_its_arguments(tmp_path):
    x = keras.Input((4, 3))
    with keras_rules():
        keras.Model(x, keras.ops.max(x, keepdims=True)).save(tmp_path / "m.keras")  # over the batch, too
    with pytest.raises(FileError, match=facts("'max'", "'axis': None", "'keepdims': True")):
        load_model(tmp_path / "m.keras")
