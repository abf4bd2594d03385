"""Real trained files, if they are next to the checkout: values, constraints, errors, damaged bytes."""

import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconv as jc
from jaxconv.files.errors import FileError
from jaxconv.files.loading import load_layer, load_model, read_model
from tests.support.bounded import BoundedReader
from tests.support.damage import spoil_bytes, spoil_hdf5, spoil_sizes, spoil_zip

pytest.importorskip("h5py")
MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the real files are not part of the repository")

NAMES = ["fer2013_mini_xception.hdf5", "streaming_wakeword.h5", "conv1d_autoencoder.keras", "eegnet_8_2.h5"]


def halve(config):
    """Stand for the Lambda of the driving model: x / 127.5 - 1."""
    return jc.Rescaling(1 / 127.5, -1.0)


OPTIONS = {
    **dict.fromkeys(NAMES),
    "voxelmorph_cvpr2018.h5": {"until": "flow"},
    "driving_lambda.h5": {"custom_layers": {"Lambda": halve}},
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_keras(name):
    params, apply_fn = load_model(MODELS / name)
    with np.load(MODELS / f"{name.rpartition('.')[0]}_expected.npz") as expected:
        y = jax.jit(apply_fn)(params, expected["x"])
        np.testing.assert_allclose(y, expected["y"], atol=1e-5)  # float32, another order of sums


def test_the_wake_word_net_gets_41_of_45_windows_right():
    params, apply_fn = load_model(MODELS / "streaming_wakeword.h5")
    with np.load(MODELS / "streaming_wakeword_windows.npz") as windows:
        y = jax.jit(apply_fn)(params, windows["specs"])
        assert int((np.argmax(np.asarray(y), -1) == windows["labels"]).sum()) == 41


NORMS = [("depthwise_conv2d", "kernel", 1.0), ("dense", "kernel", 0.25)]  # of EEGNet's constraints


def assert_projected(free, bound):
    for name, leaf, most in NORMS:
        assert np.linalg.norm(free[name][leaf], axis=0).max() > most
        assert np.linalg.norm(bound[name][leaf], axis=0).max() <= most * (1 + 1e-5)


def test_constraints_of_eegnet_are_read():
    layer, params = load_layer(MODELS / "eegnet_8_2.h5")
    depthwise = next(one for one in layer.layers if isinstance(one, jc.DepthwiseConv2D))
    assert depthwise.depthwise_constraint == jc.constraints.MaxNorm(1.0, axis=0)
    assert layer.children["dense"].kernel_constraint == jc.constraints.MaxNorm(0.25, axis=0)
    free = jax.tree.map(lambda leaf: 10 * leaf, params)
    assert_projected(free, layer.apply_fn.project(free))


@pytest.mark.slow
def test_constraints_of_eegnet_act_in_training():
    layer, params = load_layer(MODELS / "eegnet_8_2.h5")
    apply_fn = layer.apply_fn
    trainable, fixed = apply_fn.split(params)
    x = jax.random.normal(jax.random.key(0), (4, 1, 60, 151))

    @jax.jit
    def step(trainable):
        def loss(trainable):
            y, effects = apply_fn.forward(jc.merge(trainable, fixed), x, train=True, key=jax.random.key(1))
            return -jnp.log(y[:, 0]).sum() + effects.penalty

        far = optax.apply_updates(trainable, jax.tree.map(lambda g: -100 * g, jax.grad(loss)(trainable)))
        free = jc.merge(far, fixed)
        return free, apply_fn.project(free)

    assert_projected(*step(trainable))


def test_regularizers_of_mini_xception_act_in_training():
    layer, params = load_layer(MODELS / "fer2013_mini_xception.hdf5")
    strength = {name: one.kernel_regularizer for name, one in layer.children.items() if isinstance(one, jc.Conv2D)}
    factor = float(np.float32(0.01))  # as Keras 2 wrote it
    ours = [name for name, one in strength.items() if one == jc.regularizers.L1L2(0.0, factor)]
    assert ours == ["conv2d_1", "conv2d_2"]
    want = sum(factor * np.square(np.asarray(params[name]["kernel"], np.float64)).sum() for name in ours)
    np.testing.assert_allclose(layer.apply_fn.penalty(params), want, rtol=1e-5)


def test_voxelmorph_runs_up_to_the_layer_before_its_own():
    with pytest.raises(FileError, match=r"layer 'spatial_transformer_27': .*'SpatialTransformer'"):
        load_model(MODELS / "voxelmorph_cvpr2018.h5")
    layer, params = load_layer(MODELS / "voxelmorph_cvpr2018.h5", until="flow")
    assert sum(isinstance(one, jc.Conv3D) for one in layer.layers) == 12
    assert layer.output_shape(layer.read_shape([(1, 160, 192, 224, 1)] * 2)) == (1, 160, 192, 224, 3)
    assert len(jax.tree.leaves(params)) == 24


def test_the_driving_model_is_refused_and_its_convolutions_run_with_a_layer_for_its_lambda():
    path = MODELS / "driving_lambda.h5"
    with pytest.raises(FileError, match=r"layer 'lambda_1': .*Lambda.* never run"):
        load_model(path)
    params, apply_fn = load_model(path, custom_layers={"Lambda": halve})
    x = np.random.default_rng(0).uniform(0, 255, (2, 66, 200, 3)).astype(np.float32)
    h = np.asarray(x / 127.5 - 1, np.float64)
    for name, one in apply_fn.layer.children.items():  # by hand, in float64
        own = {leaf: np.asarray(value, np.float64) for leaf, value in params.get(name, {}).items()}
        if isinstance(one, jc.Conv2D):
            kernel, stride = own["kernel"], one.strides[0]
            views = np.lib.stride_tricks.sliding_window_view(h, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
            h = np.einsum("brcixy,xyio->brco", views, kernel, optimize=True) + own["bias"]
        elif isinstance(one, jc.Dense):
            h = h.reshape(len(h), -1) @ own["kernel"] + own["bias"]
        if own and name != "dense_4":
            h = np.where(h > 0, h, np.expm1(np.minimum(h, 0)))
    np.testing.assert_allclose(jax.jit(apply_fn)(params, x), h, atol=1e-5)


def test_notes_say_what_keras_itself_stumbles_over():
    notes = read_model(MODELS / "streaming_wakeword.h5").notes
    assert "depthwise_conv2d: groups=1 is left out: it has no effect" in notes


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"driving_lambda.h5"}))  # a factory cannot pass to a child
def test_damaged_copies_give_a_model_or_a_file_error(name, tmp_path):
    content = (MODELS / name).read_bytes()
    with BoundedReader() as reader:
        for number in range(60):
            rng = random.Random(f"{name} {number}")
            damages = [spoil_bytes, spoil_sizes, spoil_zip if name.endswith(".keras") else spoil_hdf5]
            (tmp_path / "bad").write_bytes(rng.choice(damages)(content, rng))
            outcome = reader.read(tmp_path / "bad", **(OPTIONS[name] or {}))
            assert outcome.kind in ("read", "FileError") and outcome.seconds < 2 and outcome.megabytes < 500, outcome
