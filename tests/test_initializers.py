"""Initializers: Keras's numbers bit for bit for a seed, its fans and configs, moments, every error."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import initializers
from jaxconv.initializers import (
    STFT,
    Constant,
    GlorotUniform,
    HeNormal,
    Identity,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    Values,
    VarianceScaling,
)
from tests.support.keras_oracle import keras, keras_rules

SCALED = ["GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal", "VarianceScaling"]
RANDOM = [*SCALED, "RandomNormal", "TruncatedNormal", "RandomUniform", "Orthogonal"]
ODD_SHAPES = [(), (1,), (4, 3), (3, 0, 4), (5, 1, 2, 8), (2, 1, 2, 3, 4)]

CONFIGURED = [  # (class, arguments), with equal configs in Keras
    *[(name, {"seed": 3}) for name in RANDOM],
    *[(name, {}) for name in RANDOM],
    ("GlorotNormal", {"seed": 1, "input_axes": [0, 1], "output_axes": [-1]}),
    ("VarianceScaling", {"scale": 2.5, "mode": "fan_out", "distribution": "uniform", "seed": 9}),
    ("VarianceScaling", {"mode": "fan_avg", "distribution": "untruncated_normal", "seed": 9}),
    ("VarianceScaling", {"distribution": "Normal"}),
    ("VarianceScaling", {"seed": 5, "input_axes": [-2], "output_axes": [0, 1]}),
    ("RandomNormal", {"mean": 1.5, "stddev": 0.3, "seed": 2**32 - 1}),
    ("TruncatedNormal", {"mean": -0.5, "stddev": 2.0, "seed": 4}),
    ("RandomUniform", {"minval": 0.0, "maxval": 3.0, "seed": 5}),
    ("Orthogonal", {"gain": 1.7, "seed": 6}),
    ("Zeros", {}),
    ("Ones", {}),
    ("Constant", {"value": 3}),
    ("Constant", {"value": [1.0, 2.5]}),
    ("Identity", {}),
    ("STFT", {"side": "imag", "window": "hamming", "scaling": "spectrum", "periodic": True}),
]

SEEDED = [case for case in CONFIGURED if "seed" in case[1]]


def ours(name, arguments):
    return initializers.registry[name](**arguments)


def in_keras(name, arguments):
    return getattr(keras.initializers, name)(**arguments)


def keras_call(initializer, shape, dtype="float32"):
    with keras_rules():
        return np.asarray(initializer(shape, dtype=dtype))


# --- Keras's numbers --------------------------------------------------------------------------------------------------


@pytest.mark.few(2)
@pytest.mark.parametrize("shape", [(2, 3, 5), *(pytest.param(s, marks=pytest.mark.slow) for s in [(7,), (3, 4)])])
@pytest.mark.parametrize(("name", "arguments"), SEEDED, ids=str)
def test_a_seed_gives_the_numbers_of_keras_bit_for_bit(name, arguments, shape):
    if len(shape) > 1 or not (name == "Orthogonal" or "input_axes" in arguments):
        drawn = ours(name, arguments)(None, shape)
        np.testing.assert_array_equal(drawn, keras_call(in_keras(name, arguments), shape))


@pytest.mark.few(2)
@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
def test_odd_shapes_give_the_numbers_of_keras(shape):
    drawn = HeNormal(seed=5)(None, shape)
    np.testing.assert_array_equal(drawn, keras_call(keras.initializers.HeNormal(seed=5), shape))


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["GlorotUniform", "HeNormal", "RandomNormal", "TruncatedNormal", "RandomUniform"])
def test_the_numbers_are_those_of_keras_in_low_precision(name, dtype):
    drawn = ours(name, {"seed": 3})(None, (2, 3, 5), dtype)
    assert drawn.dtype == dtype
    np.testing.assert_array_equal(drawn, keras_call(in_keras(name, {"seed": 3}), (2, 3, 5), dtype))


@pytest.mark.exact
@pytest.mark.few(3)
@pytest.mark.parametrize(("name", "arguments"), SEEDED, ids=str)
def test_jit_draws_the_same_numbers(name, arguments):
    initializer = ours(name, arguments)
    # one rounding of the product and the sum with a mean instead of two
    tolerance = 2e-7 if "mean" in arguments else 0
    np.testing.assert_allclose(
        jax.jit(lambda: initializer(None, (2, 3, 5)))(), initializer(None, (2, 3, 5)), rtol=0, atol=tolerance
    )


@pytest.mark.exact
def test_golden_numbers_of_keras_3():
    # keras.initializers.GlorotUniform(seed=7)((2, 3)), keras 3.15.1
    expected = [[-0.37089363, -0.48691595, 0.21249104], [0.49589774, -0.92901456, -0.2324364]]
    np.testing.assert_array_equal(GlorotUniform(seed=7)(None, (2, 3)), np.float32(expected))


@pytest.mark.few(1)
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 1, 6), (1, 3)])
def test_orthogonal_in_low_precision_is_the_float32_matrix_rounded(shape):
    exact = Orthogonal(seed=1)(None, shape)
    assert jnp.array_equal(Orthogonal(seed=1)(None, shape, jnp.bfloat16), exact.astype(jnp.bfloat16))


def test_a_seed_overrides_the_key_and_without_both_it_raises(key):
    assert jnp.array_equal(HeNormal(seed=1)(key, (3,)), HeNormal(seed=1)(None, (3,)))
    assert not jnp.array_equal(HeNormal()(key, (3,)), HeNormal()(jax.random.key(1), (3,)))
    with pytest.raises(ValueError, match=r"HeNormal: .*key.*seed"):
        HeNormal()(None, (3,))


@pytest.mark.exact
@pytest.mark.slow
def test_jax_nn_initializers_draw_the_same_glorot_numbers(key):
    ours, theirs = initializers.get("glorot_uniform"), jax.nn.initializers.glorot_uniform()
    np.testing.assert_allclose(ours(key, (3, 4, 5)), theirs(key, (3, 4, 5)), rtol=1e-6)  # the limit is rounded once


# --- Definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), (1, 1)), ((7,), (7, 7)), ((3, 4), (3, 4)), ((5, 2, 6), (10, 30)), ((3, 3, 8, 16), (72, 144))],
)
def test_fans_depend_on_the_shape_only(shape, expected):
    assert initializers.fans(shape) == expected


def test_fans_of_named_axes_are_their_products():
    assert initializers.fans((3, 4, 5, 6), (0, 1), (-1,)) == (12, 6)


VARIANCES = {  # of a kernel (5, 10, 40): fan_in 50, fan_out 200
    "GlorotUniform": 2 / 250,
    "GlorotNormal": 2 / 250,
    "HeUniform": 2 / 50,
    "HeNormal": 2 / 50,
    "LecunUniform": 1 / 50,
    "LecunNormal": 1 / 50,
    "VarianceScaling": 1 / 50,
    "RandomNormal": 0.05**2,
    "TruncatedNormal": (0.05 * 0.87962566103423978) ** 2,
    "RandomUniform": 0.1**2 / 12,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_mean_variance_and_bounds_are_those_of_the_distribution(name, key):
    values = np.asarray(jax.vmap(lambda key: ours(name, {})(key, (5, 10, 40)))(jax.random.split(key, 50)), np.float64)
    stddev = np.sqrt(VARIANCES[name])
    assert abs(values.mean()) < 5 * stddev / np.sqrt(values.size)  # five standard errors
    np.testing.assert_allclose(values.var(), VARIANCES[name], rtol=0.02)  # standard error below 0.0045
    if "Uniform" in name:
        assert np.abs(values).max() <= np.sqrt(3) * stddev * (1 + 1e-6)
    elif name != "RandomNormal":
        assert np.abs(values).max() <= 2 * stddev / 0.87962566103423978 * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 50), (6, 6), (1, 4)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape, key):
    matrix = np.asarray(Orthogonal(gain=2.0)(key, shape)).reshape(-1, shape[-1])
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=5e-6)  # float32 sums of a dozen terms


def test_constant_values():
    assert initializers.get("zeros")(None, (2,)).tolist() == [0, 0]
    assert initializers.get("ones")(None, (2,), jnp.bfloat16).dtype == jnp.bfloat16
    assert Constant(2)(None, (1, 2), jnp.int32).tolist() == [[2, 2]]
    assert Constant(np.array([[1], [2]]))(None, (2, 2)).tolist() == [[1, 1], [2, 2]]
    assert Identity(3)(None, (2, 3)).tolist() == [[3, 0, 0], [0, 3, 0]]


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize(("window", "scaling"), [("hann", "density"), ("hamming", "spectrum"), (None, "density")])
def test_stft_kernel_is_the_dft_of_a_windowed_frame(side, window, scaling):
    from scipy.signal import get_window

    weights = np.ones(12) if window is None else get_window(window, 12, False)
    norm = {"density": np.sqrt((weights**2).sum()), "spectrum": np.abs(weights).sum()}[scaling] if window else 1
    frame = np.random.default_rng(0).normal(size=12)
    expected = np.fft.rfft(frame * weights / norm, 16)  # zero padding to the length of the transform
    kernel = np.asarray(STFT(side, window, scaling)(None, (12, 1, 9)), np.float64)
    result = np.einsum("t,tcf->f", frame, kernel)
    np.testing.assert_allclose(result, expected.real if side == "real" else expected.imag, atol=1e-6)


@pytest.mark.parametrize("window", ["hann", [0.5, 1.0, 1.0, 0.5, 0.2, 0.1], None])
def test_stft_agrees_with_keras(window):
    arguments = {"side": "imag", "window": window, "periodic": True}
    expected = keras_call(in_keras("STFT", arguments), (6, 1, 5))
    np.testing.assert_allclose(ours("STFT", arguments)(None, (6, 1, 5)), expected, atol=2e-6)  # its angles are float32


# --- Names, configs, values -------------------------------------------------------------------------------------------


def test_every_name_of_keras_except_the_base_class_is_registered():
    from keras.src.initializers import ALL_OBJECTS_DICT

    for name, entry in ALL_OBJECTS_DICT.items():
        if entry.__name__ != "Initializer":
            assert initializers.registry[name].__name__ == entry.__name__
    assert set(initializers.registry.names()) - set(ALL_OBJECTS_DICT) == {"Values", "values"}
    with pytest.raises(ValueError, match="initializer 'initializer'"):
        initializers.get("initializer")


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_config_is_keras_s_and_goes_both_ways(name, arguments):
    initializer, expected = ours(name, arguments), in_keras(name, arguments)
    written = json.loads(json.dumps(initializers.serialize(initializer)))
    theirs = keras.initializers.serialize(expected)
    if name == "Identity":
        theirs["config"] = {"gain": 1.0}  # Keras omits it
    assert written == json.loads(json.dumps(theirs))
    assert initializers.get(written) == initializer
    assert initializers.get(theirs) == initializer
    assert keras.initializers.deserialize(written).get_config() == keras.initializers.deserialize(theirs).get_config()


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_an_initializer_is_a_value(name, arguments):
    initializer, twin = ours(name, arguments), ours(name, arguments)
    assert initializer == twin
    assert hash(initializer) == hash(twin)
    assert pickle.loads(pickle.dumps(initializer)) == twin


def test_a_config_of_keras_2_without_axes_is_accepted():
    assert initializers.get({"class_name": "GlorotUniform", "config": {"seed": None}}) == GlorotUniform()


def test_an_array_in_a_config_of_keras_is_read():
    for value in (np.array([1.0, 2.0], np.float32), jnp.array([1.0, 2.0])):
        written = keras.initializers.serialize(keras.initializers.Constant(value))
        assert initializers.get(written) == Constant([1.0, 2.0])


def test_array_valued_initializers_compare_by_value_whatever_the_dtype():
    values = np.arange(6).reshape(2, 3)
    assert Constant(values.astype(np.float32)) == Constant(jnp.asarray(values, jnp.bfloat16))
    assert Constant(values.astype(np.float32)) != Constant(values[:, :2].astype(np.float32))
    assert Constant(np.float32(0.5)) == Constant(0.5)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_an_array_is_the_initial_value_for_its_own_shape_only(make):
    initializer = initializers.get(make([[1.0, 2.0], [3.0, 4.0]]))
    assert initializer(None, (2, 2), jnp.bfloat16).astype(jnp.float32).tolist() == [[1, 2], [3, 4]]
    assert initializers.get(json.loads(json.dumps(initializers.serialize(initializer)))) == initializer
    assert pickle.loads(pickle.dumps(initializer)) == initializer
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        initializer(None, (2, 3))


def test_the_array_is_copied():
    values = np.ones(2)
    initializer = initializers.get(values)
    values[0] = 5
    assert initializer(None, (2,)).tolist() == [1, 1]


def test_names_classes_callables_and_none():
    assert initializers.get("he_normal") == initializers.get(HeNormal) == HeNormal()
    theirs = jax.nn.initializers.orthogonal()
    assert initializers.get(theirs) is theirs
    assert initializers.get(None) is None
    with pytest.raises(ValueError, match=r"<function .*registered"):
        initializers.serialize(theirs)


def test_vmap_over_keys_draws_one_weight_each(key):
    drawn = jax.vmap(lambda key: Orthogonal()(key, (3, 2)))(jax.random.split(key, 4))
    assert drawn.shape == (4, 3, 2)
    assert not jnp.array_equal(drawn[0], drawn[1])


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers.get("glorot_unifrom"), ValueError, "initializer 'glorot_unifrom'.*'glorot_uniform'"),
        (lambda: initializers.get("Glorot_uniform"), ValueError, "'Glorot_uniform'.*'glorot_uniform'"),
        (lambda: initializers.get(3), TypeError, " 3 .*initializer"),
        (
            lambda: initializers.get({"class_name": "HeNormal", "config": {"sed": 1}}),
            ValueError,
            "HeNormal .*'sed'.*'seed'",
        ),
        (lambda: HeNormal(seed=-1), ValueError, r"seed .* 0 .*2\*\*32 - 1.* -1"),
        (lambda: HeNormal(seed=2**32), ValueError, "seed .* 4294967296"),
        (lambda: HeNormal(seed=1.5), TypeError, "seed .*integer.* 1.5"),
        (lambda: VarianceScaling(scale=0), ValueError, "scale .*positive.* 0.0"),
        (lambda: VarianceScaling(mode="fan"), ValueError, "mode 'fan' .*'fan_"),
        (lambda: VarianceScaling(distribution="gauss"), ValueError, "distribution 'gauss' .*untruncated"),
        (lambda: VarianceScaling(distribution=None), ValueError, "distribution None .*untruncated"),
        (lambda: HeNormal(input_axes=[0]), ValueError, r"input_axes=\(0,\).*output_axes=None"),
        (lambda: HeNormal(input_axes=1, output_axes=2), TypeError, "input_axes .*list of integers.* 1"),
        (
            lambda: HeNormal(seed=1, input_axes=[2], output_axes=[0])(None, (3, 4)),
            ValueError,
            r"axis 2 .*\(3, 4\)",
        ),
        (lambda: RandomNormal(stddev="1"), TypeError, "RandomNormal: stddev .*number.* '1'"),
        (lambda: TruncatedNormal(mean=[1.0]), TypeError, "TruncatedNormal: mean .*number"),
        (lambda: RandomUniform(1.0, 0.0), ValueError, "minval=1.0 .*maxval=0.0"),
        (lambda: Orthogonal(seed=0)(None, (3,)), ValueError, r"Orthogonal: .* 2 .*\(3,\)"),
        (lambda: Identity()(None, (3, 3, 3)), ValueError, r"Identity: .* 2.*\(3, 3, 3\)"),
        (lambda: Constant("one"), TypeError, "Constant: value .*real number.* array.*'one'"),
        (lambda: Constant(1j), TypeError, "Constant: value .*real number.* 1j"),
        (lambda: Constant([1, 2])(None, (3,)), ValueError, r"Constant: .*\(2,\).*\(3,\)"),
        (lambda: Values([1])(None, (1, 1)), ValueError, r"\(1,\).*\(1, 1\)"),
        (lambda: STFT("left"), ValueError, "STFT: side 'left' .*imag, real"),
        (lambda: STFT(scaling="power"), ValueError, "STFT: scaling 'power' .*density, spectrum"),
        (lambda: STFT(window="hanning_"), ValueError, "STFT: window 'hanning_' .*scipy.signal.get_window"),
        (lambda: STFT(window=[1, 2])(None, (3, 1, 4)), ValueError, r"window .*\(2,\).*\(3,\)"),
        (lambda: STFT()(None, (4, 2, 3)), ValueError, r"STFT: .*\(frame, 1, bins\).*\(4, 2, 3\)"),
        (lambda: STFT()(None, (4, 1, 1)), ValueError, "at least 2 bins"),
    ],
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_stateful_seed_of_keras_raises():
    written = keras.initializers.serialize(keras.initializers.HeNormal(seed=keras.random.SeedGenerator(3)))
    with pytest.raises(TypeError, match=r"seed .*integer.*SeedGenerator"):
        initializers.get(written)
