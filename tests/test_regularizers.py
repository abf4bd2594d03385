"""Regularizers: numbers computed by hand, Keras's values, derivatives, and the orthogonality of convolution filters."""

import json
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import regularizers
from jaxconv.regularizers import L1, L1L2, L2, OrthogonalRegularizer
from tests.support.keras_oracle import keras, keras_rules

CONFIGURED = [
    ("L1", {"l1": 0.25}),
    ("L2", {"l2": 0.01}),
    ("L2", {}),
    ("L1L2", {"l1": 0.01, "l2": 0.3}),
    ("L1L2", {}),
    ("OrthogonalRegularizer", {"factor": 0.5}),
    ("OrthogonalRegularizer", {"factor": 0.5, "mode": "columns"}),
]


def ours(name, arguments):
    return regularizers.registry[name](**arguments)


def in_keras(name, arguments):
    with keras_rules():
        return getattr(keras.regularizers, name)(**arguments)


@pytest.fixture
def w():
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)


def mean_cosine(rows):
    """Return the mean |cosine| over pairs of rows, in float64, from the definition."""
    rows = np.asarray(rows, np.float64)
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    return np.mean([abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def test_numbers_by_hand():
    w = jnp.array([[1.0, -2.0], [0.0, 3.0]])
    assert float(L1(0.5)(w)) == 3.0
    assert float(L2(0.5)(w)) == 7.0  # no factor one half
    assert float(L1L2(0.5, 0.25)(w)) == 6.5
    assert float(L1L2()(w)) == 0.0
    # rows (1, 0) and (1, 1): cosine 1/sqrt(2), one pair
    np.testing.assert_allclose(
        OrthogonalRegularizer(0.1)(jnp.array([[1.0, 0.0], [1.0, 1.0]])), 0.1 / np.sqrt(2), rtol=1e-6
    )


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_values_and_derivatives_equal_keras(name, arguments, w):
    value, slope = jax.jit(jax.value_and_grad(ours(name, arguments)))(w)
    with keras_rules():
        expected, expected_slope = jax.jit(jax.value_and_grad(in_keras(name, arguments)))(w)
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["rows", "columns"])
def test_the_orthogonal_penalty_is_the_mean_cosine(mode, w):
    expected = 0.5 * mean_cosine(w if mode == "rows" else w.T)
    np.testing.assert_allclose(OrthogonalRegularizer(0.5, mode)(w), expected, rtol=1e-6)


@pytest.mark.parametrize("regularizer", [L1L2(0.3, 0.7), OrthogonalRegularizer(0.5, axis="filter")], ids=str)
def test_derivatives_agree_with_finite_differences(regularizer, x64):
    w, direction = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 2, 4)))
    step = 1e-6
    value = jax.jit(regularizer)
    change = (value(w + step * direction) - value(w - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(jax.jit(jax.grad(regularizer))(w), direction), change, rtol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_the_penalty_is_a_scalar_in_the_weight_s_dtype(name, arguments, dtype, w):
    penalty = ours(name, arguments)(w.astype(dtype))
    assert penalty.shape == ()
    assert penalty.dtype == dtype
    # sums of a few dozen roundings
    np.testing.assert_allclose(np.float32(penalty), ours(name, arguments)(w), rtol=8 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_zero_rows_have_no_penalty_and_no_derivative(dtype):
    w = jnp.array([[0, 0], [1, 2], [3, 1]], dtype)
    penalty, slope = jax.jit(jax.value_and_grad(OrthogonalRegularizer(1.0)))(w)
    np.testing.assert_allclose(np.float32(penalty), 1 / np.sqrt(2) / 3, rtol=2 * float(jnp.finfo(dtype).eps))
    assert (slope[0] == 0).all()
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("regularizer", [L1(), L1L2(0.1, 0.1)], ids=str)
def test_the_derivative_at_zero_is_zero(regularizer):
    assert jax.grad(regularizer)(jnp.array([0.0, -0.0])).tolist() == [0.0, 0.0]


def test_a_single_vector_has_no_penalty():
    assert float(OrthogonalRegularizer(1.0)(jnp.ones((1, 3)))) == 0.0


def test_a_factor_of_zero_ignores_infinite_weights():
    assert float(L1L2()(jnp.array([jnp.inf]))) == 0.0


HALF = [L1(1e-3), L2(1e-3), L1L2(1e-3, 2e-3)]


@pytest.mark.few(4)
@pytest.mark.parametrize("size", [1e-4, 0.03, 1.5, 300.0])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
@pytest.mark.parametrize("regularizer", HALF, ids=str)
def test_half_precision_is_summed_in_float32(regularizer, dtype, size):
    count = 60_000 if size < 100 else 200  # the factor times the sum is within float16, the sum is not
    w = jnp.asarray(size * np.random.default_rng(4).normal(size=count), dtype)
    value, slope = jax.jit(jax.value_and_grad(regularizer))(w)
    exact, l1, l2 = np.asarray(w, np.float64), getattr(regularizer, "l1", 0.0), getattr(regularizer, "l2", 0.0)
    eps = float(jnp.finfo(dtype).eps)
    smallest = float(jnp.finfo(dtype).smallest_subnormal)
    penalty = l1 * np.abs(exact).sum() + l2 * np.square(exact).sum()
    np.testing.assert_allclose(float(value), penalty, rtol=eps, atol=smallest)  # one rounding to the dtype
    expected = l1 * np.sign(exact) + 2 * l2 * exact
    np.testing.assert_allclose(np.asarray(slope, np.float64), expected, rtol=2 * eps, atol=2 * smallest)


# --- Filters ----------------------------------------------------------------------------------------------------------


def test_filter_rows_are_the_filters_of_a_convolution():
    kernel = np.random.default_rng(2).normal(size=(3, 3, 4, 5)).astype(np.float32)
    expected = 0.5 * mean_cosine(kernel.reshape(-1, 5).T)
    for axis in ("filter", (0, 1, 2), [0, 1, 2], (-2, 1, 0)):
        penalty = OrthogonalRegularizer(0.5, axis=axis)(jnp.asarray(kernel))
        np.testing.assert_allclose(penalty, expected, rtol=1e-6)


def test_depthwise_filters_extend_over_the_window_only():
    kernel = np.random.default_rng(3).normal(size=(3, 3, 4, 2)).astype(np.float32)
    regularizer = regularizers.get(OrthogonalRegularizer(0.5, axis="filter"), filter_axes=(0, 1))
    np.testing.assert_allclose(regularizer(jnp.asarray(kernel)), 0.5 * mean_cosine(kernel.reshape(9, 8).T), rtol=1e-6)


def test_columns_of_the_filter_matrix():
    kernel = np.random.default_rng(4).normal(size=(2, 3, 5)).astype(np.float32)
    penalty = OrthogonalRegularizer(0.5, "columns", axis="filter")(jnp.asarray(kernel))
    np.testing.assert_allclose(penalty, 0.5 * mean_cosine(kernel.reshape(6, 5)), rtol=1e-6)


def test_orthogonal_filters_have_no_penalty(key):
    kernel = jnp.reshape(jnp.eye(12)[:, :5], (2, 2, 3, 5))
    assert float(OrthogonalRegularizer(1.0, axis="filter")(kernel)) == 0.0


def test_filter_is_resolved_by_get():
    resolved = regularizers.get(OrthogonalRegularizer(axis="filter"), filter_axes=(0, 1))
    assert resolved == OrthogonalRegularizer(axis=(0, 1))
    assert regularizers.get(OrthogonalRegularizer(), filter_axes=(0, 1)) == OrthogonalRegularizer()
    assert regularizers.get("l2", filter_axes=(0, 1)) == L2()


# --- Names and configs ------------------------------------------------------------------------------------------------


def test_names():
    assert regularizers.get("l1") == regularizers.get("L1") == L1(0.01)
    assert regularizers.get("l2") == regularizers.get(L2) == L2(0.01)
    assert regularizers.get("orthogonal_regularizer") == OrthogonalRegularizer(0.01, "rows")
    assert regularizers.get(None) is None
    assert regularizers.get(jnp.sum) is jnp.sum


def test_l1_l2_is_tf_2_s_and_l1l2_is_keras_3_s():
    assert regularizers.get("l1_l2") == L1L2(0.01, 0.01)
    assert regularizers.get("l1l2") == regularizers.get("L1L2") == L1L2(0.0, 0.0)
    assert regularizers.get({"class_name": "l1_l2", "config": {"l1": 0.5}}) == L1L2(0.5, 0.0)


def test_none_means_the_default_factor():
    assert (L1(None), L2(None), L1L2(None, None)) == (L1(0.01), L2(0.01), L1L2(0.0, 0.0))
    assert OrthogonalRegularizer(None) == OrthogonalRegularizer(0.01)


def test_numpy_numbers_become_python_s():
    assert L2(np.float64(0.5)) == L2(0.5)
    assert type(L2(np.int64(2)).l2) is float


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_config_is_keras_s_and_goes_both_ways(name, arguments):
    regularizer = ours(name, arguments)
    written = json.loads(json.dumps(regularizers.serialize(regularizer)))
    theirs = keras.regularizers.serialize(in_keras(name, arguments))
    assert written == json.loads(json.dumps(theirs))
    assert regularizers.get(written) == regularizers.get(theirs) == regularizer
    with keras_rules():
        assert keras.regularizers.deserialize(written).get_config() == theirs["config"]


def test_the_config_of_l1_is_exact_unlike_keras_s():
    assert regularizers.serialize(L1(0.01))["config"] == {"l1": 0.01}
    assert in_keras("L1", {"l1": 0.01}).get_config() == {"l1": float(np.float32(0.01))}


def test_axis_is_in_the_config_only_where_it_is_used():
    regularizer = OrthogonalRegularizer(axis=[0, 1])
    written = json.loads(json.dumps(regularizers.serialize(regularizer)))
    assert written["config"] == {"factor": 0.01, "mode": "rows", "axis": [0, 1]}
    assert regularizers.get(written) == regularizer


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_a_regularizer_is_a_value(name, arguments):
    assert hash(ours(name, arguments)) == hash(ours(name, arguments))
    assert pickle.loads(pickle.dumps(ours(name, arguments))) == ours(name, arguments)


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [-0.1, float("inf"), float("nan"), "0.1", [0.1]], ids=str)
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (L1, "L1: l1"),
        (L2, "L2: l2"),
        (lambda factor: L1L2(l1=factor), "L1L2: l1"),
        (lambda factor: L1L2(l2=factor), "L1L2: l2"),
        (OrthogonalRegularizer, "OrthogonalRegularizer: factor"),
    ],
)
def test_invalid_factors_raise(make, where, factor):
    with pytest.raises(ValueError, match=f"{where} .*at least 0.*{re.escape(repr(factor))}"):
        make(factor)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: regularizers.get("l3"), ValueError, "regularizer 'l3'.*'l"),
        (lambda: regularizers.get(0.01), TypeError, "0.01 .*regularizer"),
        (lambda: regularizers.get({"class_name": "L2", "config": {"l1": 1}}), ValueError, "L2 .*'l1'.*'l2'"),
        (lambda: OrthogonalRegularizer(mode="row"), ValueError, "mode 'row'.*'rows'"),
        (lambda: OrthogonalRegularizer(axis="row"), TypeError, "axis .*'filter'.*'row'"),
        (
            lambda: OrthogonalRegularizer()(jnp.ones((3, 4, 5))),
            ValueError,
            r"OrthogonalRegularizer: .*rank 2.*\(3, 4, 5\).*axis=\"filter\"",
        ),
        (lambda: OrthogonalRegularizer(axis=3)(jnp.ones((3, 4))), ValueError, r"axis=3 .*\(3, 4\)"),
    ],
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()
