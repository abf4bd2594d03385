"""Files of Keras 1 and 2, written by hand from their own keys: values against NumPy in float64."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model, load_weights, read_model
from tests.support.keras_files import functional, layer, sequential, write_hdf5
from tests.support.messages import facts

pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
CONV = {"border_mode": "valid", "activation": "linear", "bias": True, "init": "glorot_uniform"}


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def correlate(x, kernel):
    """Correlate x (batch, rows, cols, channels) with a kernel (rows, cols, channels, filters), "valid"."""
    rows, cols = kernel.shape[:2]
    places = [(r, c) for r in range(x.shape[1] - rows + 1) for c in range(x.shape[2] - cols + 1)]
    y = [np.einsum("brci,rcio->bo", x[:, r : r + rows, c : c + cols].astype(np.float64), kernel) for r, c in places]
    return np.stack(y, 1).reshape(len(x), x.shape[1] - rows + 1, x.shape[2] - cols + 1, -1)


def test_keras_1_convolution_in_the_order_of_tensorflow(tmp_path):
    kernel, bias, x = draw(2, 3, 2, 4), draw(4), draw(2, 5, 6, 2)
    options = {"nb_filter": 4, "nb_row": 2, "nb_col": 3, "dim_ordering": "tf", "subsample": [1, 1], **CONV}
    config = sequential(layer("Convolution2D", "c_1", **options, batch_input_shape=[None, 5, 6, 2]), form=list)
    path = write_hdf5(tmp_path / "m.h5", config, {"c_1": [("c_1_W", kernel), ("c_1_b", bias)]}, "1.2.1")
    params, apply_fn = load_model(path)
    np.testing.assert_allclose(apply_fn(params, x), correlate(x, kernel) + bias, atol=1e-5)


@pytest.mark.parametrize("backend", [None, "theano", "tensorflow"])
def test_keras_1_convolution_in_the_order_of_theano_is_turned_where_the_file_says_so(backend, tmp_path):
    stored, bias, x = draw(4, 2, 2, 3), draw(4), draw(2, 2, 5, 6)  # (filters, channels, rows, cols)
    options = {"nb_filter": 4, "nb_row": 2, "nb_col": 3, "dim_ordering": "th", "subsample": [1, 1], **CONV}
    options["W_constraint"] = {"name": "MaxNorm", "m": 2, "axis": 0}
    options["W_regularizer"] = {"name": "L1L2Regularizer", "l1": 0.0, "l2": 0.5}
    config = sequential(layer("Convolution2D", "c_1", **options, batch_input_shape=[None, 2, 5, 6]), form=list)
    weights = {"c_1": [("c_1_W", stored), ("c_1_b", bias)]}
    net, params = load_layer(write_hdf5(tmp_path / "m.h5", config, weights, "1.2.0", backend))
    kernel = stored.transpose(2, 3, 1, 0)
    kernel = kernel[::-1, ::-1] if backend == "theano" else kernel
    want = correlate(x.transpose(0, 2, 3, 1), kernel) + bias
    np.testing.assert_allclose(net.apply_fn(params, x), want.transpose(0, 3, 1, 2), atol=1e-5)
    assert net.layers[0].kernel_constraint == jc.constraints.MaxNorm(2, axis=3)  # filters came first, and come last
    assert net.layers[0].kernel_regularizer == jc.regularizers.L1L2(0.0, 0.5)


@pytest.mark.parametrize("ordering", ["th", "tf"])
def test_layers_of_keras_1_without_a_dim_ordering_have_that_of_the_others(ordering, tmp_path):
    first = ordering == "th"
    options = {"nb_filter": 2, "nb_row": 1, "nb_col": 1, "dim_ordering": ordering, "subsample": [1, 1], **CONV}
    shape = [None, 2, 4, 6] if first else [None, 4, 6, 2]
    config = sequential(
        layer("ZeroPadding2D", "z", padding=[1, 2], batch_input_shape=shape),
        layer("Convolution2D", "c", **{**options, "bias": False}),
        layer("UpSampling2D", "u", size=[2, 3]),
        layer("MaxPooling2D", "p", pool_size=[3, 2], strides=[3, 2], border_mode="valid", dim_ordering="default"),
        layer("Reshape", "r", target_shape=[-1, 2]),
        layer("MaxPooling1D", "q", pool_length=1, stride=1, border_mode="valid"),
        form=list,
    )
    kernel, x = draw(1, 1, 2, 2), draw(1, 4, 6, 2)
    stored = kernel.transpose(3, 2, 0, 1) if first else kernel
    path = write_hdf5(tmp_path / "m.h5", config, {"c": [("c_W:0", stored)]}, "1.0.3")
    params, apply_fn = load_model(path)
    h = np.pad(x, [(0, 0), (1, 1), (2, 2), (0, 0)]) @ kernel[0, 0]
    want = h.repeat(2, 1).repeat(3, 2).reshape(1, 4, 3, 15, 2, 2).max((2, 4))
    y = apply_fn(params, x.transpose(0, 3, 1, 2) if first else x)
    want = want.transpose(0, 3, 1, 2) if first else want
    np.testing.assert_allclose(y, want.reshape(1, -1, 2), atol=1e-5)
    assert apply_fn.layer.layers[-1].data_format == "channels_last"  # layers of one dimension had no other


def test_a_layer_of_keras_1_without_a_dim_ordering_among_both_is_refused(tmp_path):
    pools = [layer("MaxPooling2D", ordering, pool_size=[1, 1], dim_ordering=ordering) for ordering in ("th", "tf")]
    pools[0]["config"]["batch_input_shape"] = [None, 4, 4, 4]
    config = sequential(*pools, layer("UpSampling2D", "u", size=[2, 2]), form=list)
    with pytest.raises(FileError, match=facts("layer 'u'", "dim_ordering", "'th'", "'tf'")):
        load_model(write_hdf5(tmp_path / "m.h5", config, {}, "1.0.3"))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_weights_of_keras_1_are_known_by_their_names(data_format, tmp_path):
    net = jc.Sequential([jc.Reshape((6, 2)), jc.Conv1D(3, 2), jc.Reshape((5, 3, 1)),
                         jc.Conv2DTranspose(4, 2, use_bias=False, data_format=data_format)])  # fmt: skip
    params, _ = net.init(jax.random.key(0), (None, 12))
    channels = 1 if data_format == "channels_last" else 5
    line, bias, square = draw(2, 2, 3), draw(3), draw(2, 2, 4, channels)
    stored = square.transpose(0, 1, 3, 2) if data_format == "channels_last" else square.transpose(2, 3, 0, 1)
    weights = {"c_1": [("c_1_W:0", line[:, None]), ("c_1_b:0", bias)], "d_1": [("d_1_W:0", stored)]}
    loaded = load_weights(write_hdf5(tmp_path / "w.h5", None, weights), net, params)
    np.testing.assert_array_equal(loaded["conv1d"]["kernel"], line)
    np.testing.assert_array_equal(loaded["conv2d_transpose"]["kernel"], square)


def test_the_input_length_of_an_embedding_is_ignored(tmp_path):
    table = draw(5, 3)
    config = sequential(layer("Embedding", "e", input_dim=5, output_dim=3, input_length=4, batch_input_shape=[None, 4]))
    for version in ("1.2.2", "2.9.0", "3.0.0"):
        path = write_hdf5(tmp_path / "m.h5", config, {"e": [("e/embeddings:0", table)]}, version)
        params, apply_fn = load_model(path)
        np.testing.assert_array_equal(apply_fn(params, np.array([[0, 4, 2, 2]])), table[[[0, 4, 2, 2]]])


@pytest.mark.parametrize("older", [False, True])
def test_keras_1_kernels_of_one_dimension_lose_their_axis_of_one(older, tmp_path):
    kernel, x = draw(3, 2, 4), draw(2, 7, 2)
    stored = kernel[:, None].transpose(3, 2, 0, 1) if older else kernel[:, None]
    options = {"nb_filter": 4, "filter_length": 3, "subsample_length": 1, "input_dim": 2, "input_length": 7, **CONV}
    config = sequential(
        layer("AtrousConvolution1D", "c", **{**options, "bias": False}, atrous_rate=2, batch_input_shape=[None, 7, 2]),
        layer("MaxPooling1D", "p", pool_length=2, stride=1, border_mode="valid"),
        layer("Dropout", "d", p=0.25),
        form=list,
    )
    net, params = load_layer(write_hdf5(tmp_path / "m.h5", config, {"c": [("c_W", stored)]}, "1.1.0"))
    want = np.stack([sum(x[:, t + 2 * k] @ kernel[k] for k in range(3)) for t in range(3)], 1)
    np.testing.assert_allclose(net.apply_fn(params, x), np.maximum(want[:, 1:], want[:, :-1]), atol=1e-5)
    assert net.layers[2].rate == 0.25


def test_keras_1_names_of_other_layers(tmp_path):
    norm = {"mode": 0, "axis": -1, "epsilon": 1e-3, "momentum": 0.9, "gamma_regularizer": None}
    config = functional(
        [
            layer("InputLayer", "i", [], batch_input_shape=[None, 4], input_dtype="float32", sparse=False),
            layer("Dense", "d", [[["i", 0, 0]]], output_dim=4, init="zero", bias=True, b_regularizer=None, input_dim=4),
            layer("BatchNormalization", "b", [[["d", 0, 0]]], **norm),
            layer("Activation", "h", [[["b", 0, 0]]], activation="hard_sigmoid"),
            layer("ThresholdedReLU", "t", [[["b", 0, 0]]], theta=0.5),
            layer("Merge", "m", [[["h", 0, 0], ["t", 0, 0]]], mode="concat", concat_axis=-1, mode_type="raw"),
        ],
        [["i", 0, 0]],
        [["m", 0, 0]],
    )
    kernel, bias, x = draw(4, 4), draw(4), draw(3, 4)
    gamma, beta, mean, variance = draw(4), draw(4), draw(4), np.abs(draw(4))
    stats = [("b_gamma", gamma), ("b_beta", beta), ("b_running_mean", mean), ("b_running_std", variance)]
    path = write_hdf5(tmp_path / "m.h5", config, {"d": [("d_W", kernel), ("d_b", bias)], "b": stats}, "1.2.2")
    params, apply_fn = load_model(path)
    h = gamma * (x @ kernel + bias - mean) / np.sqrt(variance + 1e-3) + beta
    want = np.concatenate([np.clip(0.2 * h + 0.5, 0, 1), np.where(h > 0.5, h, 0)], -1)
    np.testing.assert_allclose(apply_fn(params, x), want, atol=1e-5)


def test_keras_2_kernels_of_theano_are_turned(tmp_path):
    kernel, depthwise, x = draw(2, 3, 2, 4), draw(2, 2, 4, 1), draw(1, 5, 6, 2)
    config = sequential(
        layer("Conv2D", "c", filters=4, kernel_size=[2, 3], use_bias=False, batch_input_shape=[None, 5, 6, 2]),
        layer("DepthwiseConv2D", "d", kernel_size=[2, 2], use_bias=False, filters=None, kernel_initializer=None),
        form=list,
    )
    weights = {"c": [("c/kernel:0", kernel)], "d": [("d/depthwise_kernel:0", depthwise)]}
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, weights, "2.1.3", "theano"))
    h = correlate(x, kernel[::-1, ::-1])
    want = np.concatenate([correlate(h[..., i : i + 1], depthwise[:, :, i : i + 1]) for i in range(4)], -1)
    np.testing.assert_allclose(apply_fn(params, x), want, atol=1e-5)


def scatter(x, kernel, strides, lengths, before):
    """The gradient of a convolution: each entry of x scatters kernel (rows, cols, out, in); edges are cropped."""
    full = np.zeros((len(x), lengths[0] + 20, lengths[1] + 20, kernel.shape[2]))
    for row, col in np.ndindex(x.shape[1:3]):
        r, c = row * strides[0], col * strides[1]
        full[:, r : r + kernel.shape[0], c : c + kernel.shape[1]] += np.einsum(
            "bi,rcoi->brco", x[:, row, col].astype(np.float64), kernel
        )
    return full[:, before[0] : before[0] + lengths[0], before[1] : before[1] + lengths[1]]


DECONVOLUTIONS = {  # border_mode, strides, kernel, input and output lengths, backend, what is cut off in front
    "valid": ("valid", (2, 1), (3, 2), (3, 4), (7, 5), None, (0, 0)),
    "valid, longer": ("valid", (3, 2), (4, 3), (2, 3), (9, 8), "tensorflow", (0, 0)),
    "same": ("same", (2, 2), (3, 4), (3, 4), (6, 8), "tensorflow", (0, 1)),
    "same, odd": ("same", (2, 2), (3, 4), (3, 4), (5, 7), "tensorflow", (1, 1)),
    "same, Theano's": ("same", (2, 2), (3, 4), (3, 4), (6, 7), "theano", (1, 2)),
    "same, long stride": ("same", (3, 3), (2, 1), (2, 3), (5, 7), "tensorflow", (0, 0)),
}


@pytest.mark.parametrize("kind", DECONVOLUTIONS)
def test_keras_1_deconvolution_gives_the_shape_it_was_told(kind, tmp_path):
    rule, strides, size, lengths, lengths_out, backend, before = DECONVOLUTIONS[kind]
    kernel, x = draw(*size, 3, 2), draw(2, *lengths, 2)  # (rows, cols, filters, channels): today's
    stored = kernel.transpose(0, 1, 3, 2)[::-1, ::-1] if backend == "theano" else kernel.transpose(0, 1, 3, 2)
    options = {**CONV, "border_mode": rule, "bias": False, "dim_ordering": "tf", "subsample": list(strides)}
    options |= {"nb_filter": 3, "nb_row": size[0], "nb_col": size[1], "output_shape": [None, *lengths_out, 3]}
    config = sequential(layer("Deconvolution2D", "d", batch_input_shape=[None, *lengths, 2], **options), form=list)
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", config, {"d": [("d_W", stored)]}, "1.2.2", backend))
    y = apply_fn(params, x)
    assert y.shape == (2, *lengths_out, 3)
    np.testing.assert_allclose(y, scatter(x, kernel, strides, lengths_out, before), atol=1e-5)


def test_keras_1_deconvolution_of_volumes_and_channels_first(tmp_path):
    kernel, x = draw(2, 2, 2, 4, 3), draw(1, 2, 2, 2, 3)
    options = {**CONV, "bias": False, "nb_filter": 4, "kernel_dim1": 2, "kernel_dim2": 2, "kernel_dim3": 2}
    options |= {"dim_ordering": "th", "subsample": [2, 2, 2], "output_shape": [None, 4, 4, 5, 4]}
    config = sequential(layer("Deconvolution3D", "d", batch_input_shape=[None, 3, 2, 2, 2], **options), form=list)
    stored = kernel.transpose(3, 4, 0, 1, 2)
    params, apply_fn = load_model(
        write_hdf5(tmp_path / "m.h5", config, {"d": [("d_W", stored)]}, "1.2.2", "tensorflow")
    )
    want = np.zeros((1, 4, 5, 4, 4))
    for place in np.ndindex(2, 2, 2):
        where = tuple(slice(2 * n, 2 * n + 2) for n in place)
        want[(slice(None), *where)] += np.einsum("bi,rcdoi->brcdo", x[(slice(None), *place)], kernel)
    np.testing.assert_allclose(apply_fn(params, x.transpose(0, 4, 1, 2, 3)).transpose(0, 2, 3, 4, 1), want, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths_out", "parts"),
    [
        ([None, 12, 12, 3], ["(10, 10)", "(None, 4, 4, 2)", "(12, 12)"]),
        ([None, 2, 2, 3], ["layer 'd'", "output_shape", "(2, 2)"]),
        ([None, 12, 3], ["layer 'd'", "output_shape=[None, 12, 3]", "2 axes"]),
        ([None, None, 12, 3], ["layer 'd'", "output_shape=", "2 axes"]),
    ],
)
def test_keras_1_deconvolution_of_an_impossible_shape_is_refused_by_name(lengths_out, parts, tmp_path):
    options = {**CONV, "bias": False, "nb_filter": 3, "nb_row": 4, "nb_col": 4, "dim_ordering": "tf"}
    inside = layer("Deconvolution2D", "d", subsample=[2, 2], output_shape=lengths_out, **options)
    inner = sequential({**inside, "config": {**inside["config"], "batch_input_shape": [None, 4, 4, 2]}})
    with pytest.raises(FileError, match=facts(*parts)):
        load_model(write_hdf5(tmp_path / "m.h5", inner, {"d": [("d_W", draw(4, 4, 2, 3))]}, "1.2.2", "tensorflow"))


@pytest.mark.parametrize(("version", "slope"), [("1.2.2", 0.2), ("2.15.0", 0.2), ("3.0.0", 1 / 6), (None, 0.2)])
def test_hard_sigmoid_has_the_slope_of_its_time(version, slope, tmp_path):
    config = sequential(layer("Activation", "a", activation="hard_sigmoid", batch_input_shape=[None, 5]))
    read = read_model(write_hdf5(tmp_path / "m.h5", config, {}, version))
    x = np.array([[-9, -1, 0, 1, 9]], np.float32)
    np.testing.assert_allclose(read.layer.apply_fn({}, x), np.clip(slope * x + 0.5, 0, 1), atol=1e-6)
    assert bool(read.notes) is (slope == 0.2)


def test_what_keras_3_refuses_and_says_nothing_is_left_out_and_noted(tmp_path):
    initializer = {"class_name": "GlorotUniformV2", "config": {"seed": None, "dtype": "float32"}}
    config = sequential(
        layer("InputLayer", "input_1", batch_input_shape=[None, 6, 2], dtype="float32", sparse=False, ragged=False),
        layer("SeparableConv1D", "s", filters=3.0, kernel_size=[2], groups=1, kernel_initializer=initializer,
              kernel_regularizer=None, dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}),
        layer("Conv1DTranspose", "t", filters=2, kernel_size=[2], groups=1, output_padding=None),
        layer("BatchNormalizationV1", "b", axis=[2], scale=1, fused=True, virtual_batch_size=None),
        layer("LeakyReLU", "l", alpha={"type": "ndarray", "dtype": "float32", "value": 0.25}),
        layer("Activation", "a", activation="softmax_v2"),
    )  # fmt: skip
    weights = {
        "s": [("s/depthwise_kernel:0", draw(2, 2, 1)), ("s/pointwise_kernel:0", draw(1, 2, 3)), ("s/bias:0", draw(3))],
        "t": [("t/kernel:0", draw(2, 2, 3)), ("t/bias:0", draw(2))],
        "b": [(f"b/{name}:0", np.ones(2, np.float32)) for name in ("gamma", "beta", "moving_mean", "moving_variance")],
    }
    read = read_model(write_hdf5(tmp_path / "m.h5", config, weights, "2.4.0-tf"))
    separable, _, norm, leaky, _ = read.layer.layers
    assert separable.dtype == "mixed_float16" and separable.filters == 3
    assert norm.scale is True and norm.axis == 2 and leaky.negative_slope == 0.25
    for note in (
        "s: groups=1 is left out: it has no effect",
        "s: kernel_initializer is left out: the layer has no such weight",
        "b: BatchNormalizationV1 is read as BatchNormalization",
        "a: activation softmax_v2 is read as softmax",
    ):
        assert note in read.notes


def nested(first):
    """Return a model with a model inside that is called twice, its calls counted from ``first``."""
    inner = functional(
        [
            layer("InputLayer", "x", [], batch_input_shape=[None, 3]),
            layer("Dense", "one", [[["x", 0, 0, {}]]], units=2, use_bias=False, trainable=False),
            layer("Dense", "two", [[["x", 0, 0, {}]]], units=2, use_bias=False),
        ],
        [["x", 0, 0]],
        [["one", 0, 0], ["two", 0, 0]],
        "inner",
    )
    return functional(
        [
            layer("InputLayer", "a", [], batch_input_shape=[None, 3]),
            layer("InputLayer", "b", [], batch_input_shape=[None, 3]),
            {**inner, "name": "inner", "inbound_nodes": [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]},
            layer("Subtract", "s", [[["inner", first, 0, {}], ["inner", first + 1, 1, {}]]]),
        ],
        [["a", 0, 0], ["b", 0, 0]],
        [["s", 0, 0], ["inner", first + 1, 0]],
    )


@pytest.mark.parametrize("first", [0, 1], ids=["keras", "tf.keras"])
def test_calls_of_a_model_inside_are_counted_from_0_or_1(first, tmp_path):
    one, two, a, b = draw(3, 2), draw(3, 2), draw(2, 3), draw(2, 3)
    weights = {"inner": [("two/kernel:0", two), ("one/kernel:0", one)]}  # trainable ones first, as Keras 2 wrote
    params, apply_fn = load_model(write_hdf5(tmp_path / "m.h5", nested(first), weights, "2.2.4"))
    y, z = apply_fn(params, [a, b])
    np.testing.assert_allclose(y, a @ one - b @ two, atol=1e-5)
    np.testing.assert_allclose(z, b @ one, atol=1e-5)


def test_unnamed_weights_of_a_model_inside_come_trainable_first(tmp_path):
    one, two = draw(3, 2), draw(3, 2)
    weights = {"inner": [("kernel_1:0", two), ("kernel:0", one)]}
    params, _ = load_model(write_hdf5(tmp_path / "m.h5", nested(1), weights, "2.3.1"))
    np.testing.assert_array_equal(params["inner"]["one"]["kernel"], one)
    np.testing.assert_array_equal(params["inner"]["two"]["kernel"], two)


def test_lists_of_names_may_come_in_pieces(tmp_path):
    def split(file):
        for where, name in (("model_weights", "layer_names"), ("model_weights/d1", "weight_names")):
            attributes = file[where].attrs
            whole = attributes[name]
            del attributes[name]
            for number, one in enumerate(whole):
                attributes[f"{name}{number}"] = [one]

    config = sequential(
        layer("Dense", "d1", units=2, batch_input_shape=[None, 3]), layer("Dense", "d2", units=2, use_bias=False)
    )
    weights = {"d1": [("d1/kernel:0", draw(3, 2)), ("d1/bias:0", draw(2))], "d2": [("d2/kernel:0", draw(2, 2))]}
    params, _ = load_model(write_hdf5(tmp_path / "m.h5", config, weights, "2.2.4", change=split))
    np.testing.assert_array_equal(params["d1"]["bias"], weights["d1"][1][1])
    np.testing.assert_array_equal(params["d2"]["kernel"], weights["d2"][0][1])


def test_slashes_in_names_become_points(tmp_path):
    config = sequential(layer("Dense", "block/fc", units=2, use_bias=False, batch_input_shape=[None, 3]))
    kernel = draw(3, 2)
    read = read_model(write_hdf5(tmp_path / "m.h5", config, {"block/fc": [("block/fc/kernel:0", kernel)]}, "2.3.0-tf"))
    np.testing.assert_array_equal(read.params["block.fc"]["kernel"], kernel)
    assert read.notes == ("block/fc: named block.fc here",)


def test_weights_by_name_leave_out_nothing_unless_told_to(tmp_path):
    net = jc.Sequential([jc.Dense(2, name="old", use_bias=False), jc.Dense(4, name="head")])
    params, _ = net.init(jax.random.key(0), (None, 3))
    kernel = draw(3, 2)
    weights = {"old": [("old/kernel:0", kernel)], "gone": [("gone/kernel:0", draw(2, 9))]}
    path = write_hdf5(tmp_path / "w.h5", None, weights, "2.2.4")
    with pytest.raises(FileError, match=facts("'gone'")):
        load_weights(path, net, params, by_name=True)
    loaded = load_weights(path, net, params, by_name=True, strict=False)
    np.testing.assert_array_equal(loaded["old"]["kernel"], kernel)
    np.testing.assert_array_equal(loaded["head"]["kernel"], params["head"]["kernel"])
    with pytest.raises(FileError, match=facts("layer 'head' has 1 weights", "('kernel:0')", "needs 2")):
        load_weights(path, net, params)


def test_factories_take_the_place_of_classes_that_are_not_here(tmp_path):
    config = sequential(
        layer("Lambda", "scale", function=["marshalled", None, None], batch_input_shape=[None, 3]),
        layer("Own", "own", width=2),
    )
    path = write_hdf5(
        tmp_path / "m.h5", config, {"own": [("own/w:0", np.ones((3, 2))), ("own/b:0", np.ones(2))]}, "2.2.4"
    )
    factories = {"scale": lambda config: jc.Rescaling(2.0), "Own": lambda config: jc.Dense(config["width"])}
    params, apply_fn = load_model(path, custom_layers=factories)
    np.testing.assert_allclose(apply_fn(params, np.ones((1, 3))), [[7, 7]])
    assert apply_fn.layer.names == ("scale", "own")
    with pytest.raises(TypeError, match=facts("'own'", "Own", 3)):
        load_model(path, custom_layers={**factories, "Own": lambda config: 3})
    layer_, _ = load_layer(path, custom_layers=factories, until="scale")
    assert layer_.names == ("scale",)
    with pytest.raises(ValueError, match=facts("until='scal'", "did you mean 'scale'")):
        load_model(path, until="scal")


def test_the_type_of_the_indices_of_an_embedding_is_not_its_policy(tmp_path):
    config = sequential(layer("Embedding", "e", input_dim=4, output_dim=2, dtype="int32", batch_input_shape=[None, 3]))
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    path = write_hdf5(tmp_path / "m.h5", config, {"e": [("e/embeddings:0", table)]}, "2.0.2", "tensorflow")
    params, apply_fn = load_model(path)
    np.testing.assert_array_equal(apply_fn(params, np.array([[3, 0, 1]])), table[[[3, 0, 1]]])
