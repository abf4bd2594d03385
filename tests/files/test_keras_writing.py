"""Files that Keras opens: the same outputs in Keras, the same bytes each time, written completely or not at all."""

import io
import json
import os
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.input_shapes import fitting_shape
from jaxconv.files.keras.layout import groups
from jaxconv.files.keras.writing import save_model
from jaxconv.files.loading import load_layer
from tests.support.catalogue import CASES, inputs, tolerance
from tests.support.keras_oracle import keras, keras_rules
from tests.support.messages import facts

h5py = pytest.importorskip("h5py")
KEY = jax.random.key(0)
pytestmark = [  # both are Keras's own
    pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

LACKING = {"locally", "residual", "parallel", "instance", "weight_normalization", "adaptive", "reciprocal", "get_item"}
BEYOND = {  # options that Keras does not have
    "conv1d_pads",
    "conv2d_pads",
    "conv1d_reflected",
    "conv1d_strided_dilated",
    "conv2d_causal_rows",
    "conv1d_transpose_groups",
    "depthwise_conv1d_causal",
    "depthwise_conv3d",
    "separable_conv3d",
    "spatial_dropout1d_first",
    "rescaling_first",
    "up_sampling1d_line",
    "conv2d_orthogonal",
    "model_of_a_residual",
}
BROKEN = {  # what Keras itself does otherwise than it documents, or cannot do
    "conv1d_softmax_first": "its softmax runs along the last axis",
    "layer_normalization_axes": "it orders -1 before 1, and gamma with it",
    "rms_normalization": "it cannot broadcast a scale along an axis that is not the last",
    "sequential_empty": "it builds no model without layers",
    "multi_head_attention_causal": "on JAX it cannot have a value_dim unlike key_dim",
    "multi_head_attention_frames": "its sliding window does not fit attention_axes",
    "gru_without_bias": "it builds an orthogonal recurrent kernel in float16 that is not among its variables",
}
OURS = {name for name in CASES if any(name.startswith(word) for word in LACKING)} | BEYOND
THEIRS = [name for name in CASES if name not in OURS and name not in BROKEN]
FEW = ["conv1d_causal", "spectral_normalization", "sequential_nested", "model_two_outputs", "dense_mixed_float16"]
SOME = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in THEIRS]


def drawn(case, seed=0):
    """Return random positive params of a case's shapes and types; no initializer runs."""
    shapes = jax.eval_shape(lambda: case.layer.init(KEY, case.shape)[0])
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 0.8, leaf.shape), leaf.dtype), shapes)


def opened(path):
    with keras_rules():
        return keras.saving.load_model(path)


def assert_same_values(case, params, model):
    x = inputs(case.shape)
    want = case.layer.apply_fn(params, x)
    with keras_rules():
        got = model(x)
    # 1e-6 in float32, relative to the largest entry; half precision rounds at every step, in Keras and here
    limit = max(1e-6, tolerance(case.layer) if tolerance(case.layer) > 1e-4 else 0)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.abs(a - b).max(initial=0) <= limit * max(1, np.abs(b).max(initial=0))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", SOME)
def test_keras_opens_the_file_and_computes_the_same(tmp_path, name):
    case = CASES[name]
    params = drawn(case)
    save_model(tmp_path / "m.keras", case.layer, params, input_shape=case.shape)
    model = opened(tmp_path / "m.keras")
    assert_same_values(case, params, model)
    expected = sorted(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    theirs = [np.asarray(w).tobytes() for w in model.variables if "seed" not in w.path]
    assert sorted(theirs) == expected  # to the bit
    with keras_rules():
        model.save(tmp_path / "again.keras")
    layer, again = load_layer(tmp_path / "again.keras")
    want = params if isinstance(case.layer, jc.Sequential | jc.Model) or not params else {layer.names[0]: params}
    assert jax.tree.structure(again) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, again, want)
    got, want = layer.apply_fn(again, inputs(case.shape)), case.layer.apply_fn(params, inputs(case.shape))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-6, atol=1e-6)


WHOLE = ["residual", "parallel", "locally_connected1d", "model_of_a_residual", "conv1d_pads", "weight_normalization"]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("name", [n if n in WHOLE else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_jaxconv_reads_back_what_it_wrote(tmp_path, name, known):
    case = CASES[name]
    params = drawn(case)
    given = case.shape if known or isinstance(case.shape, list) else None
    save_model(tmp_path / "m.keras", case.layer, params, input_shape=given)
    layer, again = load_layer(tmp_path / "m.keras")
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
    got, want = layer.apply_fn(again, inputs(case.shape)), case.layer.apply_fn(params, inputs(case.shape))
    jax.tree.map(np.testing.assert_array_equal, got, want)


UNKNOWN = ["conv1d_groups", "separable_conv1d", "dense", "conv3d_transpose"]
UNKNOWN = ["conv2d_same_first", "sequential", *(pytest.param(name, marks=pytest.mark.slow) for name in UNKNOWN)]


@pytest.mark.parametrize("name", UNKNOWN)
def test_without_an_input_shape_keras_builds_from_the_shapes_of_the_weights(tmp_path, name):
    case = CASES[name]
    params = drawn(case)
    save_model(tmp_path / "m.keras", case.layer, params)
    assert_same_values(case, params, opened(tmp_path / "m.keras"))


def test_a_model_with_a_flatten_is_written_without_an_input_shape(tmp_path):
    layer = jc.Sequential([jc.Conv1D(3, 2), jc.BatchNormalization(), jc.Flatten(), jc.Dense(2)])
    case = type(CASES["dense"])(layer, (2, 7, 4))
    params = drawn(case)
    save_model(tmp_path / "m.keras", layer, params)
    assert_same_values(case, params, opened(tmp_path / "m.keras"))


def test_layers_bear_in_keras_the_names_that_params_know_them_by(tmp_path):
    layer = jc.Sequential([jc.Conv1D(3, 2), jc.Conv1D(3, 2, name="mine"), jc.Sequential([jc.Conv1D(2, 1)])])
    params, _ = layer.init(KEY, (None, 9, 2))
    save_model(tmp_path / "m.keras", layer, params, input_shape=(None, 9, 2))
    model = opened(tmp_path / "m.keras")
    assert [one.name for one in model.layers] == list(layer.names)
    assert model.input_shape == (None, 9, 2)
    np.testing.assert_array_equal(model.get_layer("mine").kernel, params["mine"]["kernel"])


def test_a_layer_may_be_called_as_keras_calls_its_input(tmp_path):
    layer = jc.Sequential([jc.Dense(3, name="input_layer")])
    params, _ = layer.init(KEY, (None, 2))
    save_model(tmp_path / "m.keras", layer, params, input_shape=(None, 2))
    assert [one.name for one in opened(tmp_path / "m.keras").layers] == ["input_layer"]
    assert load_layer(tmp_path / "m.keras")[0].names == ("input_layer",)


def test_an_input_shape_inside_a_model_becomes_its_input_layer(tmp_path):
    layer = jc.Sequential([jc.Conv1D(3, 2, input_shape=(9, 2)), jc.Dense(2)])
    params, _ = layer.init(KEY)
    save_model(tmp_path / "m.keras", layer, params)
    assert opened(tmp_path / "m.keras").input_shape == (None, 9, 2)


def test_keras_goes_on_training_with_the_constraints_and_regularizers(tmp_path):
    layer = jc.Sequential([jc.Dense(3, kernel_constraint="max_norm", kernel_regularizer="l2", trainable=False)])
    params, _ = layer.init(KEY, (None, 4))
    save_model(tmp_path / "m.keras", layer, params, input_shape=(None, 4))
    (dense,) = opened(tmp_path / "m.keras").layers
    assert dense.kernel_constraint.max_value == 2 and not dense.trainable
    assert dense.kernel_regularizer.l2 == pytest.approx(0.01)


def test_bfloat16_weights_keep_their_bits(tmp_path):
    layer = jc.Dense(3, dtype="bfloat16")
    params, _ = layer.init(KEY, (None, 4))
    save_model(tmp_path / "m.keras", layer, params)
    (dense,) = opened(tmp_path / "m.keras").layers
    assert np.asarray(dense.kernel).tobytes() == np.asarray(params["kernel"]).tobytes()


LACKS = {
    "residual": "Residual",
    "locally_connected1d": "LocallyConnected1D",
    "conv1d_reflected": "padding_mode",
    "depthwise_conv3d": "DepthwiseConv3D",
    "conv1d_transpose_groups": "groups",
    "weight_normalization": "WeightNormalization",
}


@pytest.mark.parametrize("name", LACKS)
def test_what_keras_lacks_is_written_and_named_in_its_error(tmp_path, name):
    case = CASES[name]
    save_model(tmp_path / "m.keras", case.layer, drawn(case), input_shape=case.shape)
    with pytest.raises((TypeError, ValueError), match=LACKS[name]):
        opened(tmp_path / "m.keras")


def test_the_same_model_gives_the_same_bytes(tmp_path):
    case = CASES["sequential_nested"]
    params = drawn(case)
    save_model(tmp_path / "a.keras", case.layer, params, about={"classes": ["x"]})
    time.sleep(1.1)  # HDF5 counts seconds
    save_model(tmp_path / "b.keras", case.layer, params, about={"classes": ["x"]})
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_the_archive_has_keras_s_three_files_and_ours_in_the_metadata(tmp_path):
    save_model(tmp_path / "m.keras", jc.Dense(3), drawn(CASES["dense"]), about={"n": np.int64(3)})
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        about = json.loads(archive.read("metadata.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            assert list(file["layers/dense/vars"]) == ["0", "1"]
            assert file["layers/dense/vars"].attrs["name"] == "dense"
    assert about["jaxconv"] == {"input_shape": None, "alone": True, "about": {"n": 3}}


@pytest.mark.parametrize("name", sorted(set(CASES) - set(FEW))[::9])
def test_every_leaf_has_one_place_in_the_file_but_for_kernels_that_a_wrapper_shares(name):
    layer, shape = CASES[name]
    layer = layer if layer.children else jc.Sequential([layer])
    leaves = ["/".join(leaf) for group in groups(layer) for leaf in group.leaves]
    params = jax.eval_shape(lambda: layer.init(KEY, shape)[0])
    paths = [
        jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    assert sorted(set(leaves)) == sorted(paths)


def test_weights_of_another_layer_are_not_saved(tmp_path):
    params, _ = jc.Dense(3).init(KEY, (None, 4))
    with pytest.raises(FileError, match=r"weight bias has shape \(3,\); its layer needs \(5,\)"):
        save_model(tmp_path / "m.keras", jc.Dense(5), params, input_shape=(None, 4))
    with pytest.raises(FileError, match=r"m.keras: the layer has no weight bias"):
        save_model(tmp_path / "m.keras", jc.Dense(3, use_bias=False), params, input_shape=(None, 4))
    with pytest.raises(FileError, match=r"the layer has no weight dense/bias"):
        save_model(tmp_path / "m.keras", jc.Dense(3, use_bias=False), params)
    with pytest.raises(FileError, match=r"weight dense/bias is missing"):
        save_model(tmp_path / "m.keras", jc.Dense(3), {"kernel": params["kernel"]})
    with pytest.raises(ValueError, match=facts("Dense", "input of shape (None,)")):
        save_model(tmp_path / "m.keras", jc.Dense(3), params, input_shape=(None,))
    assert not list(tmp_path.iterdir())


def test_another_ending_a_nameless_function_and_a_missing_folder_are_refused(tmp_path):
    params, _ = jc.Dense(3).init(KEY, (None, 4))
    with pytest.raises(ValueError, match=facts("m.h5", ".keras")):
        save_model(tmp_path / "m.h5", jc.Dense(3), params)
    with pytest.raises(ValueError, match="cannot be written to a config"):
        save_model(tmp_path / "m.keras", jc.Dense(3, activation=lambda x: x), params)
    with pytest.raises(FileError, match="cannot be written: No such file or directory"):
        save_model(tmp_path / "no" / "m.keras", jc.Flatten(), {})
    assert not list(tmp_path.iterdir())


def test_the_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"save_model needs h5py; install it with: pip install h5py"):
        save_model(tmp_path / "m.keras", jc.Flatten(), {})


def test_an_interrupted_save_leaves_the_old_file_whole(monkeypatch, tmp_path):
    path = tmp_path / "m.keras"
    params, _ = jc.Dense(3).init(KEY, (None, 4))
    save_model(path, jc.Dense(3), params)
    whole = path.read_bytes()

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, jc.Dense(3), jax.tree.map(lambda a: a + 1, params))
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (jc.Conv1D(6, 3, groups=3), (None, None, 15)),
        (jc.Conv2D(6, 3, data_format="channels_first"), (None, 5, None, None)),
        (jc.DepthwiseConv1D(3), (None, None, 7)),
        (jc.PReLU(), (None, 4, 3)),
        (jc.Dense(2), (None, 9)),
    ],
)
def test_a_fitting_shape_is_as_unknown_as_it_may_be(layer, shape):
    given = tuple(8 if size is None else size for size in shape)
    params = jax.eval_shape(lambda: layer.init(KEY, given)[0])
    assert fitting_shape(layer, params) == shape


def test_weights_that_no_input_gives_have_no_fitting_shape():
    assert fitting_shape(jc.Conv1D(6, 3), {"kernel": np.ones((4, 2, 6)), "bias": np.ones(6)}) is None
