"""Functions of arrays in graphs: tf.keras's TFOpLambda and Keras 3's ops become layers, or an error names them."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model
from tests.support.keras_files import functional, layer, write_hdf5
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

pytest.importorskip("h5py")
L, ops = keras.layers, keras.ops
X = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)


def run(tmp_path, *entries, x=X, shape=(None, 4, 6, 3), end=None, **options):
    """Load a graph of one input "x" written by hand, in tf.keras's form, and call it."""
    source = layer("InputLayer", "x", [], batch_input_shape=list(shape))
    config = functional([source, *entries], [["x", 0, 0]], [[end or entries[-1]["name"], 0, 0]])
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, {}, "2.9.0"), **options)
    return apply_fn(params, x)


def function(name, first, /, **arguments):
    """Return a TFOpLambda: ``first`` is the name of what it takes, a list of names, or a constant."""
    taken = [[one, 0, 0, arguments] for one in first] if isinstance(first, list) else [first, 0, 0, arguments]
    taken = taken if isinstance(first, str | list) else ["_CONSTANT_VALUE", -1, first, arguments]
    return layer("TFOpLambda", f"tf.{name}", [taken], function=name, trainable=True, dtype="float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


SLICE = {"slice_spec": [dict.fromkeys(("start", "stop", "step")), {"start": 1, "stop": 3, "step": None}, 0]}
ONE = {
    "slice": (layer("SlicingOpLambda", "a", [["x", 0, 0, SLICE]], function="__operators__.getitem"), X[:, 1:3, 0]),
    "reciprocal": (function("math.truediv", 2.0, y=["x", 0, 0]), 2 / X),
    "quotient": (function("math.truediv", "x", y=["x", 0, 0]), X / X),
    "scale by a number": (function("math.truediv", "x", y=127.5, name=None), X / 127.5),
    "shift": (function("math.subtract", "x", y=1, name=None), X - 1),
    "take from": (function("math.subtract", 1.0, y=["x", 0, 0]), 1 - X),
    "scale channels": (function("math.multiply", "x", y=[1.0, 2.0, -3.0]), X * [1, 2, -3]),
    "shift by an array": (function("__operators__.add", "x", y=[[[[1.0, 0.0, 2.0]]]]), X + np.array([1, 0, 2])),
    "self": (function("math.add", "x", y=["x", 0, 0], name=None), 2 * X),
    "square": (function("math.square", "x"), X**2),
    "positive": (function("math.maximum", "x", y=0.0), np.maximum(X, 0)),
    "relu": (function("nn.relu", "x", name=None), np.maximum(X, 0)),
    "relu6": (function("nn.relu6", "x"), np.clip(X, 0, 6)),
    "clip": (function("clip_by_value", "x", clip_value_min=0, clip_value_max=0.5), np.clip(X, 0, 0.5)),
    "leaky": (function("nn.leaky_relu", "x", alpha=0.3), np.where(X > 0, X, 0.3 * X)),
    "sigmoid": (function("math.sigmoid", "x"), sigmoid(X)),
    "swish": (function("nn.silu", "x"), X * sigmoid(X)),
    "unit": (function("math.l2_normalize", "x", axis=-1), X / np.linalg.norm(X, axis=-1, keepdims=True)),
    "cast": (function("cast", "x", dtype="float32"), X),
    "concat": (function("concat", ["x", "x"], axis=-1), np.concatenate([X, X], -1)),
    "transpose": (function("transpose", "x", perm=[0, 2, 1, 3]), X.transpose(0, 2, 1, 3)),
    "reshape": (function("reshape", "x", shape=[-1, 24, 3]), X.reshape(2, 24, 3)),
    "mean": (function("math.reduce_mean", "x", axis=[1, 2], keepdims=True), X.mean((1, 2), keepdims=True)),
    "mean first": (function("math.reduce_mean", "x", axis=[2, 3]), X.mean((2, 3))),
    "max": (function("math.reduce_max", "x", axis=[1, 2]), X.max((1, 2))),
    "pad": (function("pad", "x", paddings=[[0, 0], [1, 0], [2, 1], [0, 0]], mode="CONSTANT", constant_values=0),
            np.pad(X, [(0, 0), (1, 0), (2, 1), (0, 0)])),
}  # fmt: skip


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", ONE)
def test_a_function_of_tensorflow_s_computes_what_its_name_says(kind, tmp_path):
    entry, want = ONE[kind]
    np.testing.assert_allclose(run(tmp_path, entry), want, rtol=1e-6, atol=1e-6)


def test_functions_stand_between_layers(tmp_path):
    entries = [
        function("math.truediv", "x", y=127.5),
        layer("Conv2D", "c", [[["tf.math.truediv", 0, 0, {}]]], filters=2, kernel_size=[1, 1], use_bias=False),
        function("nn.relu", "c"),
        layer("Add", "a", [[["tf.nn.relu", 0, 0, {}], ["c", 0, 0, {}]]]),
    ]
    kernel = np.random.default_rng(1).normal(size=(1, 1, 3, 2)).astype(np.float32)
    source = layer("InputLayer", "x", [], batch_input_shape=[None, 4, 6, 3])
    config = functional([source, *entries], [["x", 0, 0]], [["a", 0, 0]])
    path = write_hdf5(tmp_path / "m.h5", config, {"c": [("c/kernel:0", kernel)]}, "2.9.0")
    net, params = load_layer(path)
    h = X / 127.5 @ kernel[0, 0]
    np.testing.assert_allclose(net.apply_fn(params, X), np.maximum(h, 0) + h, atol=1e-6)
    assert type(net.children["tf.math.truediv"]).__name__ == "Rescaling"
    net, params = load_layer(path, until="tf.nn.relu")
    np.testing.assert_allclose(net.apply_fn(params, X), np.maximum(h, 0), atol=1e-6)


def test_functions_of_tensorflow_2_0(tmp_path):
    def op(name, kind, taken, **constants):
        node = f'name: "{name}"\nop: "{kind}"\ninput: "x"\nattr {{\n  key: "T"\n}}\n'
        return layer(
            "TensorFlowOpLayer",
            name,
            [[[taken, 0, 0, {}]]],
            node_def=node,
            constants={k[1:]: v for k, v in constants.items()},
        )

    entries = [op("scaled", "RealDiv", "x", _1=127.5), op("turned", "Sub", "scaled", _0=1.0), op("y", "Tanh", "turned")]
    np.testing.assert_allclose(run(tmp_path, *entries), np.tanh(1 - X / 127.5), atol=1e-6)


REFUSED = {
    "unknown": function("image.resize", "x", size=[8, 12], method="bilinear"),
    "option": function("nn.relu", "x", surprise=1),
    "divided by zero": function("math.truediv", "x", y=0.0),
    "not finite": function("math.multiply", "x", y=float("nan")),
    "batch": function("transpose", "x", perm=[1, 0, 2, 3]),
    "fixed batch": function("reshape", "x", shape=[2, 72]),
    "reflected": function("pad", "x", paddings=[[0, 0], [1, 0], [2, 1], [0, 0]], mode="REFLECT"),
    "whole": function("cast", "x", dtype="int32"),
    "rounded gelu": function("nn.gelu", "x", approximate=True),
    "constant among tensors": function("concat", ["x", "y"], axis=-1),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_in_the_table_is_refused_by_name(kind, tmp_path):
    entry = REFUSED[kind]
    with pytest.raises(FileError, match=facts(f"layer '{entry['name']}'", "function", "custom_layers")):
        run(tmp_path, entry)


def test_a_custom_layer_gets_what_the_function_was_called_with(tmp_path):
    def resize(config):
        assert (config["function"], config["arguments"]["size"]) == ("resize", [8, 12])
        return jc.UpSampling2D(2)

    y = run(tmp_path, REFUSED["unknown"], custom_layers={"tf.image.resize": resize})
    np.testing.assert_array_equal(y, X.repeat(2, 1).repeat(2, 2))


def graph():
    x = keras.Input((4, 6, 3))
    y = ops.relu(1.0 - (x / 127.5 - 1.0)) * np.array([1.0, 2.0, 3.0])
    z = ops.concatenate([ops.mean(y, axis=(1, 2)), ops.max(x, axis=(1, 2))], axis=-1)
    z = ops.softmax(ops.leaky_relu(ops.cast(z, "float32"), 0.1), axis=-1)
    w = ops.pad(ops.transpose(L.Conv2D(2, 1)(x), (0, 2, 1, 3)), ((0, 0), (1, 1), (0, 2), (0, 0)))
    w = ops.square(ops.silu(ops.maximum(w, 0.0))) - ops.clip(ops.reshape(ops.add(w, 3.0), (-1, 8, 6, 2)), 0, 6)
    return keras.Model(x, [z, w])


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_functions_of_keras_3(ending, tmp_path):
    with keras_rules():
        net = graph()
        net.save(tmp_path / f"net{ending}")
        want = net(X)
    params, apply_fn = load_model(tmp_path / f"net{ending}")
    for y, wanted in zip(jax.jit(apply_fn)(params, X), want, strict=True):
        np.testing.assert_allclose(y, wanted, atol=1e-5)  # float32 of order 10


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_functions_that_compute_masks_are_left_to_the_masks_here(ending, tmp_path):
    x = keras.Input((7, 3))
    y = L.Concatenate()([L.Dense(4)(L.Masking()(x)), L.Masking()(x)])
    net = keras.Model(x, L.GlobalAveragePooling1D()(y))
    steps = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    steps[0, 4:] = 0
    with keras_rules():
        net.save(tmp_path / f"net{ending}")
        want = net(steps)
    params, apply_fn = load_model(tmp_path / f"net{ending}")
    np.testing.assert_allclose(apply_fn(params, steps), want, atol=1e-6)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["max", "mean"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_maximum_over_axes_that_no_layer_pools_is_named(name, ending, tmp_path):
    keras.utils.clear_session()
    for shape, axis in [((4, 6, 3), 1), ((6, 3), (1, 2)), ((4, 6, 3), -1)]:
        x = keras.Input(shape)
        keras.Model(x, getattr(ops, name)(x, axis, keepdims=True)).save(tmp_path / f"net{ending}")
        said = f"the function '{name}'", f"'axis': {list(axis) if axis == (1, 2) else axis}", f"{len(shape) + 1} axes"
        with pytest.raises(FileError, match=facts(*said, "custom_layers")) as caught:
            load_model(tmp_path / f"net{ending}")
        assert "Global" not in str(caught.value)


def ends():
    x = keras.Input((8, 3))
    y = L.Conv1D(4, 3, padding="same")(x)
    joined = ops.concatenate([x, y], axis=-1)
    return {
        "concatenate": (x, joined),
        "two outputs": (x, [joined, y]),
        "dict": (x, {"a": y, "b": joined}),
        "nested": (x, L.Dense(2)(keras.Model(x, joined)(x))),
        "expand_dims": (x, ops.expand_dims(y, 1)),
        "expand_dims from the end": (x, ops.expand_dims(y, -2)),
        "expand_dims within": (x, L.Conv2D(2, 2)(ops.expand_dims(y, -1))),
    }


ENDS = ["concatenate", "two outputs", "dict", "nested", "expand_dims", "expand_dims from the end", "expand_dims within"]


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_functions_that_can_compute_masks_are_read_where_they_compute_data(kind, tmp_path):
    steps = X[0].reshape(1, 8, 9)[..., :3]
    with keras_rules():
        keras.utils.clear_session()
        net = keras.Model(*ends()[kind])
        net.save(tmp_path / "net.keras")
        want = net(steps)
    params, apply_fn = load_model(tmp_path / "net.keras")
    for y, wanted in zip(jax.tree.leaves(apply_fn(params, steps)), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(y, wanted, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_function_of_masks_that_has_no_layer_is_named(tmp_path):
    keras.utils.clear_session()
    x = keras.Input((8, 3))
    keras.Model(x, ops.ones_like(L.Dense(2)(x))).save(tmp_path / "net.keras")
    with pytest.raises(FileError, match=facts("layer 'ones_like'", "function", "custom_layers", "until='dense'")):
        load_model(tmp_path / "net.keras")
