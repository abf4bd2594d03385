"""Constraints: numbers computed by hand, Keras's values, the documented bounds, and the filters of a convolution."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import constraints
from jaxconv.constraints import Constraint, MaxNorm, MinMaxNorm, NonNeg, RadialConstraint, UnitNorm
from tests.support.keras_oracle import keras, keras_rules

CONFIGURED = [
    ("NonNeg", {}),
    ("MaxNorm", {}),
    ("MaxNorm", {"max_value": 0.7, "axis": [0, 1]}),
    ("MaxNorm", {"max_value": 1.5, "axis": -1}),
    ("UnitNorm", {}),
    ("UnitNorm", {"axis": [0, 1, 2]}),
    ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 1.0, "max_value": 1.2, "rate": 0.3, "axis": [1, 2]}),
    ("Constraint", {}),
]
ALL = [constraints.registry[name](**arguments) for name, arguments in CONFIGURED] + [RadialConstraint()]


def ours(name, arguments):
    return constraints.registry[name](**arguments)


def in_keras(name, arguments):
    return getattr(keras.constraints, name)(**arguments)


def norms(w, axis):
    return np.sqrt(np.square(np.asarray(w, np.float64)).sum(axis))


@pytest.fixture
def w():
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), jnp.float32)


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_values_equal_keras(name, arguments, w):
    with keras_rules():
        expected = jax.jit(in_keras(name, arguments).__call__)(w)
    np.testing.assert_allclose(jax.jit(ours(name, arguments))(w), expected, rtol=5e-7)


@pytest.mark.few(2)
@pytest.mark.parametrize("axis", [0, (0, 1), -1, None])
def test_norm_formulas_in_float64(axis, w):
    exact = np.asarray(w, np.float64)
    norm = np.sqrt(np.square(exact).sum(axis, keepdims=True))
    target = 0.3 * np.clip(norm, 1, 1.5) + 0.7 * norm
    np.testing.assert_allclose(MaxNorm(1.5, axis)(w), exact * np.minimum(norm, 1.5) / (norm + 1e-7), rtol=1e-6)
    np.testing.assert_allclose(UnitNorm(axis)(w), exact / (norm + 1e-7), rtol=1e-6)
    np.testing.assert_allclose(MinMaxNorm(1, 1.5, 0.3, axis)(w), exact * target / (norm + 1e-7), rtol=1e-6)


def test_max_norm_scales_only_long_vectors():
    w = jnp.array([[3.0, 0.3], [4.0, 0.4]])
    np.testing.assert_allclose(MaxNorm(2.0)(w), [[1.2, 0.3], [1.6, 0.4]], rtol=1e-6)  # 1e-7 / norm, as documented


def test_min_max_norm_moves_by_the_rate():
    w = jnp.array([[3.0, 0.3], [4.0, 0.4]])  # norms 5 and 0.5 into [1, 2]
    np.testing.assert_allclose(norms(MinMaxNorm(1.0, 2.0)(w), 0), [2.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(norms(MinMaxNorm(1.0, 2.0, rate=0.5)(w), 0), [3.5, 0.75], rtol=1e-6)


def test_non_neg_clears_the_sign_of_zero_and_keeps_nan():
    w = NonNeg()(jnp.array([-1.0, -0.0, 0.0, 2.0, jnp.nan, -jnp.inf]))
    np.testing.assert_array_equal(w, [0, 0, 0, 2, np.nan, 0])
    assert not np.signbit(w).any()


@pytest.mark.parametrize("constraint", [c for c in ALL if getattr(c, "rate", 1) == 1], ids=str)
def test_projecting_twice_changes_nothing(constraint, w):
    once = constraint(w)
    np.testing.assert_allclose(constraint(once), once, rtol=5e-7)  # 1e-7 / norm, and a rounding


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=str)
@pytest.mark.parametrize("constraint", ALL, ids=str)
def test_shape_and_dtype_are_kept_and_zero_stays_zero(constraint, dtype, w):
    projected = constraint(w.astype(dtype))
    assert (projected.shape, projected.dtype) == (w.shape, dtype)
    # a few roundings
    np.testing.assert_allclose(
        np.float32(projected), constraint(w), rtol=4 * float(jnp.finfo(dtype).eps), atol=4 * float(jnp.finfo(dtype).eps)
    )
    assert (constraint(jnp.zeros_like(projected)) == 0).all()


@pytest.mark.parametrize("constraint", ALL, ids=str)
def test_jit_changes_nothing(constraint, w):
    np.testing.assert_allclose(jax.jit(constraint)(w), constraint(w), rtol=3e-7)  # one rounding


NORMS = [MaxNorm(1.5, "filter"), UnitNorm("filter"), MinMaxNorm(0.5, 1.5, 0.7, "filter")]


@pytest.mark.few(2)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=str)
@pytest.mark.parametrize("constraint", NORMS, ids=str)
def test_derivatives_at_a_zero_filter_are_zero(constraint, dtype, w):
    w = w.at[..., 1].set(0).astype(dtype)

    def loss(w):
        return jnp.sum(jnp.sin(constraint(w).astype(jnp.float32)))

    gradient = jax.jit(jax.grad(loss))
    for derivative in (gradient(w), jax.jit(lambda v: jax.jvp(gradient, (w,), (v,))[1])(jnp.ones_like(w))):
        assert derivative.dtype == dtype and jnp.isfinite(derivative).all()
        assert (derivative[..., 1] == 0).all() and (derivative[..., 0] != 0).any()


@pytest.mark.parametrize("constraint", NORMS, ids=str)
def test_derivatives_agree_with_finite_differences(constraint, x64):
    w, direction, weight = jnp.asarray(np.random.default_rng(3).normal(size=(3, 3, 2, 4, 5)))
    value = jax.jit(lambda w: jnp.vdot(weight, constraint(w)))
    change = (value(w + 1e-6 * direction) - value(w - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(jax.jit(jax.grad(value))(w), direction), change, rtol=1e-7)


# --- Filters ----------------------------------------------------------------------------------------------------------


def test_filter_bounds_the_norm_of_each_filter(w):
    bounded = MaxNorm(1.0, axis="filter")(w)
    np.testing.assert_allclose(norms(bounded, (0, 1, 2)), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(bounded, MaxNorm(1.0, axis=[0, 1, 2])(w))


@pytest.mark.parametrize("make", [MaxNorm, UnitNorm, MinMaxNorm])
def test_filter_is_resolved_by_get_to_what_keras_can_read(make):
    resolved = constraints.get(make(axis="filter"), filter_axes=(0, 1))
    assert resolved == make(axis=(0, 1))
    with keras_rules():
        keras.constraints.deserialize(json.loads(json.dumps(constraints.serialize(resolved))))(jnp.ones((2, 2, 3, 1)))
    assert constraints.get(make(axis=1), filter_axes=(0, 1)) == make(axis=1)
    assert constraints.get({"class_name": make.__name__, "config": {"axis": "filter"}}, (0, 1)) == resolved


def test_entries_without_an_axis_ignore_the_filter_axes():
    assert constraints.get("non_neg", filter_axes=(0,)) == NonNeg()
    assert constraints.get(None, filter_axes=(0,)) is None


# --- Rings ------------------------------------------------------------------------------------------------------------


def test_radial_rings_of_odd_kernels():
    kernel = jnp.arange(25.0).reshape(5, 5)
    rings = RadialConstraint()(kernel[:, :, None, None])[:, :, 0, 0]
    assert rings.tolist() == [
        [24, 24, 24, 24, 24],
        [24, 18, 18, 18, 24],
        [24, 18, 12, 18, 24],
        [24, 18, 18, 18, 24],
        [24, 24, 24, 24, 24],
    ]


def test_radial_rings_of_even_kernels_are_those_of_tf_2():
    # tf.keras 2: the core is filled with w[start - 1, start - 1], ring i with w[start + i, start + i], start = size / 2
    kernel = jnp.arange(16.0).reshape(4, 4)
    rings = RadialConstraint()(kernel[:, :, None, None])[:, :, 0, 0]
    assert rings.tolist() == [[15, 15, 15, 15], [15, 5, 5, 15], [15, 5, 5, 15], [15, 15, 15, 15]]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_radial_kernels_have_the_symmetries_of_the_square(size):
    w = jnp.asarray(np.random.default_rng(1).normal(size=(size, size, 2, 3)))
    rings = np.asarray(jax.jit(RadialConstraint())(w))
    np.testing.assert_array_equal(rings, np.rot90(rings))
    np.testing.assert_array_equal(rings, rings[::-1])
    assert np.isin(rings[..., 0, 0], w[..., 0, 0]).all()  # each filter has its own entries only


# --- Names and configs ------------------------------------------------------------------------------------------------


def test_names_of_keras_and_of_tf_2():
    for name in ("max_norm", "maxnorm", "MaxNorm"):
        assert constraints.get(name) == MaxNorm(2.0, 0)
    for name in ("non_neg", "nonneg", "NonNeg"):
        assert constraints.get(name) == NonNeg()
    for name in ("unit_norm", "unitnorm", "UnitNorm"):
        assert constraints.get(name) == UnitNorm(0)
    assert constraints.get("min_max_norm") == MinMaxNorm(0.0, 1.0, 1.0, 0)
    assert constraints.get("radial_constraint") == RadialConstraint()
    assert constraints.get("constraint") == Constraint()
    assert constraints.get(MaxNorm) == MaxNorm()
    assert constraints.get(jnp.abs) is jnp.abs
    assert constraints.get(None) is None


@pytest.mark.parametrize(("name", "arguments"), CONFIGURED, ids=str)
def test_config_is_keras_s_and_goes_both_ways(name, arguments):
    constraint = ours(name, arguments)
    written = json.loads(json.dumps(constraints.serialize(constraint)))
    theirs = keras.constraints.serialize(in_keras(name, arguments))
    assert written == json.loads(json.dumps(theirs))
    assert constraints.get(written) == constraints.get(theirs) == constraint
    assert keras.constraints.deserialize(written).get_config() == theirs["config"]


@pytest.mark.parametrize("constraint", ALL, ids=str)
def test_a_constraint_is_a_value(constraint):
    twin = pickle.loads(pickle.dumps(constraint))
    assert twin == constraint
    assert hash(twin) == hash(constraint)


def test_numbers_and_axes_have_one_form():
    assert MaxNorm(np.float32(2), [np.int64(0), 1]) == MaxNorm(2.0, (0, 1))


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: constraints.get("max_nrom"), ValueError, "constraint 'max_nrom'.*'max_norm'"),
        (lambda: constraints.get(2.0), TypeError, "2.0 .*constraint"),
        (
            lambda: constraints.get({"class_name": "MaxNorm", "config": {"max": 1}}),
            ValueError,
            "MaxNorm .*'max'.*'max_value'",
        ),
        (lambda: MaxNorm(-1), ValueError, "MaxNorm: max_value .*at least 0.* -1"),
        (lambda: MaxNorm("2"), ValueError, "MaxNorm: max_value .*at least 0.* '2'"),
        (lambda: MaxNorm(float("nan")), ValueError, "max_value .*at least 0.* nan"),
        (lambda: MinMaxNorm(-1), ValueError, "MinMaxNorm: min_value .* -1"),
        (lambda: MinMaxNorm(2, 1), ValueError, "MinMaxNorm: min_value=2.0 .*max_value=1.0"),
        (lambda: MinMaxNorm(rate=1.5), ValueError, r"MinMaxNorm: rate .*\[0, 1\].* 1.5"),
        (lambda: MaxNorm(axis="filters"), TypeError, "MaxNorm: axis .*int.*'filter'.*'filters'"),
        (lambda: UnitNorm(axis=0.5), TypeError, "UnitNorm: axis .*0.5"),
        (lambda: MaxNorm(axis=4)(jnp.ones((2, 3))), ValueError, r"MaxNorm: axis=4 .*\(2, 3\)"),
        (lambda: RadialConstraint()(jnp.ones((3, 3, 1))), ValueError, r"\(size, size, .*\(3, 3, 1\)"),
        (lambda: RadialConstraint()(jnp.ones((3, 2, 1, 1))), ValueError, r"\(size, size, .*\(3, 2, 1, 1\)"),
    ],
)
def test_invalid_arguments_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_numpy_arrays_are_constrained_without_a_warning():
    w = np.ones((3, 2))  # float64, which JAX computes in float32
    got = MaxNorm(1.0)(w)
    np.testing.assert_allclose(np.asarray(got), 3**-0.5, rtol=1e-6)
