"""The normalizations: layer, root mean square, unit, group, instance, batch renormalization, spectral and weight."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers, merge
from tests.support.catalogue import inputs, randomised
from tests.support.keras_oracle import keras, keras_rules

KEY = jax.random.key(0)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # a few dozen roundings of float32


def apply(layer, x, seed=2):
    """Return params away from zeros and ones, and the output."""
    params, apply_fn = layer.init(KEY, x)
    params = randomised(params, seed)
    return params, np.asarray(apply_fn(params, x), np.float64)


def as64(params):
    return {leaf: np.asarray(value, np.float64) for leaf, value in params.items()}


# -- against the definition, in float64


@pytest.mark.few(2)
@pytest.mark.parametrize("axis, axes", [(-1, (3,)), (1, (1,)), ([-1, 1], (1, 3)), ((1, 2, 3), (1, 2, 3))])
def test_layer_normalization_is_its_definition_along_any_axes(axis, axes):
    x = inputs((2, 3, 4, 5))
    params, y = apply(jc.LayerNormalization(axis, 0.01), x)
    p, x = as64(params), np.asarray(x, np.float64)
    laid = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    want = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 0.01)
    np.testing.assert_allclose(y, want * p["gamma"].reshape(laid) + p["beta"].reshape(laid), **CLOSE)


@pytest.mark.parametrize("axis, axes", [(-1, (2,)), (1, (1,)), ((1, 2), (1, 2))])
def test_rms_normalization_applies_its_scale_along_the_axis(axis, axes):
    x = inputs((2, 4, 3))
    params, y = apply(jc.RMSNormalization(axis, 0.01), x)
    p, x = as64(params), np.asarray(x, np.float64)
    laid = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    want = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + 0.01) * p["scale"].reshape(laid)
    np.testing.assert_allclose(y, want, **CLOSE)


@pytest.mark.few(1)
@pytest.mark.parametrize("groups", [1, 3, -1])
@pytest.mark.parametrize("axis", [-1, 1])
def test_group_normalization_is_its_definition_in_both_formats(groups, axis):
    x = inputs((2, 4, 5, 6) if axis == -1 else (2, 6, 4, 5))
    params, y = apply(jc.GroupNormalization(groups, axis, 0.01), x)
    p, last = as64(params), np.moveaxis(np.asarray(x, np.float64), axis, -1)
    want = np.empty_like(last)
    for group in np.split(np.arange(6), 6 if groups == -1 else groups):
        part = last[..., group]
        mean, variance = part.mean((1, 2, 3), keepdims=True), part.var((1, 2, 3), keepdims=True)
        want[..., group] = (part - mean) / np.sqrt(variance + 0.01)
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), want * p["gamma"] + p["beta"], **CLOSE)


def test_instance_normalization_is_group_normalization_with_as_many_groups_as_channels():
    x = inputs((2, 7, 4))
    instance, group = jc.InstanceNormalization(epsilon=0.1), jc.GroupNormalization(-1, epsilon=0.1)
    np.testing.assert_array_equal(apply(instance, x)[1], apply(group, x)[1])
    assert "groups" not in instance.get_config()


def test_one_group_is_layer_normalization_over_the_whole_sample():
    x = inputs((3, 5, 4))
    bare = {"center": False, "scale": False}
    group, layer = jc.GroupNormalization(1, **bare), jc.LayerNormalization([1, 2], **bare)
    np.testing.assert_allclose(apply(group, x)[1], apply(layer, x)[1], **CLOSE)


def test_unit_normalization_returns_norm_one_and_keeps_zero_with_a_finite_derivative():
    layer = jc.UnitNormalization()
    y = layer.apply_fn({}, jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(y, [[0.6, 0.8], [0, 0]], **CLOSE)
    slope = jax.grad(lambda x: layer.apply_fn({}, x).sum())(jnp.zeros((1, 2)))
    assert bool(jnp.isfinite(slope).all())


@pytest.mark.parametrize("layer", [jc.LayerNormalization(), jc.GroupNormalization(2), jc.RMSNormalization()])
def test_what_overflows_in_float16_does_not_inside_a_normalization(layer):
    half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"})
    x = jnp.array([[70000.0, -70000, 60000, 300]])  # 65504 is the largest float16, and the squares are far above it
    params, apply_fn = half.init(KEY, x)
    y = apply_fn(params, x)
    assert y.dtype == jnp.float16
    # the result is rounded to float16 once
    np.testing.assert_allclose(y, layer.apply_fn(params, x), rtol=1e-3, atol=1e-3)


def test_a_large_mean_does_not_cancel_the_variance():
    x = 1e4 + inputs((2, 64))  # a mean of squares minus a squared mean would keep no digit
    y = jc.LayerNormalization(center=False, scale=False, epsilon=0).apply_fn({}, x)
    np.testing.assert_allclose(np.asarray(y, np.float64).var(1), 1, rtol=1e-4)


# -- against Keras


def test_the_deprecated_rms_scaling_is_keras_s():
    layer = jc.LayerNormalization(rms_scaling=True, epsilon=0.1)
    assert set(layer.leaves) == {"gamma"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras calls it deprecated
        other = keras.layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    x = inputs((2, 3, 4))
    params, y = apply(layer, x)
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.build(x.shape)
        other.gamma.assign(params["gamma"])
        want = other(x)
    np.testing.assert_allclose(y, want, **CLOSE)


# -- spectral normalization


def test_project_brings_the_largest_singular_value_to_one_and_again_changes_nothing():
    layer = jc.SpectralNormalization(jc.Conv1D(4, 3), power_iterations=60)
    params, apply_fn = layer.init(KEY, (None, 9, 2))
    params = randomised(params)
    once = apply_fn.project(params)
    largest = np.linalg.svd(np.asarray(once["layer"]["kernel"]).reshape(-1, 4), compute_uv=False)[0]
    np.testing.assert_allclose(largest, 1, rtol=1e-5)
    twice = apply_fn.project(once)
    np.testing.assert_allclose(twice["layer"]["kernel"], once["layer"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(once["vector_u"], params["vector_u"])


def test_each_training_call_improves_the_estimate_by_one_step():
    layer = jc.SpectralNormalization(jc.Dense(3, use_bias=False))
    params, apply_fn = layer.init(KEY, (None, 4))
    kernel = np.asarray(params["layer"]["kernel"], np.float64)
    x = jnp.eye(4)
    for _ in range(40):
        y, effects = apply_fn.forward(params, x, train=True)
        params = merge(apply_fn.split(params)[0], effects.fixed)
    largest = np.linalg.svd(kernel, compute_uv=False)[0]
    np.testing.assert_allclose(y, kernel / largest, rtol=1e-4, atol=1e-5)  # 40 steps of the power method
    np.testing.assert_array_equal(params["layer"]["kernel"], np.asarray(kernel, np.float32))


def test_the_kernel_of_ones_is_halved_in_training_and_whole_at_inference():
    layer = jc.SpectralNormalization(jc.Conv2D(1, 2, kernel_initializer="ones"), power_iterations=8)
    params, apply_fn = layer.init(KEY, (1, 2, 2, 1))
    x = jnp.ones((1, 2, 2, 1))
    assert apply_fn(params, x).item() == 4
    # the only singular value is that of the vector (1, 1, 1, 1)
    np.testing.assert_allclose(apply_fn.forward(params, x, train=True)[0], 2, rtol=1e-6)


@pytest.mark.slow
def test_a_kernel_of_zeros_is_left_alone_with_a_finite_derivative():
    layer = jc.SpectralNormalization(jc.Dense(2, kernel_initializer="zeros"))
    params, apply_fn = layer.init(KEY, (None, 3))
    assert bool((apply_fn.project(params)["layer"]["kernel"] == 0).all())

    def total(params):
        return apply_fn.forward(params, jnp.ones((1, 3)), train=True)[0].sum()

    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(jax.grad(total)(params)))
    effects = apply_fn.forward(params, jnp.ones((1, 3)), train=True)[1]
    np.testing.assert_array_equal(effects.fixed["vector_u"], params["vector_u"])


@pytest.mark.parametrize("wrapped", [{"trainable": False}, {}])
def test_a_frozen_kernel_is_not_divided(wrapped):
    layer = jc.SpectralNormalization(jc.Dense(2, trainable=bool(wrapped)), **wrapped)
    params, apply_fn = layer.init(KEY, (None, 3))
    params, x = randomised(params), jnp.ones((1, 3))
    y, effects = apply_fn.forward(params, x, train=True)
    np.testing.assert_array_equal(y, apply_fn(params, x))
    np.testing.assert_array_equal(effects.fixed["vector_u"], params["vector_u"])
    np.testing.assert_array_equal(effects.fixed["layer"]["kernel"], params["layer"]["kernel"])
    np.testing.assert_array_equal(apply_fn.project(params)["layer"]["kernel"], params["layer"]["kernel"])


# -- weight normalization


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "inside, shape, axes",
    [(jc.Dense(3), (2, 4), 0), (jc.Conv1D(3, 2), (2, 6, 4), (0, 1)), (jc.Embedding(9, 3), (2, 4), 1)],
)
def test_weight_normalization_is_its_definition_and_begins_as_the_layer_alone(inside, shape, axes):
    layer = jc.WeightNormalization(inside)
    x = jnp.zeros(shape, jnp.int32) + 3 if isinstance(inside, jc.Embedding) else inputs(shape)
    params, apply_fn = layer.init(KEY, x)
    np.testing.assert_allclose(apply_fn(params, x), inside.apply_fn(params["layer"], x), **CLOSE)
    params = randomised(params)
    v = np.asarray(params["layer"][layer.leaf], np.float64)
    norm = np.sqrt(np.square(v).sum(axes, keepdims=True))
    kernel = v / norm * np.asarray(params["g"], np.float64).reshape(norm.shape)
    own = {**params["layer"], layer.leaf: jnp.asarray(kernel, jnp.float32)}
    np.testing.assert_allclose(apply_fn(params, x), inside.apply_fn(own, x), **CLOSE)


def test_the_length_of_v_does_not_matter():
    layer = jc.WeightNormalization(jc.Dense(3))
    params, apply_fn = layer.init(KEY, (None, 4))
    longer = params | {"layer": params["layer"] | {"kernel": params["layer"]["kernel"] * 7}}
    x = inputs((2, 4))
    np.testing.assert_allclose(apply_fn(longer, x), apply_fn(params, x), **CLOSE)


def test_a_filter_of_zeros_gives_zeros_with_finite_derivatives():
    layer = jc.WeightNormalization(jc.Dense(2, kernel_initializer="zeros"))
    params, apply_fn = layer.init(KEY, (None, 3))
    grads = jax.grad(lambda p: apply_fn(p, jnp.ones((1, 3))).sum())(params)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    np.testing.assert_array_equal(apply_fn(params, jnp.ones((1, 3))), np.zeros((1, 2)))


# -- wrappers


def test_a_wrapper_has_dtype_shape_key_penalty_and_statistics_of_the_layer_inside():
    inside = jc.Conv1D(2, 2, input_shape=(5, 3), activity_regularizer="l2", kernel_regularizer="l2")
    layer = jc.SpectralNormalization(inside, dtype="mixed_bfloat16")
    assert layer.layer.dtype == "mixed_bfloat16" and layer.policy == layer.layer.policy
    params, apply_fn = layer.init(KEY)
    assert params["layer"]["kernel"].shape == (2, 3, 2) and params["vector_u"].dtype == jnp.float32
    y, effects = apply_fn.forward(params, jnp.ones((1, 5, 3)))
    assert y.dtype == jnp.bfloat16 and effects.penalty > 0
    np.testing.assert_array_equal(apply_fn.penalty(params), layer.layer.penalty(params["layer"]))


def test_a_wrapper_works_in_a_sequential():
    model = jc.Sequential([jc.SpectralNormalization(jc.Dense(3)), jc.WeightNormalization(jc.Dense(2))])
    params, apply_fn = model.init(KEY, (None, 4))
    assert {name: set(own) for name, own in params.items()} == {
        "spectral_normalization": {"vector_u", "layer"},
        "weight_normalization": {"g", "layer"},
    }
    trainable, fixed = apply_fn.split(params)
    assert fixed["spectral_normalization"]["layer"] == {"kernel": None, "bias": None}
    assert trainable["spectral_normalization"]["vector_u"] is None
    assert apply_fn(merge(trainable, fixed), jnp.ones((1, 4))).shape == (1, 2)


# -- bad input


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: jc.LayerNormalization({"axis": -1}),
            TypeError,
            r"LayerNormalization: axis=\{'axis': -1\} is not",
        ),
        (lambda: jc.LayerNormalization([1.5]), TypeError, r"axis=1.5 is not"),
        (lambda: jc.LayerNormalization([]), ValueError, r"axis=\[\] names no axis"),
        (lambda: jc.RMSNormalization(epsilon=-1), ValueError, "epsilon=-1 is not valid; give a number of at least 0"),
        (lambda: jc.UnitNormalization("last"), TypeError, "UnitNormalization: axis='last' is not"),
        (lambda: jc.GroupNormalization(0), ValueError, "groups=0 is not valid; give a positive integer or -1"),
        (lambda: jc.GroupNormalization(1.5), ValueError, "groups=1.5 is not valid"),
        (lambda: jc.GroupNormalization(axis=[1, 2]), TypeError, r"axis=\[1, 2\] is not one axis"),
        (lambda: jc.InstanceNormalization(groups=2), ValueError, "InstanceNormalization: unknown argument 'groups'"),
        (lambda: jc.BatchNormalization(momentum=2), ValueError, "momentum=2 is not valid; give a number from 0 to 1"),
        (lambda: jc.BatchNormalization(renorm_clipping={"max": 1}), ValueError, "has 'max'; did you mean 'rmax'"),
        (lambda: jc.BatchNormalization(renorm_clipping=[3]), TypeError, r"renorm_clipping=\[3\] is not a mapping"),
        (
            lambda: jc.BatchNormalization(renorm_clipping={"dmax": -1}),
            ValueError,
            r"renorm_clipping\['dmax'\]=-1 is not",
        ),
        (lambda: jc.BatchNormalization(renorm_clipping={"rmin": 2, "rmax": 1}), ValueError, "rmin=2.0 above rmax=1.0"),
        (lambda: jc.SpectralNormalization("dense"), TypeError, "SpectralNormalization: 'dense' is not a layer"),
        (lambda: jc.SpectralNormalization(jc.Flatten()), ValueError, "Flatten has no kernel and no embeddings"),
        (lambda: jc.SpectralNormalization(jc.Dense(2), 0), ValueError, "power_iterations=0 is not positive"),
        (lambda: jc.WeightNormalization(jc.ReLU()), ValueError, "WeightNormalization: ReLU has no kernel"),
    ],
)
def test_invalid_options_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (
            jc.LayerNormalization(2),
            (None, 4),
            r"axis=2 does not name distinct axes of input shape \(None, 4\); expected 1 to 1",
        ),
        (jc.LayerNormalization(0), (3, 4), "axis=0 does not name distinct axes"),
        (jc.LayerNormalization([1, -1]), (3, 4), r"axis=\(1, -1\) does not name distinct axes"),
        (jc.LayerNormalization(), (3,), "expected none"),
        (jc.LayerNormalization(1), (2, None, 4), "axis 1 of input shape .* is None"),
        (jc.GroupNormalization(3), (None, 4), "4 channels, which do not divide into groups=3"),
        (jc.GroupNormalization(5), (None, 4), "a positive multiple of 5"),
        (jc.GroupNormalization(2), (None, 3, None), "axis 2 of input shape .* is None"),
        (jc.BatchNormalization(), (None, 3, None), "axis 2 of input shape .* is None"),
        (jc.SpectralNormalization(jc.Conv1D(2, 3)), (None, 2, 1), "SpectralNormalization: Conv1D: input of length 2"),
        (jc.WeightNormalization(jc.Dense(2)), (None, None), "the channel count"),
    ],
)
def test_invalid_inputs_raise_at_init(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shape)


def test_params_that_do_not_fit_are_refused_by_name():
    layer = jc.SpectralNormalization(jc.Dense(2))
    params, apply_fn = layer.init(KEY, (None, 3))
    with pytest.raises(ValueError, match=r"params has \['vector_u'\]; this layer needs \['layer', 'vector_u'\]"):
        apply_fn({"vector_u": params["vector_u"]}, jnp.ones((1, 3)))
    with pytest.raises(
        ValueError, match=r"needs a vector_u of shape \(1, 2\); these params hold one of shape \(1, 5\)"
    ):
        apply_fn(params | {"vector_u": jnp.ones((1, 5))}, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"needs a kernel of shape \(4, 2\); these params hold one of shape \(3, 2\)"):
        apply_fn(params, jnp.ones((1, 4)))
