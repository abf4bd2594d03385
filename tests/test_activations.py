"""Activations: the documented numbers, Keras's values and derivatives, and derivatives that stay finite."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import activations
from tests.support.keras_oracle import keras, keras_rules

NAMES = activations.registry.names()
CALLABLE_NAMES = [name for name in NAMES if name != "threshold"]
KERAS_NAMES = [name for name in NAMES if name != "hard_sigmoid_keras2"]  # not in Keras 3
WHOLE_AXIS = {"softmax", "log_softmax", "sparsemax", "glu"}
ELEMENTWISE = [name for name in CALLABLE_NAMES if name not in WHOLE_AXIS]
KINKS = [-6.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0]

GOLDEN_X = [-4.0, -2.0, -0.3, 0.0, 0.3, 4.0]
GOLDEN = {
    "hard_sigmoid": [0, 0.1667, 0.45, 0.5, 0.55, 1],
    "gelu": [-0.0001, -0.0455, -0.1146, 0, 0.1854, 3.9999],
    "mish": [-0.0726, -0.2525, -0.1511, 0, 0.2080, 3.9974],
    "squareplus": [0.2361, 0.4142, 0.8612, 1, 1.1612, 4.2361],
    "sparse_plus": [0, 0, 0.1225, 0.25, 0.4225, 4],
    "selu": [-1.7259, -1.5202, -0.4557, 0, 0.3152, 4.2028],
    "sparsemax": [0, 0, 0, 0, 0, 1],
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


REFERENCE = {  # in float64, from the definitions
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "celu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(np.minimum(x, 0)) - 1)),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "silu": lambda x: x * sigmoid(x),
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x: x * np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid_keras2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "log_sigmoid": lambda x: -np.log1p(np.exp(-x)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "tanh": np.tanh,
    "tanh_shrink": lambda x: x - np.tanh(x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "sparsemax": lambda x: nearest_on_simplex(x),
    "glu": lambda x: x[..., : x.shape[-1] // 2] * sigmoid(x[..., x.shape[-1] // 2 :]),
}


def nearest_on_simplex(x):
    """Project onto the simplex by bisection, independent of the sort in the implementation."""
    low, high = x.max(-1, keepdims=True) - 1, x.max(-1, keepdims=True)
    for _ in range(80):
        middle = (low + high) / 2
        too_much = np.maximum(x - middle, 0).sum(-1, keepdims=True) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    return np.maximum(x - high, 0)


@pytest.fixture
def x():
    inputs = np.random.default_rng(0).normal(0, 3, (5, 4, 6)).astype(np.float32)
    inputs[0].flat[: len(KINKS)] = KINKS
    return jnp.asarray(inputs)


def of_all(names, compute, get=activations.get):
    """Compute ``compute(function)`` for all names in one program: compiling takes nearly all of the time."""
    return jax.jit(lambda: {name: compute(get(name)) for name in names})()


def test_golden_values():
    for name, y in of_all(GOLDEN, lambda function: function(jnp.array(GOLDEN_X))).items():
        np.testing.assert_allclose(y, GOLDEN[name], atol=5e-5, err_msg=name)  # the table has four digits


def test_values_equal_the_definition_in_float64(x):
    for name, y in of_all(CALLABLE_NAMES, lambda function: function(x)).items():
        expected = REFERENCE[activations.get(name).__name__](np.asarray(x, np.float64))
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=5e-7, err_msg=name)  # a few float32 roundings


def test_values_and_derivatives_equal_keras(x):
    def value_and_slope(function):
        y, pull = jax.vjp(function, x)
        return y, pull(jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32))[0]

    names = [name for name in CALLABLE_NAMES if name in KERAS_NAMES and name != "sparsemax"]
    ours = of_all(names, value_and_slope)
    with keras_rules():
        expected = of_all(names, value_and_slope, keras.activations.get)
    for name in names:
        np.testing.assert_allclose(ours[name][0], expected[name][0], rtol=2e-6, atol=5e-7, err_msg=name)
        # kinks included
        np.testing.assert_allclose(ours[name][1], expected[name][1], rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_sparsemax_equals_keras_where_keras_is_right(x):
    x = 100 * x  # one entry wins; with more of them Keras 3.15 is wrong (keras#23425)
    with keras_rules():
        expected = keras.activations.sparsemax(x[1:])
    np.testing.assert_array_equal(activations.sparsemax(x[1:]), expected)


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("max_value", [None, 2.0, 6])
@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0])
def test_every_form_of_relu_equals_keras(slope, max_value, threshold, x):
    options = dict(negative_slope=slope, max_value=max_value, threshold=threshold)
    with keras_rules():
        expected = keras.activations.relu(x, **options)
    np.testing.assert_allclose(activations.relu(x, **options), expected, rtol=1e-6)


def test_relu_is_linear_below_its_threshold():
    y = activations.relu(jnp.array([-3.0, 1.0, 2.0, 9.0]), negative_slope=0.5, max_value=4.0, threshold=2.0)
    assert y.tolist() == [-2.5, -0.5, 0.0, 4.0]


@pytest.mark.slow
def test_options_of_the_others_equal_keras(x):
    calls = [("leaky_relu", 0.01), ("elu", 0.5), ("celu", 2.0), ("hard_shrink", 1.5), ("soft_shrink", 1.5)]
    calls += [("squareplus", 0.5), ("softmax", 1), ("log_softmax", 0), ("glu", 1), ("softmax", (1, 2))]
    for name, option in calls:
        with keras_rules():
            expected = getattr(keras.activations, name)(x, option)
        np.testing.assert_allclose(getattr(activations, name)(x, option), expected, rtol=2e-6, atol=1e-6, err_msg=name)
    with keras_rules():
        expected = keras.activations.gelu(x, approximate=True)
    np.testing.assert_allclose(activations.gelu(x, approximate=True), expected, rtol=2e-6, atol=5e-7)


def test_threshold_replaces_values_at_or_below_it():
    assert activations.threshold(jnp.array([0.0, 1.0, 2.0]), 1.0, -9.0).tolist() == [-9.0, -9.0, 2.0]


SMOOTH = "sigmoid log_sigmoid tanh tanh_shrink softplus squareplus silu gelu mish exponential softmax log_softmax glu"


@pytest.mark.slow
def test_derivatives_of_both_orders_agree_with_finite_differences(x64):
    point, direction, weight = jnp.asarray(np.random.default_rng(2).normal(0, 2, (3, 3, 4)))
    step = 1e-5  # errors of 1e-10 from the third derivative and 1e-11 from rounding

    def derivatives(function):
        def value(x):
            y = function(x)
            return jnp.vdot(weight[:, : y.shape[1]], y)

        slope = jax.grad(value)
        change, bend = (
            (f(point + step * direction) - f(point - step * direction)) / (2 * step) for f in (value, slope)
        )
        return jnp.vdot(slope(point), direction), change, jax.jvp(slope, (point,), (direction,))[1], bend

    for name, (first, change, second, bend) in of_all(SMOOTH.split(), derivatives).items():
        np.testing.assert_allclose(first, change, rtol=1e-7, err_msg=name)
        np.testing.assert_allclose(second, bend, rtol=1e-7, atol=1e-7, err_msg=name)


@pytest.mark.exact
@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_derivatives_are_finite_and_right_up_to_the_largest_number(dtype):
    functions = {name: activations.get(name) for name in ELEMENTWISE}
    functions["approximate gelu"] = functools.partial(activations.gelu, approximate=True)
    derivatives = jax.jit(lambda x: {name: jax.vmap(jax.grad(function))(x) for name, function in functions.items()})
    largest, eps = float(jnp.finfo(dtype).max), float(jnp.finfo(dtype).eps)
    sizes = [0, 1e-4, 0.5, 1, 3, 6, 10, 20, 50, 100, 300, 1e3, 6e4, largest]
    x = jnp.array([sign * size for size in sizes for sign in (1, -1)], dtype)
    slopes = derivatives(x)
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, derivatives(jnp.asarray(np.asarray(x, np.float64))))
    for name, slope in slopes.items():
        assert slope.dtype == dtype
        fits = np.abs(exact[name]) < largest
        got, want = np.asarray(slope, np.float64)[fits], exact[name][fits]
        # a few roundings; 1 + |x| is squared in softsign's derivative and overflows above 256 in float16
        np.testing.assert_allclose(got, want, rtol=8 * eps, atol=8 * eps, err_msg=name)


@pytest.mark.parametrize("name", CALLABLE_NAMES)
def test_dtype_is_kept(name, x):
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        assert jax.eval_shape(activations.get(name), jax.ShapeDtypeStruct(x.shape, dtype)).dtype == dtype


@pytest.mark.slow
def test_jit_changes_nothing(x):
    for name, y in of_all(CALLABLE_NAMES, lambda function: function(x)).items():
        # fused operations round once
        np.testing.assert_allclose(y, activations.get(name)(x), rtol=1e-6, atol=1e-7, err_msg=name)


def test_nan_gives_nan():
    for name, y in of_all(CALLABLE_NAMES, lambda function: function(jnp.full((2,), jnp.nan))).items():
        assert jnp.isnan(y).all(), name


def test_squareplus_keeps_small_values_of_large_negative_numbers():
    # the result is b / (4 |x|) up to a relative 1e-8; the formula evaluated directly gives 0
    np.testing.assert_allclose(activations.squareplus(jnp.array([-1e4, -1e30])), [1e-4, 1e-30], rtol=1e-6)


def test_sparsemax_is_exact_under_a_large_shift():
    x = jnp.array([1.0, 1.5, -1.0])
    assert activations.sparsemax(x + 2**20).tolist() == [0.25, 0.75, 0.0]


@pytest.mark.slow
def test_sparsemax_of_a_masked_entry_is_zero():
    y, pull = jax.vjp(activations.sparsemax, jnp.array([0.2, -jnp.inf, 0.2]))
    assert y.tolist() == [0.5, 0.0, 0.5]
    assert pull(jnp.array([1.0, 5.0, 0.0]))[0].tolist() == [0.5, 0.0, -0.5]


@pytest.mark.slow
def test_sparsemax_of_a_long_axis_holds_in_bfloat16():
    x = jnp.asarray(np.random.default_rng(3).normal(0, 1e-3, 1000), jnp.bfloat16)
    expected = nearest_on_simplex(np.asarray(x, np.float64))
    got = activations.sparsemax(x).astype(jnp.float32)
    np.testing.assert_allclose(got, expected, rtol=4e-3)  # bfloat16's epsilon / 2


def test_axis_functions_take_the_last_axis(x):
    np.testing.assert_allclose(activations.softmax(x).sum(-1), 1, rtol=1e-6)
    assert activations.glu(x).shape == (5, 4, 3)


def test_glu_of_an_odd_axis_raises():
    with pytest.raises(ValueError, match=r"glu: axis -1 .*\(2, 5\).* 5.*even"):
        activations.glu(jnp.ones((2, 5)))


def test_there_are_32_names_and_they_are_keras_s():
    from keras.src.activations import ALL_OBJECTS_DICT

    assert len(KERAS_NAMES) == 32
    assert set(KERAS_NAMES) == set(ALL_OBJECTS_DICT)


def test_none_is_linear():
    assert activations.get(None) is activations.linear
    assert activations.serialize(None) == "linear"


@pytest.mark.parametrize("name", [name for name in CALLABLE_NAMES if name in KERAS_NAMES])
def test_a_serialized_activation_is_found_again_here_and_in_keras(name):
    function = activations.get(name)
    written = activations.serialize(function)
    assert activations.get(written) is function
    assert written == keras.activations.serialize(keras.activations.get(name))
    assert keras.activations.get(written).__name__ == function.__name__


def test_aliases_are_written_under_keras_s_name():
    assert activations.serialize(activations.get("swish")) == "silu"
    assert activations.serialize(activations.get("hard_swish")) == "hard_silu"


def test_a_callable_and_keras_s_function_dict_are_accepted():
    assert activations.get(jnp.sin) is jnp.sin
    written = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
    assert activations.get(written) is activations.relu


def test_names_are_case_sensitive_and_the_error_names_the_nearest():
    with pytest.raises(ValueError, match=r"activation 'ReLU'.*'relu'"):
        activations.get("ReLU")


@pytest.mark.parametrize("identifier", ["threshold", {"class_name": "threshold"}, activations.threshold])
def test_threshold_needs_its_arguments(identifier):
    with pytest.raises(ValueError, match=r"'threshold' .*functools\.partial"):
        activations.get(identifier)


def test_a_number_is_not_an_activation():
    with pytest.raises(TypeError, match=r" 3 .*activation"):
        activations.get(3)


def test_an_unregistered_function_cannot_be_written():
    with pytest.raises(ValueError, match=r"activation functools.partial.*registered"):
        activations.serialize(functools.partial(activations.relu, max_value=6))
