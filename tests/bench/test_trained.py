"""Benchmarks of trained models: equal outputs in every library, files, unsupported models, errors."""

import importlib
import importlib.util
import json

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.bench import agreement, run, table, timing, trained
from jaxconv.bench.agreement import Unsupported
from jaxconv.cli.command_line import main

PEERS = [name for name in trained.LIBRARIES if importlib.util.find_spec(name)]
WITH_TORCH = pytest.mark.skipif("torch" not in PEERS, reason="needs PyTorch")
WITH_KERAS = pytest.mark.skipif("keras" not in PEERS, reason="needs Keras")


@pytest.fixture(autouse=True)
def default_promotion(monkeypatch):
    """Allow promotion of types and ranks, which the other libraries use, and time single calls."""
    monkeypatch.setattr(timing, "MIN_TURN", 0.0)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def weights(layer, shape):
    """Return params that differ from the initial ones: zeros and ones would hide errors."""
    params = layer.init_params(jax.random.key(0), shape)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jax.numpy.asarray(rng.uniform(0.2, 1, leaf.shape), leaf.dtype) - 0.1, params)


def a_graph():
    x = jaxconv.Input((12, 12, 3))
    a = jaxconv.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    a = jaxconv.BatchNormalization()(a)
    b = jaxconv.Dropout(0.5)(jaxconv.SeparableConv2D(4, 3, padding="same")(a))
    y = jaxconv.GlobalAveragePooling2D()(jaxconv.Add()([a, b]))
    return jaxconv.Model(x, jaxconv.Dense(5, activation="softmax")(y))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.keras"
    jaxconv.save_model(path, a_graph(), weights(a_graph(), (None, 12, 12, 3)))
    return path


@pytest.fixture
def other(tmp_path):
    """Save a model with a layer that neither Keras nor PyTorch has."""
    path = tmp_path / "other.keras"
    layer = jaxconv.Sequential([jaxconv.LocallyConnected1D(2, 3, name="local"), jaxconv.Flatten()])
    jaxconv.save_model(path, layer, weights(layer, (None, 8, 3)), input_shape=(None, 8, 3))
    return path


def refused(capsys, *arguments, code=2):
    assert main(["bench", *map(str, arguments)]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count("\n") == 1
    return error


@pytest.mark.few(1)
def test_the_command_writes_a_row_for_each_batch_size(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["bench", "--trained", str(file), "--batch", "1,3", "--seconds", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    left = json.loads((out / "bench.json").read_text())
    assert left["kind"] == "trained" and left["complete"]
    assert [(row["name"], row["batch"], row["file"]) for row in left["rows"]] == [
        ("small, batch 1", 1, str(file)),
        ("small, batch 3", 3, str(file)),
    ]
    for row in left["rows"]:
        assert set(row["milliseconds"]["inference"]) == set(PEERS) and row["wrong"] == [] and row["left_out"] == {}
        assert set(row["compile"]) == set(PEERS) - {"torch"}
        assert set(row["difference"]) == set(PEERS[1:])
        assert max(row["difference"].values(), default=0) < 1e-5  # float32, sums of at most 36 terms
    if len(PEERS) > 1:
        assert f"small, batch 3: difference from {PEERS[0]}: " in said and "jaxconv runs inference" in said
        assert [ratio["rows"] for ratio in left["ratios"]] == [2] * (len(PEERS) - 1)
        assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_new_folder_is_named_after_what_is_measured(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run.bench(files=[str(file), str(file)], batch="1", only="jaxconv", seconds=0)
    assert str(folder) == "runs/bench_trained"
    assert len(json.loads((folder / "bench.json").read_text())["rows"]) == 1  # a repeated file is measured once


def test_files_of_the_same_name_have_different_rows(file, tmp_path):
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / file.name
    again.write_bytes(file.read_bytes())
    assert list(trained.read_trained([str(file), str(again)], [2])) == [f"{file}, batch 2", f"{again}, batch 2"]


def test_outputs_that_differ_are_not_timed_and_are_an_error(file, tmp_path, capsys, monkeypatch):
    def load(layer, params, x):
        return trained._load("jaxconv")(layer, jax.tree.map(lambda leaf: leaf * 1.1, params), x)

    both = {"keras": load, "jaxconv": importlib.import_module("jaxconv.bench.peers.jaxconv").load}
    monkeypatch.setattr(trained, "_load", both.get)
    monkeypatch.setattr(run, "_installed", both.__contains__)
    out = tmp_path / "out"
    error = refused(capsys, "--trained", file, "--batch", "1", "--seconds", "0", "--out", out, code=1)
    assert "small, batch 1 (jaxconv)" in error
    (row,) = json.loads((out / "bench.json").read_text())["rows"]
    assert row["wrong"] == ["jaxconv"] and row["milliseconds"] == {"inference": {}}


def test_the_difference_is_relative_and_the_largest():
    one, zero = np.ones(2), np.zeros(2)
    assert agreement.difference([one, 4 * one], [one, 5 * one]) == pytest.approx(0.2)
    assert agreement.difference([zero], [zero]) == 0.0
    assert agreement.difference([one], [np.ones(3)]) == np.inf
    assert np.isnan(agreement.difference([one, one], [one * np.nan, one]))
    assert agreement.disagreeing({"a": [one * np.nan], "b": [one]}, 1.0) == ["a", "b"]
    assert agreement.disagreeing({}, 1.0) == []


def test_long_names_widen_the_table_up_to_a_limit():
    assert table.width(["fcn"]) == table.MIN_WIDTH and table.width(["x" * 99]) == table.MAX_WIDTH
    row = {"name": "y" * 99, "milliseconds": {"inference": {"torch": 1.0}}}
    cells = table.line(row, ["torch"], ["inference"], [], table.MAX_WIDTH)
    assert cells == "y" * table.MAX_WIDTH + "   " + "    1.00"
    assert table.heading(["torch"], ["inference"], [], 30).splitlines()[1] == "name" + " " * 26 + "      torch"


@WITH_KERAS
def test_an_unsupported_layer_leaves_keras_out(other, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--trained", str(other), "--only", "keras,jaxconv", "--seconds", "0", "--out", str(out)]
    assert main(["bench", *arguments]) == 0
    said = capsys.readouterr().out
    assert said.count(f"{other}: keras is left out: ") == 1  # for both batch sizes
    for row in json.loads((out / "bench.json").read_text())["rows"]:
        assert set(row["left_out"]) == {"keras"} and set(row["milliseconds"]["inference"]) == {"jaxconv"}


@WITH_KERAS
def test_keras_supports_several_inputs_and_outputs():
    x, y = (np.full((2, n), n, np.float32) for n in (3, 4))
    a, b = jaxconv.Input((3,)), jaxconv.Input((4,))
    model = jaxconv.Model([a, b], [jaxconv.Dense(2)(b), jaxconv.Dense(5)(a)])
    params = weights(model, [(None, 3), (None, 4)])
    loaded = [trained._load(name)(model, params, [x, y]) for name in PEERS]
    for one in loaded:
        one.infer.run()
        for got, expected in zip(one.outputs([x, y]), loaded[-1].outputs([x, y]), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trained", "nowhere.h5"], ["nowhere.h5: "]),
        (["--trained", "notes.keras"], ["notes.keras: "]),
        (["--trained", "small.keras", "--models"], ["--trained", "--models"]),
        (["--trained", "small.keras", "--accuracy"], ["--trained", "--accuracy"]),
        (["--trained", "small.keras", "--batch", "0"], ["--batch 0: "]),
        (["--trained", "small.keras", "--batch", "x"], ["--batch x: "]),
        (["--trained", "small.keras", "--batch", "1,"], ["--batch 1,: "]),
        (["--trained", "small.keras", "--only", "flax"], ["--only: flax", "--trained"]),
        (["larger", "--trained", "small.keras"], ["'larger'", "small"]),
        (["--batch", "8"], ["--batch 8", "--trained FILE"]),
        (["--trained"], ["--trained: "]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_one_line(arguments, words, file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.keras").write_text("notes")
    error = refused(capsys, *arguments)
    assert all(word in error for word in words), error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.keras", "small.keras"]


def test_an_unknown_length_is_an_error(tmp_path, capsys):
    layer = jaxconv.Sequential([jaxconv.Conv1D(2, 3)])
    jaxconv.save_model(tmp_path / "any.keras", layer, weights(layer, (None, 8, 3)), input_shape=(None, None, 3))
    assert "(None, None, 3)" in refused(capsys, "--trained", tmp_path / "any.keras")


def test_an_unknown_name_has_three_suggestions(capsys):
    error = refused(capsys, "renset18", "--models")
    assert "'renset18'" in error and ": resnet18, " in error
    assert error.count(", ") == 2 and "--list" in error


def test_names_are_listed_without_measuring(file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--models", "--list"]) == 0
    assert "resnet18\n" in capsys.readouterr().out
    assert main(["bench", "2", "--trained", str(file), "--list"]) == 0
    assert capsys.readouterr().out == f"{'small, batch 32':<24}  {file}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["small.keras"]


def test_short_programs_are_repeated(monkeypatch):
    monkeypatch.setattr(timing, "MIN_TURN", 0.01)
    count = []
    program = timing.repeated(lambda: count.append(1))
    before = len(count)
    program.run()
    assert len(count) - before == program.calls > 1


# -- the layers in PyTorch, against the same layers here

L = jaxconv
FIRST = {"data_format": "channels_first"}
ONE, TWO, THREE = (2, 9, 4), (2, 7, 8, 4), (2, 5, 6, 7, 4)
LAYERS = [
    (L.Conv1D(6, 3, strides=2, padding="causal", groups=2, activation="gelu"), ONE),
    (L.Conv1D(6, 3, dilation_rate=2, padding="same", use_bias=False, activation="glu"), ONE),
    (L.Conv2D(6, (3, 2), strides=2, padding="same", activation="softmax"), TWO),
    (L.Conv2D(6, 3, padding=((1, 0), (2, 2)), **FIRST), (2, 4, 7, 8)),
    (L.Conv3D(2, 3, padding="same", strides=(1, 2, 1)), THREE),
    (L.Conv1DTranspose(3, 4, strides=3, padding="same"), ONE),
    (L.Conv1DTranspose(3, 2, strides=3, output_padding=2), ONE),
    (L.Conv1DTranspose(3, 4, strides=2, padding=((2, 0),)), ONE),
    (L.Conv2DTranspose(3, 3, strides=2, padding="same", groups=1, activation="elu"), TWO),
    (L.Conv2DTranspose(4, (5, 2), strides=(2, 3), groups=2), TWO),
    (L.Conv3DTranspose(2, 3, strides=2, padding="same"), (1, 3, 2, 3, 4)),
    (L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), ONE),
    (L.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6"), TWO),
    (L.DepthwiseConv2D(3, depth_multiplier=2, **FIRST), (2, 4, 7, 8)),
    (L.DepthwiseConv3D(3, padding="same"), THREE),
    (L.SeparableConv1D(5, 3, depth_multiplier=2), ONE),
    (L.SeparableConv2D(5, 3, strides=2, padding="same", activation="tanh"), TWO),
    (L.Dense(3, activation="silu"), (2, 4)),
    (L.Dense(3, activation="log_softmax"), TWO),
    (L.BatchNormalization(), TWO),
    (L.BatchNormalization(scale=False), (2, 4)),
    (L.BatchNormalization(axis=1, center=False), ONE),
    (L.Rescaling(0.5, -1), TWO),
    (L.Activation("softmax"), TWO),
    (L.Activation("hard_sigmoid"), ONE),
    (L.ReLU(), ONE),
    (L.ReLU(max_value=0.5), ONE),
    (L.ReLU(negative_slope=0.1), ONE),
    (L.LeakyReLU(0.2), ONE),
    (L.ELU(0.5), ONE),
    (L.PReLU(shared_axes=(1, 2)), TWO),
    (L.Softmax(axis=1), TWO),
    (L.MaxPooling1D(3, 2, padding="same"), ONE),
    (L.MaxPooling2D(3, 2, padding="same"), TWO),
    (L.MaxPooling2D(2, **FIRST), TWO),
    (L.MaxPooling3D(2), THREE),
    (L.AveragePooling1D(2), ONE),
    (L.AveragePooling2D(3, 1, padding="same"), TWO),
    (L.AveragePooling2D(2, padding="same"), TWO),
    (L.AveragePooling3D(2), THREE),
    (L.GlobalAveragePooling1D(), ONE),
    (L.GlobalAveragePooling2D(keepdims=True), TWO),
    (L.GlobalMaxPooling2D(**FIRST), TWO),
    (L.GlobalMaxPooling3D(), THREE),
    (L.Flatten(), TWO),
    (L.Flatten(data_format="channels_first"), TWO),
    (L.Reshape((8, -1, 2)), TWO),
    (L.Permute((2, 3, 1)), TWO),
    (L.RepeatVector(3), (2, 4)),
    (L.ZeroPadding1D((1, 2)), ONE),
    (L.ZeroPadding2D(((1, 0), (2, 3))), TWO),
    (L.ZeroPadding3D(1), THREE),
    (L.Cropping1D((1, 2)), ONE),
    (L.Cropping2D(((1, 0), (2, 3)), **FIRST), (2, 4, 7, 8)),
    (L.UpSampling1D(3), ONE),
    (L.UpSampling2D((2, 3)), TWO),
    (L.UpSampling3D(2), THREE),
    (L.GaussianNoise(0.1), ONE),
    (L.SpatialDropout2D(0.5), TWO),
    (L.ActivityRegularization(1.0), ONE),
]


def shown(value):
    return type(value).__name__ if isinstance(value, L.Layer) else "x".join(map(str, value))


def same_in_torch(layer, shapes):
    params = weights(layer, shapes if isinstance(shapes, tuple) else list(shapes))
    rng = np.random.default_rng(2)
    x = jax.tree.map(lambda s: rng.standard_normal(s).astype("f4"), shapes, is_leaf=lambda s: isinstance(s, tuple))
    expected = jax.tree.leaves(layer.apply_fn(params, x))
    got = trained._load("torch")(layer, params, x).outputs(x)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        # sums of at most 108 products of float32, in another order
        np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-5)


@pytest.mark.few(4)
@WITH_TORCH
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=shown)
def test_a_layer_equals_its_pytorch_implementation(layer, shape):
    same_in_torch(layer, shape)


def activation_names():
    return sorted(set(importlib.import_module("jaxconv.bench.peers.torch_layers")._POINTWISE))


@WITH_TORCH
def test_every_activation_equals_its_pytorch_implementation():
    names = activation_names()
    assert len(names) == 22
    x = L.Input((4,))
    same_in_torch(L.Model(x, [L.Activation(name)(x) for name in names]), (3, 4))


@WITH_TORCH
def test_graphs_equal_their_pytorch_implementation():
    x = L.Input((8, 3))
    shared = L.Conv1D(3, 3, padding="same")
    inner = L.Sequential([L.Conv1D(3, 1), L.Dropout(0.5), L.ReLU()])
    a, b = shared(x), shared(shared(x))
    both = [layer()([a, b]) for layer in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)]
    joined = L.Concatenate()([*both, inner(x), L.Residual([L.Conv1D(3, 3, padding="same")])(a)])
    same_in_torch(L.Model(x, [joined, L.Flatten()(L.Concatenate(axis=1)([a, x])), x]), (2, 8, 3))
    a, b = L.Input((3,)), L.Input((4,))
    inner = L.Model([a, b], L.Concatenate()([a, b]))
    c, d = L.Input((3,)), L.Input((4,))
    same_in_torch(L.Model([d, c], L.Dense(2)(inner([c, d]))), [(2, 4), (2, 3)])


@WITH_TORCH
def test_a_model_with_channels_first_equals_its_pytorch_implementation():
    layers = [L.Conv2D(4, 3, **FIRST), L.BatchNormalization(axis=1), L.Flatten(**FIRST), L.Dense(3)]
    same_in_torch(L.Sequential(layers), (2, 3, 6, 7))


@WITH_TORCH
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (L.LocallyConnected1D(2, 3), "LocallyConnected1D"),
        (L.Conv1D(2, 3, padding="same", padding_mode="reflect"), "padding_mode='reflect'"),
        (L.Conv1D(2, 3, **FIRST), "data_format is 'channels_first'"),
        (L.Conv1D(2, 3, dtype="bfloat16"), "bfloat16"),
        (L.Activation("sparsemax"), "'sparsemax'"),
        (L.Activation(lambda x: x), "config"),
        (L.ReLU(threshold=1), "ReLU"),
        (L.PReLU(), "PReLU"),
        (L.PReLU(shared_axes=2), "PReLU"),
        (L.Softmax(axis=(1, 2)), "Softmax"),
        (L.Rescaling([1.0, 2.0, 3.0]), "Rescaling"),
        (L.UpSampling1D(2, interpolation="bilinear"), "interpolation='bilinear'"),
        (L.BatchNormalization(renorm=True), "BatchNormalization"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, L.Layer) else "",
)
def test_an_unsupported_layer_is_named(layer, words):
    model = L.Sequential([L.Conv1D(3, 1), L.Sequential([layer], name="inner")])
    with pytest.raises(Unsupported) as caught:
        trained._load("torch")(model, weights(model, (2, 8, 3)), np.zeros((2, 8, 3), "f4"))
    assert words in str(caught.value) and str(caught.value).startswith("layer 'inner/")


@WITH_TORCH
def test_merging_several_ranks_is_unsupported():
    x = L.Input((8, 3))
    model = L.Model(x, L.Multiply()([x, L.GlobalAveragePooling1D()(x)]))
    with pytest.raises(Unsupported, match="layer 'multiply': Multiply"):
        trained._load("torch")(model, {}, np.zeros((2, 8, 3), "f4"))


@WITH_TORCH
def test_an_unsupported_layer_leaves_pytorch_out(other, tmp_path, capsys):
    arguments = ["--trained", str(other), "--only", "torch,jaxconv", "--seconds", "0", "--out", str(tmp_path / "out")]
    assert main(["bench", *arguments]) == 0
    assert capsys.readouterr().out.count(f"{other}: torch is left out: layer 'local': LocallyConnected1D") == 1
