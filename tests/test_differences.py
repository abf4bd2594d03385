"""A check for each row of examples/differences_from_keras.md, which shows what Keras and jaxconv do."""

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest

import jaxconv as jc
from jaxconv.training import EarlyStopping, NonFiniteLoss, evaluate, fit, metric, optimizer, predict
from tests.support import pages
from tests.support.keras_oracle import keras, keras_rules

PAGE = "examples/differences_from_keras.md"
KEY = jax.random.key(0)
CHECKS = {}
X = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)


def row(title):
    """Register the check of the row with this title."""

    def register(check):
        CHECKS[title] = check
        return check

    return register


def test_each_row_has_a_check_and_each_check_a_row():
    titles = [cells[0] for table in pages.tables(PAGE) for cells in table]
    assert len(titles) == len(set(titles)) > 40
    assert set(titles) == set(CHECKS)


@pytest.mark.few(3)
@pytest.mark.parametrize("title", CHECKS)
def test_the_row_is_true(title):
    CHECKS[title]()


# -- both libraries, called alike


def ours(layer, x, **options):
    """Return the output of a layer of jaxconv with fresh weights."""
    params, apply_fn = layer.init(KEY, np.shape(x))
    return np.asarray(jax.jit(apply_fn)(params, x, **options))


def theirs(layer, x, **options):
    """Return the output of a layer of Keras, under the promotion rules that it needs and without its warnings."""
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(layer(x, **options))


def kernels(layer, shape=(None, 9, 4)):
    """Return the arrays of a layer of Keras, built for this shape."""
    with keras_rules():
        layer.build(shape)
    return [np.asarray(weight) for weight in layer.weights]


@contextlib.contextmanager
def keras_raises(kind=Exception):
    with keras_rules(), pytest.raises(kind):
        yield


# -- options


@row("`bias_initializer=None`")
def _():
    params, _ = jc.Conv1D(8, 3, bias_initializer=None).init(KEY, (None, 9, 4))
    assert not params["bias"].any()
    assert kernels(keras.layers.Conv1D(8, 3, bias_initializer=None))[1].all()


@row("`padding` of a convolution")
def _():
    assert jc.Conv1D(2, 3, padding=(4, 0)).output_shape((None, 9, 4)) == (None, 11, 2)
    assert jc.Conv2D(2, 3, padding=("same", (2, 0))).output_shape((None, 9, 9, 4)) == (None, 9, 9, 2)
    with keras_raises():
        keras.layers.Conv1D(2, 3, padding=(4, 0))(X)


@row('`padding="causal"`')
def _():
    assert keras.layers.Conv1D(2, 3, padding="causal").padding == "causal"
    for name in ("DepthwiseConv1D", "SeparableConv1D", "LocallyConnected1D"):
        own = (3,) if name == "DepthwiseConv1D" else (4, 3)
        assert getattr(jc, name)(*own, padding="causal").output_shape((None, 9, 4)) == (None, 9, 4)
        if name != "LocallyConnected1D":
            with keras_raises(ValueError):
                getattr(keras.layers, name)(*own, padding="causal")
    for library in (jc, keras.layers):
        with pytest.raises(ValueError, match="causal"):
            library.Conv2D(2, 3, padding="causal")
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype(np.float32)
    later = image.copy()
    later[:, 4:] = 7.0
    layer = jc.Conv2D(2, 3, padding=("causal", "same"))
    np.testing.assert_array_equal(ours(layer, image)[:, :4], ours(layer, later)[:, :4])
    with pytest.raises(ValueError, match="causal"):
        jc.Conv1DTranspose(2, 3, padding="causal")


@row("`groups` in `Conv1D/2D/3DTranspose`")
def _():
    for rank in "123":
        params, _ = getattr(jc, f"Conv{rank}DTranspose")(6, 3, groups=2).init(KEY, (None, *[9] * int(rank), 4))
        assert params["kernel"].shape[-2:] == (3, 4)
        with keras_raises((TypeError, ValueError)):
            getattr(keras.layers, f"Conv{rank}DTranspose")(6, 3, groups=2)


@row("`strides` and `dilation_rate` both above 1")
def _():
    both = {"strides": 2, "dilation_rate": 2}
    for rank in "123":
        for name in (f"Conv{rank}D", f"Conv{rank}DTranspose"):
            for library in (jc, keras.layers):
                with pytest.raises(ValueError, match=r"strides.*dilation_rate"):
                    getattr(library, name)(2, 3, **both)
            assert getattr(jc, name)(2, 3, **both, strides_with_dilation=True)
    assert jc.conv(X, jnp.ones((3, 4, 2)), **both).shape == (2, 3, 2)
    assert jc.conv_transpose(X, jnp.ones((3, 2, 4)), **both).shape == (2, 21, 2)


@row("`axis` of the norm constraints and of `OrthogonalRegularizer`")
def _():
    kernel = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for name, own in (("MaxNorm", (0.5,)), ("UnitNorm", ()), ("MinMaxNorm", (0.5, 0.7))):
        with keras_rules():
            expected = getattr(keras.constraints, name)(*own)(kernel)
        np.testing.assert_allclose(getattr(jc.constraints, name)(*own)(kernel), expected, rtol=1e-6)
        layer = jc.Conv1D(5, 3, kernel_constraint=getattr(jc.constraints, name)(*own, axis="filter"))
        projected = layer.apply_fn.project({"kernel": kernel, "bias": np.zeros(5, np.float32)})["kernel"]
        norms = np.linalg.norm(projected, axis=(0, 1))
        assert norms.max() <= (own[-1] if own else 1.0) * (1 + 1e-6)
    layer = jc.Conv1D(3, 2, kernel_regularizer=jc.regularizers.OrthogonalRegularizer(axis="filter"), use_bias=False)
    filters = np.eye(8, dtype=np.float32)[:, :3].reshape(2, 4, 3)
    assert layer.apply_fn.penalty({"kernel": filters}) < 1e-6


@row('`activation="softmax"` or `"glu"` in a `channels_first` layer')
def _():
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype(np.float32)
    options = {"activation": "softmax", "data_format": "channels_first"}
    np.testing.assert_allclose(ours(jc.Conv2D(3, 1, **options), x).sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(theirs(keras.layers.Conv2D(3, 1, **options), x).sum(-1), 1.0, rtol=1e-6)
    options["activation"] = "glu"
    assert ours(jc.Conv2D(6, 1, **options), x[..., :4]).shape == (1, 3, 4, 4)
    assert theirs(keras.layers.Conv2D(6, 1, **options), x[..., :4]).shape == (1, 6, 4, 2)


@row("`Rescaling` by channel")
def _():
    x = np.ones((1, 3, 2, 2), np.float32)
    layer = jc.Rescaling([1.0, 2.0, 3.0], [0.0, 10.0, 20.0], data_format="channels_first")
    np.testing.assert_allclose(ours(layer, x)[0, :, 0, 0], [1.0, 12.0, 23.0])
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        np.testing.assert_allclose(theirs(keras.layers.Rescaling([1.0, 2.0, 3.0]), x)[0, :, 0, 0], [1.0, 2.0, 3.0])
        with keras_raises():
            keras.layers.Rescaling([1.0, 2.0, 3.0], [0.0, 10.0, 20.0])(x)
    finally:
        keras.config.set_image_data_format(before)


@row("`SpatialDropout1D`, `Cropping1D`, `UpSampling1D` with channels first")
def _():
    for name, value in (("SpatialDropout1D", 0.5), ("Cropping1D", 1), ("UpSampling1D", 2)):
        assert getattr(jc, name)(value, data_format="channels_first").data_format == "channels_first"
        with keras_raises((TypeError, ValueError)):
            getattr(keras.layers, name)(value, data_format="channels_first")
    assert jc.Cropping1D(1, data_format="channels_first").output_shape((None, 4, 9)) == (None, 4, 7)


@row("`interpolation` in `UpSampling1D` and `UpSampling3D`")
def _():
    for rank, x in ((1, X), (3, np.ones((1, 2, 2, 2, 1), np.float32))):
        for method in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
            assert keras.layers.UpSampling2D(2, interpolation=method)
            assert getattr(jc, f"UpSampling{rank}D")(2, interpolation=method).output_shape(x.shape)
        with keras_raises((TypeError, ValueError)):
            getattr(keras.layers, f"UpSampling{rank}D")(2, interpolation="bilinear")
    repeated = theirs(keras.layers.UpSampling1D(2), X)
    np.testing.assert_array_equal(repeated, ours(jc.UpSampling1D(2), X))
    assert (ours(jc.UpSampling1D(2, interpolation="bilinear"), X) != repeated).any()


@row("`GaussianNoise` with `stddev` above 1")
def _():
    assert jc.GaussianNoise(1.5).stddev == 1.5
    with keras_raises(ValueError):
        keras.layers.GaussianNoise(1.5)


@row('regularizer `"l1_l2"` by name')
def _():
    assert jc.regularizers.get("l1_l2") == jc.regularizers.L1L2(0.01, 0.01)
    with keras_raises(ValueError):
        keras.regularizers.get("l1_l2")


@row("numbers of `L1`, `L2` and `L1L2`")
def _():
    assert jc.regularizers.L1(0.1).get_config() == {"l1": 0.1}
    assert keras.regularizers.L1(0.1).get_config() != {"l1": 0.1}
    assert jc.regularizers.L2(np.float64(0.1)).get_config() == {"l2": 0.1}
    assert jc.regularizers.L1L2(np.float32(0.5), 0.1).get_config() == {"l1": 0.5, "l2": 0.1}
    with keras_raises(ValueError):
        keras.regularizers.L1(np.float32(0.5))


@row("`MinMaxNorm` with `min_value` above `max_value`")
def _():
    assert keras.constraints.MinMaxNorm(2.0, 1.0)
    with pytest.raises(ValueError, match="min_value"):
        jc.constraints.MinMaxNorm(2.0, 1.0)


@row("`VarianceScaling` with `input_axes` and without `output_axes`")
def _():
    assert keras.initializers.VarianceScaling(input_axes=(0,))
    with pytest.raises(ValueError, match="output_axes"):
        jc.initializers.VarianceScaling(input_axes=(0,))


@row("`keras.json`")
def _():
    assert (Path(os.environ["KERAS_HOME"]) / "keras.json").is_file()  # tests import Keras, and write no such file
    write = "open(f'{home}/keras.json', 'w').write('{\"image_data_format\": \"channels_first\"}')"
    code = "import jaxconv, os; home = os.environ['KERAS_HOME']; print(os.listdir(home)); "
    code += f"{write}; print(jaxconv.image_data_format())"
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"KERAS_HOME": home, "PYTHONPATH": str(pages.ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "channels_first"], done.stderr


# -- inputs and outputs


@row("integer input")
def _():
    x = np.arange(36).reshape(1, 9, 4).astype(np.int32)
    for name, own in (("DepthwiseConv1D", (3,)), ("SeparableConv1D", (2, 3)), ("Conv1DTranspose", (2, 3))):
        layer = getattr(jc, name)(*own)
        np.testing.assert_array_equal(ours(layer, x), ours(layer, x.astype(np.float32)))
        with keras_raises(TypeError):
            getattr(keras.layers, name)(*own)(x)


@row("complex input")
def _():
    with pytest.raises(TypeError, match="complex"):
        ours(jc.Conv1D(2, 3), X.astype(np.complex64))
    assert theirs(keras.layers.Conv1D(2, 3), X.astype(np.complex64)).dtype == np.float32


@row("an output with a length of 0")
def _():
    assert theirs(keras.layers.MaxPooling1D(5), X[:, :3]).shape == (2, 0, 4)
    for layer in (jc.MaxPooling1D(5), jc.AveragePooling1D(5), jc.Conv1D(2, 5)):
        with pytest.raises(ValueError, match=r"\b3\b.*\b5\b"):
            ours(layer, X[:, :3])


@row("a `Model` with an input that no output depends on")
def _():
    x, unused = keras.Input((9, 4)), keras.Input((9, 4))
    assert keras.Model([x, unused], keras.layers.Dense(2)(x))
    x, unused = jc.Input((9, 4), name="x"), jc.Input((9, 4), name="unused")
    with pytest.raises(ValueError, match="unused"):
        jc.Model([x, unused], jc.Dense(2)(x))


@row("an input with one axis of length 1 too many or too few")
def _():
    x = keras.Input((9, 4))
    assert theirs(keras.Model(x, keras.layers.Conv1D(2, 1)(x)), X[..., None]).shape == (2, 9, 2)
    x = keras.Input((9, 1))
    assert theirs(keras.Model(x, keras.layers.Conv1D(2, 1)(x)), X[..., 0]).shape == (2, 9, 2)
    x = jc.Input((9, 4))
    params, apply_fn = jc.Model(x, jc.Conv1D(2, 1)(x)).init(KEY)
    for wrong in (X[..., None], X[..., 0]):
        with pytest.raises(ValueError, match=r"\(2, 9"):
            apply_fn(params, wrong)


@row("a wrapper around a layer that it cannot wrap")
def _():
    wrapper = keras.layers.SpectralNormalization(keras.layers.ReLU())
    with keras_raises():
        wrapper(X)
    with pytest.raises(ValueError, match="kernel"):
        jc.SpectralNormalization(jc.ReLU())


# -- masks

LENGTHS = np.array([9, 6])
MASK = np.arange(9)[None] < LENGTHS[:, None]


@row("mask into convolution, pooling, cropping, padding or upsampling")
def _():
    options = {"Conv1D": (2, 3), "MaxPooling1D": (2,), "Cropping1D": (1,)}
    options |= {"ZeroPadding1D": (1,), "UpSampling1D": (2,)}
    for name, own in options.items():
        params, apply_fn = getattr(jc, name)(*own).init(KEY, X.shape)
        y, effects = jax.jit(apply_fn.forward)(params, X, mask=MASK)
        alone = jax.jit(apply_fn)(params, X[1:, :6])
        np.testing.assert_allclose(y[1][effects.mask[1]], alone[0], rtol=1e-5, atol=1e-6)
    for name, own in options.items():
        with keras_rules(), pytest.warns(UserWarning, match="mask"):
            masked = keras.layers.Masking()(X)
            assert getattr(getattr(keras.layers, name)(*own)(masked), "_keras_mask", None) is None


@row("mask into `LayerNormalization` over time, `GroupNormalization`")
def _():
    other = X.copy()
    other[1, 6:] = 100.0
    for name, own in (("LayerNormalization", {"axis": (1, 2)}), ("GroupNormalization", {"groups": 2})):
        params, apply_fn = getattr(jc, name)(**own).init(KEY, X.shape)
        y, same = (np.asarray(jax.jit(apply_fn)(params, x, mask=MASK)) for x in (X, other))
        np.testing.assert_allclose(y[1, :6], same[1, :6], rtol=1e-5, atol=1e-6)
        layer = getattr(keras.layers, name)(**own)
        y, differs = (theirs(layer, mark(x)) for x in (X, other))
        assert np.abs(y[1, :6] - differs[1, :6]).max() > 0.1


def mark(x):
    """Return an array with the mask that Keras's layers look for."""
    x = jnp.asarray(x)
    keras.src.backend.set_keras_mask(x, jnp.asarray(MASK))
    return x


@row("mask into `Softmax`")
def _():
    entries = np.broadcast_to(MASK[..., None], X.shape)
    np.testing.assert_allclose(
        ours(jc.Softmax(axis=1), X, mask=entries), theirs(keras.layers.Softmax(axis=1), X, mask=entries), atol=1e-6
    )
    np.testing.assert_allclose(ours(jc.Softmax(axis=1), X, mask=MASK)[1, :6].sum(0), 1.0, rtol=1e-5)
    with keras_raises(ValueError):
        keras.layers.Softmax(axis=1)(X, mask=MASK)


@row("mask and `activity_regularizer`")
def _():
    effects = jc.Dense(4, activity_regularizer="l2").apply_fn.forward
    params, _ = jc.Dense(4).init(KEY, X.shape)
    other = X.copy()
    other[1, 6:] = 100.0
    penalties = [float(effects(params, x, mask=MASK)[1].penalty) for x in (X, other)]
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-6)
    layer = keras.layers.Dense(4, activity_regularizer="l2")
    losses = []
    for x in (X, other):
        theirs(layer, mark(x))
        losses.append(float(sum(layer.losses)))
    assert losses[1] > 2 * losses[0]


@row("`Masking` after another mask")
def _():
    x = np.ones((1, 3, 2), np.float32)
    x[0, 2] = 0.0
    before = np.array([[False, True, True]])
    _, effects = jc.Masking().apply_fn.forward({}, x, mask=before)
    assert effects.mask.tolist() == [[False, True, False]]
    given = jnp.asarray(x)
    keras.src.backend.set_keras_mask(given, jnp.asarray(before))
    with keras_rules():
        assert np.asarray(keras.layers.Masking()(given)._keras_mask).tolist() == [[True, True, False]]


@row("`GlobalAveragePooling1D` of a sequence of only padding")
def _():
    nothing = np.zeros((2, 9), bool)
    assert not ours(jc.GlobalAveragePooling1D(), X, mask=nothing).any()
    assert np.isnan(theirs(keras.layers.GlobalAveragePooling1D(), X, mask=nothing)).all()


@row("merging a masked input with one without a mask")
def _():
    x, once = jc.Input((9, 4)), jc.Input((1, 4))
    model = jc.Model([x, once], jc.Add()([jc.Masking()(x), once]))
    inputs = [np.where(MASK[..., None], X, np.float32(0)), np.ones((2, 1, 4), np.float32)]
    _, effects = model.apply_fn.forward({}, inputs)
    np.testing.assert_array_equal(effects.mask, MASK)
    x, once = keras.Input((9, 4)), keras.Input((1, 4))
    assert getattr(keras.layers.Add()([keras.layers.Masking()(x), once]), "_keras_mask", None) is None


def masked_fit(batch_size, **options):
    """Train a sequence of four steps with error 1 and one of one step with error 5; return both logs and more."""
    x = np.ones((2, 4, 1), np.float32)
    x[1, 1:] = 0.0
    y = np.array([1.0, 5.0], np.float32)[:, None, None] * np.ones((2, 4, 1), np.float32)
    model = jc.Sequential([jc.Masking(), jc.Dense(1, kernel_initializer="zeros")])
    params, apply_fn = model.init(KEY, x.shape)
    still = {"optimizer": {"name": "sgd", "learning_rate": 0.0}, "loss": "mse", "batch_size": batch_size}
    log = fit(apply_fn, params, x, y, **still, metrics=["mae"], **options).history[0]
    evaluated = evaluate(apply_fn, params, x, y, loss="mse", metrics=["mae"], **options)
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = keras.Sequential([keras.layers.Masking(), keras.layers.Dense(1, kernel_initializer="zeros")])
        other.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
        history = other.fit(x, y, batch_size=batch_size, verbose=0, **options).history
        their_evaluated = other.evaluate(x, y, verbose=0, return_dict=True)
    return log, evaluated, {name: values[0] for name, values in history.items()}, their_evaluated


@row("mean loss of an epoch of masked outputs")
def _():
    log, _, their_log, _ = masked_fit(batch_size=1)
    assert log["loss"] == pytest.approx((4 * 1.0 + 25.0) / 5)
    assert their_log["loss"] == pytest.approx((1.0 + 25.0) / 2)


@row("metrics of masked outputs")
def _():
    log, evaluated, their_log, their_evaluated = masked_fit(batch_size=2)
    real, padded = (4 * 1.0 + 5.0) / 5, (1.0 + 5.0) / 2
    assert log["mae"] == evaluated["mae"] == pytest.approx(real) == their_evaluated["mae"]
    assert their_log["mae"] == pytest.approx(padded)


@row("one weight per sample in addition to a mask")
def _():
    weight = np.array([2.0, 3.0], np.float32)
    with keras_raises(ValueError):
        masked_fit(batch_size=2, sample_weight=weight)
    steps = np.ones((2, 4), np.float32) * weight[:, None]
    x = np.where(np.arange(4)[None, :, None] < np.array([4, 1])[:, None, None], 1.0, 0.0).astype(np.float32)
    params, apply_fn = jc.Sequential([jc.Masking(), jc.Dense(1)]).init(KEY, x.shape)
    found = [evaluate(apply_fn, params, x, x, loss="mse", sample_weight=given) for given in (weight, steps)]
    assert found[0] == found[1]


@row("`Precision` and `Recall` with one weight per sample and a time axis")
def _():
    y, ones, weight = np.array([[[1.0]] * 2, [[0.0]] * 2]), np.ones((2, 2, 1), np.float32), np.float32([1, 3])
    theirs = keras.metrics.Precision()
    with keras_rules():
        theirs.update_state(y, ones, sample_weight=weight)
    assert float(theirs.result()) == pytest.approx(0.5)
    params, apply_fn = jc.Activation("linear").init(KEY, ones.shape)
    options = {"loss": "mse", "sample_weight": weight, "weighted_metrics": ["precision"]}
    assert evaluate(apply_fn, params, ones, y, **options)["precision"] == pytest.approx(2 / (2 + 6))


# -- layers with weights or statistics


@row("random keys and running statistics")
def _():
    model = jc.Sequential([jc.BatchNormalization(), jc.Dropout(0.5)])
    params, apply_fn = model.init(KEY, X.shape)
    with pytest.raises(ValueError, match="key"):
        apply_fn.forward(params, X, train=True)
    y, effects = apply_fn.forward(params, X, train=True, key=KEY)
    again, _ = apply_fn.forward(params, X, train=True, key=KEY)
    np.testing.assert_array_equal(y, again)
    assert effects.fixed["batch_normalization"]["moving_mean"].any()
    layer = keras.layers.BatchNormalization()
    theirs(layer, X, training=True)
    assert np.asarray(layer.moving_mean).any()


@row("one unseeded initializer in two layers")
def _():
    shared = jc.initializers.GlorotUniform()
    params, _ = jc.Sequential([jc.Dense(4, kernel_initializer=shared) for _ in range(2)]).init(KEY, (None, 4))
    assert (params["dense"]["kernel"] != params["dense_1"]["kernel"]).any()
    shared = keras.initializers.GlorotUniform()
    one, other = (kernels(keras.layers.Dense(4, kernel_initializer=shared), (None, 4))[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


@row("`LayerNormalization` over several axes")
def _():
    params, _ = jc.LayerNormalization(axis=(-1, 1)).init(KEY, X.shape)
    assert params["gamma"].shape == (9, 4)
    assert kernels(keras.layers.LayerNormalization(axis=(-1, 1)))[0].shape == (4, 9)
    with pytest.raises(ValueError, match="axis"):
        jc.LayerNormalization(axis=0).init(KEY, X.shape)
    assert theirs(keras.layers.LayerNormalization(axis=0), X).shape == X.shape


@row("`RMSNormalization` over an axis that is not the last")
def _():
    x, scale = np.ones((1, 4, 4), np.float32), np.arange(4, dtype=np.float32)
    y = jc.RMSNormalization(axis=1).apply_fn({"scale": scale}, x)
    np.testing.assert_allclose(y[0, :, 0], scale, rtol=1e-5)
    layer = keras.layers.RMSNormalization(axis=1)
    kernels(layer, x.shape)
    layer.scale.assign(scale)
    np.testing.assert_allclose(theirs(layer, x)[0, 0], scale, rtol=1e-5)


@row("`SpectralNormalization` in training")
def _():
    params, apply_fn = jc.SpectralNormalization(jc.Dense(4, kernel_initializer="ones"), power_iterations=20).init(
        KEY, X.shape
    )
    trainable, _ = apply_fn.split(params)
    _, effects = apply_fn.forward(params, X, train=True)
    params = apply_fn.project(jc.merge(trainable, effects.fixed))
    np.testing.assert_allclose(params["layer"]["kernel"], 0.25, rtol=1e-5)  # a matrix of ones has the singular value 4
    np.testing.assert_array_equal(trainable["layer"]["kernel"], 1.0)
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(4, kernel_initializer="ones"), power_iterations=20)
    theirs(layer, X, training=True)
    np.testing.assert_allclose(np.asarray(layer.layer.kernel), 0.25, rtol=1e-5)


@row("`TimeDistributed` in training")
def _():
    x = np.array([0.0, 10.0], np.float32)[None, :, None] * np.ones((3, 2, 1), np.float32)  # the steps differ, no sample
    params, apply_fn = jc.TimeDistributed(jc.BatchNormalization(momentum=0.0)).init(KEY, x.shape)
    _, effects = apply_fn.forward(params, x, train=True)
    assert float(effects.fixed["layer"]["moving_mean"][0]) == pytest.approx(5.0)
    layer = keras.layers.TimeDistributed(keras.layers.BatchNormalization(momentum=0.0))
    theirs(layer, x, training=True)
    assert np.asarray(layer.layer.moving_mean)[0] == pytest.approx(10.0)  # of the last step alone
    params, apply_fn = jc.TimeDistributed(jc.Dense(2, activity_regularizer="l2")).init(KEY, x.shape)
    assert apply_fn.forward(params, x, train=True)[1].penalty > 0
    layer = keras.layers.TimeDistributed(keras.layers.Dense(2, activity_regularizer="l2"))
    theirs(layer, x, training=True)
    assert not layer.losses


@row("recurrent layers with `stateful=True`")
def _():
    layer = keras.layers.SimpleRNN(1, stateful=True)
    with keras_rules():
        assert (layer(X) != layer(X)).any()
    with pytest.raises(ValueError, match="stateful"):
        jc.SimpleRNN(1, stateful=True)


@row("mask of `SimpleRNN`, `LSTM`, `GRU` with `go_backwards` and `return_sequences`")
def _():
    options, mask = {"go_backwards": True, "return_sequences": True}, np.array([[True] * 4 + [False] * 5] * 2)
    params, apply_fn = jc.GRU(1, **options).init(KEY, X.shape)
    np.testing.assert_array_equal(apply_fn.forward(params, X, mask=mask)[1].mask, mask[:, ::-1])
    assert keras.layers.GRU(1, **options).compute_mask(X, mask) is mask


@row("`zero_output_for_mask` without `return_sequences`")
def _():
    mask = np.array([[True] * 4 + [False] * 5] * 2)
    layer = jc.GRU(1, zero_output_for_mask=True)
    params, apply_fn = layer.init(KEY, X.shape)
    np.testing.assert_allclose(apply_fn(params, X, mask), apply_fn(params, X[:, :4]), rtol=1e-6)
    assert not theirs(keras.layers.GRU(1, zero_output_for_mask=True), X, mask=jnp.asarray(mask)).any()


@row("`unroll=True` with `zero_output_for_mask`")
def _():
    mask = np.array([[True] * 4 + [False] * 5] * 2)
    options = {"return_sequences": True, "zero_output_for_mask": True, "unroll": True}
    assert not ours(jc.SimpleRNN(1, **options), X, mask=mask)[:, 4:].any()
    assert theirs(keras.layers.SimpleRNN(1, **options), X, mask=jnp.asarray(mask))[:, 4:].all()


@row("`SimpleRNN(activity_regularizer=...)`")
def _():
    params, apply_fn = jc.SimpleRNN(1, activity_regularizer="l2").init(KEY, X.shape)
    assert apply_fn.forward(params, X)[1].penalty > 0
    layer = keras.layers.SimpleRNN(1, activity_regularizer="l2")
    with keras_rules():
        layer(X)
    assert not layer.losses


@row("`MultiHeadAttention`: causal masks, sizes of the output")
def _():
    layer = keras.layers.MultiHeadAttention(1, 2, output_shape=3)
    with keras_rules():
        first = layer(X, X, use_causal_mask=True)[:, 0]
        np.testing.assert_allclose(layer(X[:, :1], X[:, :1])[:, 0], first, rtol=1e-5, atol=1e-6)
    assert first.shape == (2, 3)
    params, apply_fn = jc.MultiHeadAttention(1, 2, output_size=3, use_causal_mask=True).init(KEY, [X, X])
    one = apply_fn(params, [X[:, :1], X[:, :1]])
    np.testing.assert_allclose(apply_fn(params, [X, X])[:, :1], one, rtol=1e-5, atol=1e-6)


@row("`MultiHeadAttention`: `attention_mask` with an axis of heads, and a mask of the value")
def _():
    seen, every = np.array([[True] * 9, [True] * 4 + [False] * 5]), np.ones((2, 2, 9, 9), bool)
    layer = keras.layers.MultiHeadAttention(2, 2)
    with keras_rules():
        want = layer(X, X, value_mask=seen)
        assert np.abs(layer(X, X, value_mask=seen, attention_mask=every) - want).max() > 1e-3
    params, apply_fn = jc.MultiHeadAttention(2, 2).init(KEY, [X, X])
    y = apply_fn(params, [X, X, X, every], mask=[None, seen, None, None])
    np.testing.assert_allclose(y, apply_fn(params, [X, X], mask=[None, seen]), rtol=1e-5)


@row("`return_attention_scores=True` in a call of `MultiHeadAttention`")
def _():
    with keras_rules():
        assert len(keras.layers.MultiHeadAttention(1, 2)(X, X, return_attention_scores=True)) == 2
    params, apply_fn = jc.MultiHeadAttention(1, 2).init(KEY, [X, X])
    with pytest.raises(TypeError, match="return_attention_scores"):
        apply_fn(params, [X, X], return_attention_scores=True)


@row("`flash_attention=True` of `MultiHeadAttention`, `use_cudnn=True` of `LSTM` and `GRU`")
def _():
    for name, sizes, option in (
        ("MultiHeadAttention", (1, 2), "flash_attention"),
        ("LSTM", (2,), "use_cudnn"),
        ("GRU", (2,), "use_cudnn"),
    ):
        with keras_rules():
            assert getattr(keras.layers, name)(*sizes, **{option: True})
        with pytest.raises(ValueError, match=option):
            getattr(jc, name)(*sizes, **{option: True})


@row("`MultiHeadAttention` with `value_dim` different from `key_dim`")
def _():
    with keras_rules(), pytest.raises(Exception, match="reshape"):
        keras.layers.MultiHeadAttention(1, 2, 3)(X, X)
    params, apply_fn = jc.MultiHeadAttention(1, 2, 3).init(KEY, [X, X])
    assert apply_fn(params, [X, X]).shape == X.shape


@row("`Normalization` without mean and variance")
def _():
    np.testing.assert_array_equal(theirs(keras.layers.Normalization(), X), X)
    with pytest.raises(ValueError, match="adapt"):
        ours(jc.Normalization(), X)


# -- values and derivatives


@row("`sparsemax`")
def _():
    logits = jnp.array([[1.0, 1.1, 0.2]])
    np.testing.assert_allclose(jc.activations.get("sparsemax")(logits), [[0.45, 0.55, 0.0]], rtol=1e-5)
    with keras_rules():
        assert np.asarray(keras.activations.sparsemax(logits)).sum() < 0.1


@row("`AdaptiveMaxPooling1D/2D/3D`, `AdaptiveAveragePooling1D/2D/3D`")
def _():
    for name in ("AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D"):
        x = np.arange(7, dtype=np.float32)[None, :, None]
        np.testing.assert_array_equal(ours(getattr(jc, name)(7), x), x)
        assert np.isnan(theirs(getattr(keras.layers, name)(7), x)).any()


@row("average pooling in half precision")
def _():
    x = np.full((1, 1000, 1), 100, np.float16)
    assert ours(jc.AveragePooling1D(1000, dtype="float16"), x).item() == 100
    assert np.isinf(theirs(keras.layers.AveragePooling1D(1000, dtype="float16"), x)).all()


@row("NaN into `hard_shrink`, `soft_shrink`, `threshold`, `ReLU(threshold=1)`")
def _():
    x = jnp.array([[0.1, np.nan, 2.0]])
    assert np.isnan(ours(jc.ReLU(threshold=1.0), x)[0, 1]) and theirs(keras.layers.ReLU(threshold=1.0), x)[0, 1] == 0
    for name, own in (("hard_shrink", ()), ("soft_shrink", ()), ("threshold", (0.5, 0.0))):
        assert np.isnan(getattr(jc.activations, name)(x, *own)[0, 1])
        with keras_rules():
            assert np.asarray(getattr(keras.activations, name)(x, *own))[0, 1] == 0


@row("gradient of `UnitNormalization` and `Dot(normalize=True)` at a zero vector")
def _():
    zero, one = jnp.zeros((1, 3)), jnp.ones((1, 3))

    def unit(layer):
        return lambda x: layer(x).sum()

    def dot(layer):
        return lambda x: layer([x, one]).sum()

    def fixed(layer, shapes):
        params, apply_fn = layer.init(KEY, shapes)
        return lambda x: apply_fn(params, x)

    for function in (
        unit(fixed(jc.UnitNormalization(), (1, 3))),
        dot(fixed(jc.Dot(1, normalize=True), [(1, 3), (1, 3)])),
    ):
        assert np.isfinite(jax.grad(function)(zero)).all()
    with keras_rules():
        for function in (unit(keras.layers.UnitNormalization()), dot(keras.layers.Dot(1, normalize=True))):
            assert np.isnan(jax.grad(function)(zero)).all()


@row("derivative of `L1` at 0")
def _():
    assert not jax.grad(jc.regularizers.L1(0.1))(jnp.zeros(2)).any()
    with keras_rules():
        np.testing.assert_allclose(jax.grad(keras.regularizers.L1(0.1))(jnp.zeros(2)), 0.1, rtol=1e-6)


@row("`OrthogonalRegularizer` of a single vector")
def _():
    assert jc.regularizers.OrthogonalRegularizer()(jnp.ones((1, 4))) == 0
    with keras_rules():
        assert np.isnan(keras.regularizers.OrthogonalRegularizer()(jnp.ones((1, 4))))


@row("`Orthogonal` in half precision")
def _():
    q = np.asarray(jc.initializers.Orthogonal()(KEY, (4, 4), jnp.float16), np.float32)
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=4e-3)
    with keras_raises(NotImplementedError):
        keras.initializers.Orthogonal()((4, 4), dtype="float16")


# -- training

LABELS = np.array([0, 1], np.int32)
CROSSENTROPY = "sparse_categorical_crossentropy"


@row("optimizers by name")
def _():
    gradients = np.float32([[1.0], [-0.5], [2.0], [0.25], [-1.0]])

    def gap(spec, other):
        transformation, w = optimizer(spec), jnp.ones(1)
        state, variable = transformation.init(w), keras.Variable([1.0])
        for gradient in jnp.asarray(gradients):
            updates, state = transformation.update(gradient, state, w)
            w = w + updates
            other.apply([gradient], [variable])
        return abs(float(w[0]) - float(variable.value[0]))

    of = keras.optimizers
    with keras_rules():
        assert of.AdamW(0.1).weight_decay == 0.004
        assert of.Adam().epsilon == 1e-7
        small = optimizer({"name": "adam", "learning_rate": 1.0})
        update, _ = small.update(jnp.float32([1e-8]), small.init(jnp.ones(1)))  # g / (|g| + eps)
        assert float(update[0]) == pytest.approx(-0.5, rel=1e-3)
        assert gap({"name": "adam", "learning_rate": 0.1}, of.Adam(0.1)) < 1e-5
        assert gap({"name": "amsgrad", "learning_rate": 0.1}, of.Adam(0.1, amsgrad=True)) > 1e-3
        assert gap({"name": "nadam", "learning_rate": 0.1}, of.Nadam(0.1)) > 1e-3


def classifiers(activation):
    """Return apply_fn and params of a classifier of two samples, and Keras's model, compiled."""
    layers = [jc.GlobalAveragePooling1D(), jc.Dense(2, activation=activation)]
    params, apply_fn = jc.Sequential(layers).init(KEY, X.shape)
    with keras_rules():
        model = keras.Sequential(
            [
                keras.Input(X.shape[1:]),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(2, activation=activation),
            ]
        )
        model.compile("sgd", loss=CROSSENTROPY)
    return apply_fn, params, model


def their_log(model, x, **options):
    with keras_rules(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return model.fit(x, LABELS, verbose=0, **options).history, [str(warning.message) for warning in caught]


@row("a cross-entropy of probabilities for a linear output")
def _():
    apply_fn, params, model = classifiers(None)
    assert np.isfinite(their_log(model, X)[0]["loss"]).all()
    with pytest.raises(ValueError, match="from_logits"):
        fit(apply_fn, params, X, LABELS, loss=CROSSENTROPY)
    apply_fn, params, _ = classifiers("softmax")
    with pytest.raises(ValueError, match="from_logits"):
        fit(apply_fn, params, X, LABELS, loss={"name": CROSSENTROPY, "from_logits": True})


@row("threshold of `accuracy`, `Precision` and `Recall` for a binary cross-entropy of logits")
def _():
    x, y, names = np.float32([[0.2], [-1.0]]), np.float32([[1], [0]]), ["accuracy", "precision", "recall"]
    params, apply_fn = jc.Dense(1, kernel_initializer="ones").init(KEY, (None, 1))
    for options, expected in (({}, 1.0), ({"threshold": 0.5}, 0.0)):
        metrics = [{"name": name, **options} for name in names]
        loss = {"name": "binary_crossentropy", "from_logits": True}
        scores = evaluate(apply_fn, params, x, y, loss=loss, metrics=metrics)
        assert scores["recall"] == scores["precision"] == expected and scores["accuracy"] == (1 + expected) / 2
    with keras_rules():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        metrics = ["accuracy", keras.metrics.Precision(), keras.metrics.Recall()]
        model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True), metrics=metrics)
        assert model.evaluate(x, y, verbose=0)[1:] == [0.5, 0, 0]


@row("`thresholds` of `Precision` and `Recall`")
def _():
    for name in ("Precision", "Recall"):
        with pytest.raises(ValueError, match="'thresholds'; did you mean 'threshold'"):
            metric({"name": name, "thresholds": 0.3})
        assert metric({"name": name, "threshold": 0.3}).threshold == 0.3
        with keras_rules():
            assert getattr(keras.metrics, name)(thresholds=[0.3, 0.6]).thresholds == [0.3, 0.6]


@row("metrics of `fit` and `evaluate` by default")
def _():
    apply_fn, params, model = classifiers("softmax")
    assert set(their_log(model, X)[0]) == {"loss"}
    for options, extra in (({}, {"accuracy"}), ({"metrics": ()}, set())):
        log = fit(apply_fn, params, X, LABELS, loss=CROSSENTROPY, **options).history[0]
        assert set(log) == {"epoch", "loss", "learning_rate"} | extra
        assert set(evaluate(apply_fn, params, X, LABELS, loss=CROSSENTROPY, **options)) == {"loss"} | extra


@row("a NaN or infinite loss")
def _():
    apply_fn, params, model = classifiers("softmax")
    spoilt = np.full_like(X, np.nan)
    assert np.isnan(their_log(model, spoilt, epochs=2)[0]["loss"]).tolist() == [True, True]
    with pytest.raises(NonFiniteLoss):
        fit(apply_fn, params, spoilt, LABELS, loss=CROSSENTROPY)


@row("`LearningRateScheduler`, `ReduceLROnPlateau`")
def _():
    for name in ("LearningRateScheduler", "ReduceLROnPlateau"):
        assert issubclass(getattr(keras.callbacks, name), keras.callbacks.Callback)
        assert not hasattr(jc.training, name)
    apply_fn, params, _ = classifiers("softmax")
    spec = {"name": "sgd", "learning_rate": {"name": "linear_schedule", "init_value": 0.5, "end_value": 0.0}}
    history = fit(apply_fn, params, X, LABELS, loss=CROSSENTROPY, optimizer=spec, epochs=4).history
    assert [log["learning_rate"] for log in history] == [0.5, 0.375, 0.25, 0.125]
    plateau = optax.contrib.reduce_on_plateau(factor=1e-12, patience=1, atol=1e9)  # no step improves the loss by 1e9
    optimizers = {"plateau": optax.chain(optax.sgd(0.1), plateau), "sgd": optax.sgd(0.1)}
    options = {"loss": CROSSENTROPY, "epochs": 6}
    losses = {
        name: [log["loss"] for log in fit(apply_fn, params, X, LABELS, **options, optimizer=given).history]
        for name, given in optimizers.items()
    }
    assert losses["plateau"][0] > losses["plateau"][-2] == losses["plateau"][-1] > losses["sgd"][-1]


@row("`EarlyStopping` with a column that is not in the log")
def _():
    apply_fn, params, model = classifiers("softmax")
    callback = keras.callbacks.EarlyStopping(monitor="val_loss", patience=0)
    log, messages = their_log(model, X, epochs=2, callbacks=[callback])
    assert len(log["loss"]) == 2 and any("val_loss" in message for message in messages)
    with pytest.raises(ValueError, match="val_loss"):
        fit(apply_fn, params, X, LABELS, loss=CROSSENTROPY, callbacks=[EarlyStopping(monitor="val_loss")])


@row("several inputs in `fit`, `evaluate` and `predict`")
def _():
    inputs, keras_inputs = ([make((4,), name=name) for name in "ab"] for make in (jc.Input, keras.Input))
    params, apply_fn = jc.Model(inputs, jc.Add()(inputs)).init(KEY)
    x = X[:, 0]
    np.testing.assert_array_equal(predict(apply_fn, params, {"b": x, "a": x}), 2 * x)
    for call in (predict, functools.partial(fit, loss="mse", y=x), functools.partial(evaluate, loss="mse", y=x)):
        with pytest.raises(TypeError, match=r"dict.*\{\"a\": \.\.\., \"b\": \.\.\.\}"):
            call(apply_fn, params, x=[x, x])
    with keras_rules():
        model = keras.Model(keras_inputs, keras.layers.Add()(keras_inputs))
        for both in ([x, x], {"a": x, "b": x}):
            np.testing.assert_array_equal(model.predict(both, verbose=0), 2 * x)


@row("a model with several outputs in `fit` and `evaluate`")
def _():
    inputs, keras_inputs = jc.Input((4,)), keras.Input((4,))
    params, apply_fn = jc.Model(inputs, [jc.Dense(2)(inputs), jc.Dense(2)(inputs)]).init(KEY)
    x, y = X[:, 0], X[:, 0, :2]
    for function in (fit, evaluate):
        with pytest.raises(ValueError, match="several outputs"):
            function(apply_fn, params, x, y, loss="mse")
    with keras_rules():
        outputs = [keras.layers.Dense(2)(keras_inputs), keras.layers.Dense(2)(keras_inputs)]
        model = keras.Model(keras_inputs, outputs)
        model.compile("sgd", loss=["mse", "mae"])
        model.fit(x, [y, y], verbose=0)
