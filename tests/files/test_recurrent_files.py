"""Recurrent layers in files: those that Keras 3 writes and opens, and layouts of older versions written by hand."""

import warnings

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.loading import load_model
from tests.support.keras_files import functional, layer, sequential, write_hdf5
from tests.support.keras_oracle import assert_file_goes_back, keras, keras_rules

pytest.importorskip("h5py")
L = keras.layers
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def stacked():
    return [
        L.Input((6, 3)),
        L.LSTM(4, return_sequences=True, name="first"),
        L.GRU(3, reset_after=False, return_sequences=True, go_backwards=True),
        L.SimpleRNN(4, return_sequences=True),
        L.Bidirectional(L.GRU(2, return_sequences=True)),
        L.TimeDistributed(L.Dense(3)),
        L.LSTM(2, use_bias=False),
    ]


def merged():
    backwards = L.LSTM(3, go_backwards=True, activation="relu")
    return [L.Input((6, 3)), L.Conv1D(4, 2), L.Bidirectional(L.LSTM(3), "sum", backward_layer=backwards), L.Dense(2)]


def frames():
    return [L.Input((2, 5, 3)), L.TimeDistributed(L.Bidirectional(L.LSTM(2))), L.GRU(2)]


def convolved():
    return [
        L.Input((3, 6, 5, 2)),
        L.ConvLSTM2D(3, 2, padding="same", return_sequences=True),
        L.Bidirectional(L.ConvLSTM2D(2, 2)),
        L.Flatten(),
        L.Dense(2),
    ]


def cells():
    """Return layers around cells, which are read as the layers of these cells."""
    return [
        L.Input((5, 3)),
        L.RNN(L.GRUCell(3, reset_after=False, dropout=0.2), return_sequences=True, go_backwards=True),
        L.Bidirectional(L.RNN(L.LSTMCell(2), return_sequences=True)),
        L.RNN(L.SimpleRNNCell(2, activation="relu")),
    ]


def randomized(model):
    model.set_weights([RNG.normal(size=w.shape).astype(np.float32) * 0.5 for w in model.get_weights()])
    return model


@pytest.mark.few(1)
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("build", [stacked, merged, frames, convolved, cells])
def test_a_file_of_keras_gives_its_outputs_and_goes_back(build, ending, tmp_path):
    def inputs(model):
        return draw(2, *model.input_shape[1:])

    assert_file_goes_back(lambda: randomized(keras.Sequential(build())), inputs, tmp_path, ending)


@pytest.mark.slow
def test_a_cell_of_another_kind_is_refused(tmp_path):
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = keras.Sequential([L.Input((5, 3)), L.RNN([L.LSTMCell(2), L.LSTMCell(2)], name="pair")])
        model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"pair.*StackedRNNCells.*LSTMCell, GRUCell, SimpleRNNCell"):
        load_model(tmp_path / "m.keras")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_decoder_that_begins_with_the_states_of_the_encoder(ending, tmp_path):
    def decoder():
        source, target = L.Input((5, 3)), L.Input((4, 2))
        _, h, c = L.LSTM(3, return_state=True)(source)
        y = L.LSTM(3, return_sequences=True)(target, initial_state=[h, c])
        return randomized(keras.Model([source, target], L.GRU(3)(y, initial_state=h)))

    assert_file_goes_back(decoder, lambda model: [draw(2, 5, 3), draw(2, 4, 2)], tmp_path, ending)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_decoder_of_both_directions_that_begins_with_the_states_of_the_encoder(ending, tmp_path):
    def decoder():
        source, target = L.Input((5, 3)), L.Input((4, 2))
        _, *states = L.Bidirectional(L.LSTM(3, return_state=True))(source)
        return randomized(keras.Model([source, target], L.Bidirectional(L.LSTM(3))(target, initial_state=states)))

    assert_file_goes_back(decoder, lambda model: [draw(2, 5, 3), draw(2, 4, 2)], tmp_path, ending)


def test_first_states_in_a_call_of_keras_2(tmp_path):
    inputs = [layer("InputLayer", n, [], batch_input_shape=s) for n, s in (("x", [None, 4, 2]), ("h", [None, 3]))]
    config = functional([*inputs, layer("GRU", "g", [[["x", 0, 0, {}], ["h", 0, 0, {}]]], units=3, reset_after=True)],
                        [["x", 0, 0], ["h", 0, 0]], [["g", 0, 0]])  # fmt: skip
    leaves = {"kernel": draw(2, 9), "recurrent_kernel": draw(3, 9), "bias": draw(2, 9)}
    weights = {"g": [(f"g/gru_cell/{leaf}:0", value) for leaf, value in leaves.items()]}
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, weights, "2.4.0", "tensorflow"))
    x, h = draw(2, 4, 2), draw(2, 3)
    other = L.GRU(3)
    with keras_rules():
        other.build(x.shape)
        other.set_weights(list(leaves.values()))
        np.testing.assert_allclose(apply_fn(params, [x, h]), other(x, initial_state=h), rtol=0, atol=1e-5)


def gates_of(value, count):
    return np.split(value, count, -1)


def cudnn_weights(kernel, recurrent, bias, count):
    """Return weights of a layer as NVIDIA's library stores them: each gate transposed, and two biases."""
    beside = [part.T.reshape(part.shape) for part in gates_of(kernel, count)]
    return [np.hstack(beside), np.hstack([part.T for part in gates_of(recurrent, count)]), bias.ravel()]


@pytest.mark.few(2)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_layers_of_cudnn_are_read_as_the_layers_that_they_are(name, wrapped, tmp_path):
    count, units, x = {"LSTM": 4, "GRU": 3}[name], 3, draw(2, 5, 2)
    both = []
    for _ in range(2):
        bias = draw(2, count * units)
        both.append((draw(2, count * units), draw(units, count * units), bias))
    options = {"units": units, "return_sequences": True, "batch_input_shape": [None, 5, 2]}
    config = layer(f"CuDNN{name}", "rnn", **options)
    given = both if wrapped else both[:1]
    if wrapped:
        config = layer("Bidirectional", "both", layer=config, merge_mode="concat", batch_input_shape=[None, 5, 2])
    own = config["config"]["name"]
    weights = {
        own: [
            (f"{own}/{side}{leaf}:0", value)
            for side, values in zip(["forward/", "backward/"], given, strict=False)
            for leaf, value in zip(["kernel", "recurrent_kernel", "bias"], cudnn_weights(*values, count), strict=True)
        ]
    }
    path = write_hdf5(tmp_path / "m.h5", sequential(config), weights, "2.2.4", "tensorflow")
    params, apply_fn = load_model(path)
    y = apply_fn(params, x)
    layers = []
    for values in given:
        leaves = dict(zip(["kernel", "recurrent_kernel", "bias"], values, strict=True))
        leaves["bias"] = leaves["bias"].sum(0) if name == "LSTM" else leaves["bias"]
        layers.append(leaves)
    other = getattr(keras.layers, name)(units, return_sequences=True)
    other = keras.layers.Bidirectional(other) if wrapped else other
    with keras_rules():
        other.build((None, 5, 2))
        other.set_weights([value for leaves in layers for value in leaves.values()])
        np.testing.assert_allclose(y, other(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_a_gru_of_keras_2_has_the_form_that_its_config_says(named, tmp_path):
    options = {
        "units": 2,
        "batch_input_shape": [None, 5, 3],
        "implementation": 1,
        "recurrent_activation": "hard_sigmoid",
    }
    config = layer("GRU", "gru", **options, **({"reset_after": True} if named else {}))
    bias = draw(2, 6) if named else draw(6)
    leaves = {"kernel": draw(3, 6), "recurrent_kernel": draw(2, 6), "bias": bias}
    weights = {"gru": [(f"gru/{leaf}:0", value) for leaf, value in leaves.items()]}
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", sequential(config), weights, "2.1.6", "tensorflow"))
    x = draw(2, 5, 3)
    slope = lambda v: jax.numpy.clip(0.2 * v + 0.5, 0, 1)  # noqa: E731  of Keras 2
    own = jc.GRU(2, recurrent_activation=slope, reset_after=named)
    np.testing.assert_allclose(apply_fn(params, x), own.apply_fn(leaves, x), rtol=1e-6)


def test_a_stateful_layer_in_a_file_is_refused_by_name(tmp_path):
    config = layer("LSTM", "lstm", units=2, batch_input_shape=[1, 5, 3], stateful=True)
    path = write_hdf5(tmp_path / "m.h5", sequential(config), {}, "2.2.4", "tensorflow")
    with pytest.raises(ValueError, match=r"lstm.*stateful=True"):
        load_model(path)


OLD_GATES = {"LSTM": "icfo", "GRU": "zrh", "SimpleRNN": " "}  # in Keras 1's order
GATES = {"LSTM": "ifco", "GRU": "zrh", "SimpleRNN": " "}


@keras.saving.register_keras_serializable()
def old_slope(x):
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)  # hard_sigmoid before Keras 3


@pytest.mark.few(1)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_layers_of_keras_1_are_read(name, wrapped, joined, tmp_path):
    """Keras 1 stored a table for each gate, or joined ones with consume_less="gpu"."""
    options = {
        "output_dim": 3, "init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh",
        "go_backwards": False, "stateful": False, "unroll": False, "return_sequences": True, "dropout_W": 0.1,
        "dropout_U": 0.2, "W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.1},
        "U_regularizer": None, "b_regularizer": None, "input_dim": 2, "input_length": 5,
        "consume_less": "gpu" if joined else "cpu",
    }  # fmt: skip
    if name != "SimpleRNN":
        options |= {"inner_activation": "hard_sigmoid"} | ({"forget_bias_init": "one"} if name == "LSTM" else {})
    shape = {"batch_input_shape": [None, 5, 2]}
    config = layer(name, "rnn_1", **options, **({} if wrapped else shape))
    if wrapped:
        config = layer("Bidirectional", "both", layer=config, merge_mode="concat", **shape)
    given, listed = [], []
    for side in ["forward_", "backward_"] if wrapped else [""]:
        drawn = {
            (leaf, gate): draw(*size, 3)
            for leaf, size in zip("WUb", [(2,), (3,), ()], strict=True)
            for gate in GATES[name]
        }
        fused = {leaf: np.concatenate([drawn[leaf, gate] for gate in GATES[name]], -1) for leaf in "WUb"}
        given += fused.values()
        if joined or name == "SimpleRNN":
            listed += [(f"{side}rnn_1_{leaf}", value) for leaf, value in fused.items()]
        else:
            listed += [(f"{side}rnn_1_{leaf}_{gate}", drawn[leaf, gate]) for gate in OLD_GATES[name] for leaf in "WUb"]
    path = write_hdf5(tmp_path / "m.h5", sequential(config, form=list), {config["config"]["name"]: listed}, "1.2.2")
    params, apply_fn = load_model(path)
    more = {"recurrent_activation": old_slope} if name != "SimpleRNN" else {}
    more |= {"reset_after": False} if name == "GRU" else {}
    other = getattr(L, name)(3, return_sequences=True, **more)
    other = L.Bidirectional(other) if wrapped else other
    x = draw(2, 5, 2)
    with keras_rules():
        other.build((None, 5, 2))
        other.set_weights(given)
        np.testing.assert_allclose(apply_fn(params, x), other(x), rtol=0, atol=1e-5)
    inside = apply_fn.layer.children[config["config"]["name"]]
    inside = inside.layer if wrapped else inside
    assert (inside.dropout, inside.recurrent_dropout) == (0.1, 0.2) and inside.kernel_regularizer.l2 == 0.1


@pytest.mark.few(1)
@pytest.mark.parametrize("ordering", ["th", "tf"])
def test_convolutional_layers_of_keras_1_are_read(ordering, tmp_path):
    options = {
        "nb_filter": 3, "nb_row": 2, "nb_col": 1, "border_mode": "same", "subsample": [1, 1], "dim_ordering": ordering,
        "init": "glorot_uniform", "inner_init": "orthogonal", "forget_bias_init": "one", "activation": "tanh",
        "inner_activation": "hard_sigmoid", "return_sequences": True, "batch_input_shape": [None, 4, 2, 5, 2],
    }  # fmt: skip
    leaves = {"W": (2, 1, 2, 3), "U": (2, 1, 3, 3), "b": (3,)}
    drawn = {(leaf, gate): draw(*size) for leaf, size in leaves.items() for gate in "ifco"}
    old = lambda v: v.transpose(3, 2, 0, 1) if ordering == "th" and v.ndim > 1 else v  # noqa: E731
    listed = [(f"conv_{leaf}_{gate}", old(drawn[leaf, gate])) for gate in "icfo" for leaf in "WUb"]
    config = sequential(layer("ConvLSTM2D", "conv", **options), form=list)
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, {"conv": listed}, "1.2.0", "tensorflow"))
    data_format = {"tf": "channels_last", "th": "channels_first"}[ordering]
    other = L.ConvLSTM2D(3, (2, 1), padding="same", return_sequences=True, recurrent_activation=old_slope)
    x = draw(2, 4, 2, 5, 2)
    moved = x if ordering == "tf" else np.moveaxis(x, 2, -1)
    with keras_rules():
        other.build(moved.shape)
        other.set_weights([np.concatenate([drawn[leaf, gate] for gate in "ifco"], -1) for leaf in leaves])
        want = other(moved)
    assert apply_fn.layer.children["conv"].data_format == data_format
    got = apply_fn(params, x)
    np.testing.assert_allclose(got if ordering == "tf" else np.moveaxis(got, 2, -1), want, rtol=0, atol=1e-5)
