"""Files that the installed Keras writes: bitwise equal weights and equal outputs, for all graphs and formats."""

import functools
import json
import warnings

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model, load_weights, read_model
from tests.support.keras_files import DENSE, write_dense, write_keras
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

h5py = pytest.importorskip("h5py")
L = keras.layers


def convolutions():
    return keras.Sequential(
        [
            L.Input((9, 8, 4)),
            L.ZeroPadding2D(1),
            L.Conv2D(6, 3, groups=2, activation="relu", kernel_constraint=keras.constraints.MaxNorm(2, axis=(0, 1, 2))),
            L.BatchNormalization(),
            L.DepthwiseConv2D(3, depth_multiplier=2, depthwise_regularizer="l2"),
            L.SeparableConv2D(5, 2, padding="same", activation="hard_sigmoid"),
            L.Dropout(0.3),
            L.Conv2DTranspose(3, 3, strides=2, padding="same", use_bias=False),
            L.UpSampling2D(2, interpolation="bilinear"),
            L.PReLU(shared_axes=(1, 2)),
            L.LeakyReLU(negative_slope=0.1),
            L.GroupNormalization(3),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(3, activation="softmax"),
        ]
    )


def steps():
    normalize = L.Normalization()
    normalize.adapt(np.random.default_rng(1).normal(2, 3, (50, 12, 2)))
    return keras.Sequential(
        [
            L.Input((12, 2)),
            normalize,
            L.Conv1D(4, 3, padding="causal", dilation_rate=2),
            L.LayerNormalization(),
            L.SpectralNormalization(L.Conv1D(4, 2)),
            L.ReLU(max_value=2.0),
            L.AveragePooling1D(2),
            L.Conv1DTranspose(3, 3, strides=2),
            L.GlobalMaxPooling1D(),
            L.Reshape((3, 1)),
        ]
    )


def graph():
    """Shared, nested and branching layers; two inputs, two outputs; layers out of alphabetical order."""
    inside = keras.Input((4, 6))
    y = L.Conv1D(3, 2, padding="same", name="zz")(inside)
    inner = keras.Model(inside, [L.BatchNormalization()(y), L.Conv1D(3, 1, name="aa")(y)], name="inner")
    tail = keras.Sequential([L.Conv1D(3, 1), L.BatchNormalization(), L.Dense(2)], name="tail")
    a, b = keras.Input((4, 6), name="a"), keras.Input((4, 6), name="b")
    shared = L.Dense(6)
    (p, q), (r, s) = inner(shared(a)), inner(shared(b))
    joined = L.Concatenate()([L.Add()([p, s]), L.Multiply()([q, r])])
    return keras.Model({"a": a, "b": b}, [tail(joined), L.GlobalAveragePooling1D()(p - s)])


def embedded():
    return keras.Sequential(
        [L.Input((7,), dtype="int32"), L.Embedding(11, 4), L.Conv1D(3, 2), L.Permute((2, 1)), L.Activation("gelu")]
    )


def volumes():
    return keras.Sequential(
        [
            L.Input((5, 6, 4, 2)),
            L.Conv3D(3, 2, strides=(1, 2, 1), padding="same", data_format="channels_last"),
            L.Conv3DTranspose(2, 2, data_format="channels_last"),
            L.GlobalAveragePooling3D(keepdims=True),
        ]
    )


NETS = {net.__name__: net for net in (convolutions, steps, graph, embedded, volumes)}


@functools.cache
def build(name, seed=0):
    """Build one, with random weights of either sign (variances positive), a random input, and what comes out."""
    rng = np.random.default_rng(seed)
    keras.utils.clear_session()
    with keras_rules():
        net = NETS[name]()
        for variable in net.weights:
            if "normalization" in variable.path and variable.path.endswith(("/mean", "/variance", "/count")):
                continue  # what adapt has measured
            value = rng.normal(0, 0.5, variable.shape)
            variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)

        def draw(tensor):
            if tensor.dtype == "int32":
                return rng.integers(0, 11, (3, *tensor.shape[1:]))
            return rng.normal(size=(3, *tensor.shape[1:])).astype(np.float32)

        x = {one.name: draw(one) for one in net.inputs} if len(net.inputs) > 1 else draw(net.inputs[0])
        return net, x, jax.tree.leaves(jax.jit(net)(x))


def save(net, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that HDF5 is legacy
        (net.save_weights if ".weights." in path.name else net.save)(path)
    return path


@pytest.mark.few(2)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NETS)
def test_a_model_computes_what_keras_computes(name, ending, tmp_path):
    net, x, expected = build(name)
    params, apply_fn = load_model(save(net, tmp_path / f"net{ending}"))
    ours = jax.tree.leaves(jax.jit(apply_fn)(params, x))
    assert len(ours) == len(expected)
    for y, want in zip(ours, expected, strict=True):
        np.testing.assert_allclose(y, want, rtol=2e-5, atol=2e-5)  # float32, another order of sums


@pytest.mark.parametrize("name", ["convolutions", "graph"])
def test_weights_alone_go_into_a_layer_of_the_user_s(name, tmp_path):
    net, *_ = build(name)
    layer, params = load_layer(save(net, tmp_path / "net.keras"))
    blank = jax.tree.map(np.zeros_like, params)
    loaded = load_weights(save(net, tmp_path / "net.weights.h5"), layer, blank)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    again = load_weights(tmp_path / "net.weights.h5", layer.apply_fn, blank, by_name=True)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    legacy = load_weights(save(net, tmp_path / "net.h5"), layer, blank)
    jax.tree.map(np.testing.assert_array_equal, legacy, params)


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "float16"])
def test_dtype_policies_are_kept(dtype, tmp_path):
    keras.utils.clear_session()
    with keras_rules():
        net = keras.Sequential([L.Input((6, 2)), L.Conv1D(3, 2, dtype=dtype), L.Dense(2)])
    params, apply_fn = load_model(save(net, tmp_path / "net.keras"))
    conv, dense = apply_fn.layer.layers
    assert conv.dtype == dtype and dense.dtype == "float32"
    kernel = np.asarray(net.layers[0].kernel.value)
    assert params[conv.name]["kernel"].dtype == kernel.dtype
    np.testing.assert_array_equal(params[conv.name]["kernel"], kernel)


def test_what_keras_remembers_beside_the_weights_survives(tmp_path):
    net, *_ = build("convolutions")
    layer = read_model(save(net, tmp_path / "net.keras")).layer
    conv, depthwise = (one for one in layer.layers if isinstance(one, jc.Conv2D | jc.DepthwiseConv2D))
    assert conv.kernel_constraint == jc.constraints.MaxNorm(2, axis=(0, 1, 2))
    assert depthwise.depthwise_regularizer == jc.regularizers.L2(0.01)
    assert layer.input_shape == (9, 8, 4)


def test_frozen_layers_stay_frozen(tmp_path):
    net, *_ = build("graph")
    frozen = net.get_layer("tail").layers[0]
    name, frozen.trainable = frozen.name, False
    try:
        layer, params = load_layer(save(net, tmp_path / "net.h5"))
    finally:
        frozen.trainable = True
    assert not layer.children["tail"].children[name].trainable
    np.testing.assert_array_equal(params["tail"][name]["kernel"], frozen.kernel.value)


def test_reading_can_stop_at_a_layer(tmp_path):
    net, x, _ = build("graph")
    path = save(net, tmp_path / "net.keras")
    layer, params = load_layer(path, until="inner")
    with keras_rules():
        want = net.get_layer("inner")(next(one for one in net.layers if isinstance(one, L.Dense))(x["a"]))
    for y, wanted in zip(layer.apply_fn(params, x["a"]), want, strict=True):
        np.testing.assert_allclose(y, wanted, atol=1e-5)
    net, x, _ = build("steps")
    layer, params = load_layer(save(net, path), until=net.layers[2].name)
    assert layer.output_shape((None, 12, 2)) == (None, 12, 4) and len(params) == 2


def test_lora_is_merged(tmp_path):
    keras.utils.clear_session()
    with keras_rules():
        net = keras.Sequential([L.Input((6, 2)), L.Conv1D(3, 2)])
        net.layers[0].enable_lora(2)
        net.layers[0].lora_kernel_b.assign(np.ones((2, 3)))
        kernel = np.asarray(net.layers[0].kernel)
    read = read_model(save(net, tmp_path / "net.keras"))
    np.testing.assert_allclose(read.params["conv1d"]["kernel"], kernel, rtol=1e-6)
    assert any("lora_rank=2 is left out" in note for note in read.notes)


def shared_and_wrapped():
    """A layer in two models, a model in two, and a Sequential that shares a layer with the graph around it."""
    x = keras.Input((4, 6))
    dense, norm = L.Dense(6, name="shared"), L.BatchNormalization(name="norm")
    inner = keras.Model(
        a := keras.Input((4, 6)), L.Conv1D(6, 3, padding="same", name="c")(norm(dense(a))), name="inner"
    )
    deep = keras.Model(b := keras.Input((4, 6)), dense(inner(b)), name="deep")
    tail = keras.Sequential([keras.Input((4, 6)), dense, L.Conv1D(2, 1)], name="tail")
    return keras.Model(x, [tail(L.Add()([inner(x), deep(dense(x)), norm(x)])), deep(x)])


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_layer_shared_by_several_models_is_read_in_each(ending, tmp_path, monkeypatch):
    monkeypatch.setitem(NETS, "shared_and_wrapped", shared_and_wrapped)
    net, x, want = build("shared_and_wrapped")
    read = read_model(save(net, tmp_path / f"net{ending}"))
    for y, wanted in zip(read.layer.apply_fn(read.params, x), want, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-5)
    kernel = net.get_layer("shared").kernel.value
    for params in (read.params, read.params["inner"], read.params["tail"], read.params["deep"]["inner"]):
        np.testing.assert_array_equal(params["shared"]["kernel"], kernel)
    note = "shared: shared by several models; each has its own copy of the weights here"
    assert (note in read.notes) is (ending == ".keras")


def test_how_a_model_was_compiled_changes_nothing(tmp_path):
    keras.utils.clear_session()
    with keras_rules():
        net = keras.Sequential([L.Input((6, 2)), L.Conv1D(3, 2), L.Flatten(), L.Dense(2)])
        net.compile(
            keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10), clipnorm=1.0),
            loss=[keras.losses.Huber(0.5)],
            metrics=[["mae", keras.metrics.CosineSimilarity()]],
            loss_weights=[0.5],
        )
        net.fit(np.ones((2, 6, 2)), np.ones((2, 2)), verbose=0)
    kernel = np.asarray(net.layers[0].kernel.value)
    for ending in (".keras", ".h5"):
        params, _ = load_model(save(net, tmp_path / f"net{ending}"))
        np.testing.assert_array_equal(params["conv1d"]["kernel"], kernel)


ODDLY_COMPILED = {
    "None": None,
    "no JSON": "{'loss': <function custom at 0x7f>}",
    "NaN": json.dumps({"optimizer_config": {"class_name": "Mine", "config": {"lr": float("nan")}}, "loss": None}),
    "lists": json.dumps(
        {"loss": [None, "mse", {"a": "custom_loss"}], "metrics": {"a": [], "b": None}, "loss_weights": [[]]}
    ),
    "code": json.dumps({"loss": {"class_name": "Lambda", "config": {"function": ["4wEAAA==", None, None]}}}),
}


@pytest.mark.parametrize("kind", ODDLY_COMPILED)
def test_training_configs_of_any_content_are_not_looked_at(kind, tmp_path):
    said = ODDLY_COMPILED[kind]

    def compiled(file):
        file.attrs["training_config"] = h5py.Empty("S1") if said is None else said.encode()
        file.create_group("optimizer_weights").attrs["weight_names"] = [b"Adam/m:0", b"not there"]

    params, _ = load_model(write_dense(tmp_path / "m.h5", compiled))
    np.testing.assert_array_equal(params["dense_1"]["bias"], [1, 1])
    config = {**DENSE, "compile_config": said, "module": "keras", "registered_name": None}
    tables = {"layers/dense/vars/0": np.ones((3, 2)), "layers/dense/vars/1": np.ones(2), "optimizer/vars/0": np.ones(3)}
    params, _ = load_model(write_keras(tmp_path / "m.keras", config, tables))
    np.testing.assert_array_equal(params["dense_1"]["bias"], [1, 1])


ACTIVATIONS = {
    "LeakyReLU": lambda: L.LeakyReLU(),
    "LeakyReLU like the function": lambda: L.LeakyReLU(0.2),
    "ReLU": lambda: L.ReLU(1.5, 0.1, 0.2),
    "ELU": lambda: L.ELU(0.5),
    "Softmax": lambda: L.Softmax(),
    "Activation": lambda: L.Activation("tanh"),
    "Identity": lambda: L.Identity(),
}


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_layer_as_the_activation_of_another_one_is_its_function(kind, ending, tmp_path):
    with keras_rules():
        conv = L.Conv1D(4, 3, activation=ACTIVATIONS[kind]())
        net = keras.Sequential([keras.Input((8, 3)), conv, L.Identity()])
        x = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
        want = net(x)
    params, apply_fn = load_model(save(net, tmp_path / f"net{ending}"))
    np.testing.assert_allclose(apply_fn(params, x), want, atol=1e-5)  # float32, another order of sums
    assert [type(layer).__name__ for layer in apply_fn.layer.layers] == ["Conv1D", "Identity"]


@pytest.mark.parametrize("activation", [lambda: L.PReLU(), lambda: L.Softmax(1), lambda: L.Dropout(0.5)])
def test_a_layer_that_cannot_be_an_activation_is_named(activation, tmp_path):
    layer = activation()
    net = keras.Sequential([keras.Input((8, 3)), L.Conv1D(4, 3, name="conv", activation=layer)])
    name = type(layer).__name__
    with pytest.raises(FileError, match=facts("layer 'conv'", f"the layer {name}", "LeakyReLU", f'{{"{name}":')):
        load_model(save(net, tmp_path / "net.keras"))
