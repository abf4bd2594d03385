"""``jaxconv.conv_general_dilated`` replaces that of ``jax.lax``: same values, derivatives, dtypes and errors."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxconv
from jaxconv.geometry import Geometry
from tests.support import reference


def draw(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    geometry, outer = reference.random_geometry(rng)
    x, w = (jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer)), dtype) for v in "xw")
    options = {
        "window_strides": geometry.strides,
        "padding": geometry.padding,
        "lhs_dilation": geometry.lhs_dilation,
        "rhs_dilation": geometry.rhs_dilation,
        "dimension_numbers": lax.ConvDimensionNumbers(geometry.x_dims, geometry.w_dims, geometry.y_dims),
        "feature_group_count": geometry.groups,
    }
    return x, w, options


def all_orders(conv, x, w, options):
    """Return the value, both gradients, and the directional derivative of those along the operands themselves."""

    def gradients(x, w):
        y, vjp = jax.vjp(lambda x, w: conv(x, w, **options), x, w)
        return y, *vjp(y)

    return jax.jit(lambda x, w: jax.jvp(gradients, (x, w), (x, w)))(x, w)


def all_orders_by_definition(seed):
    """Return what :func:`all_orders` should for the draw of a seed, from float64 numpy.

    XLA cannot be the oracle: it reads beyond some operands in float32, and cannot compile seed 278 in float64. The maps
    are linear in each operand, so along the operands themselves the value grows by twice, its gradients by three times
    what they are.
    """
    geometry, _ = reference.random_geometry(np.random.default_rng(seed))
    x, w, _ = draw(seed)
    y = reference.evaluate("convolve", x, w, geometry)
    gradients = reference.evaluate("transpose", y, w, geometry), reference.evaluate("correlate", x, y, geometry)
    values = (y, *gradients), (2 * y, *(3 * gradient for gradient in gradients))
    return jax.tree.map(lambda v: v.astype("float32"), values)


@pytest.mark.parametrize("seed", [0, 2, 5, 13])
def test_values_and_derivatives_are_those_of_the_definition_on_random_options(seed):
    x, w, options = draw(seed)
    got, want = all_orders(jaxconv.conv_general_dilated, x, w, options), all_orders_by_definition(seed)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale)  # sums of float32 in another order


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(16), *range(100, 300)])
def test_values_and_derivatives_are_those_of_the_definition_on_many_options(seed):
    test_values_and_derivatives_are_those_of_the_definition_on_random_options(seed)


@pytest.mark.parametrize("seed", [35, 36, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(35))])
def test_an_axis_cropped_at_the_start_and_padded_at_the_end_is_read_within_its_bounds(seed):
    """XLA's own convolution on CPU adds what lies behind the operand in memory (jaxlib 0.10.2 and 0.12.0)."""
    rng = np.random.default_rng(seed)
    geometry, (n, c, f) = reference.random_geometry(rng)
    rank = geometry.rank
    lengths = tuple(int(v) for v in rng.integers(5, 8, rank))
    pads = tuple((int(-low), int(high)) for low, high in rng.integers(1, 3, (rank, 2)))
    last, kernel, one = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank)), (1,) * rank
    geometry = Geometry(lengths, (3,) * rank, geometry.strides, pads, one, one, 1, last, kernel, last)
    x, w = (rng.standard_normal(reference.shape(v, geometry, (n, c, f))).astype("f4") for v in "xw")

    def convolve(x, g):
        return jaxconv.conv_general_dilated(
            x, w, g.strides, g.padding, g.lhs_dilation, dimension_numbers=lax.ConvDimensionNumbers(last, kernel, last)
        )

    y = jax.jit(lambda x: convolve(x, geometry))(x)
    np.testing.assert_allclose(y, reference.evaluate("convolve", x, w, geometry), rtol=1e-5, atol=1e-4)
    # the gradient in the input crops what the convolution had padded beyond its kernel
    wide = dataclasses.replace(geometry, padding=((4, 4),) * rank, lhs_dilation=(2,) * rank)
    y, vjp = jax.vjp(jax.jit(lambda x: convolve(x, wide)), x)
    np.testing.assert_allclose(vjp(y)[0], reference.evaluate("transpose", y, w, wide), rtol=1e-5, atol=1e-3)


X = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype("f4")
W = np.random.default_rng(1).standard_normal((6, 2, 3, 3)).astype("f4")


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "SAME", "feature_group_count": 2},
        {"padding": "VALID", "feature_group_count": 2, "rhs_dilation": [2, 1]},
        {"padding": "SAME_LOWER", "feature_group_count": 2, "window_strides": [2, 3]},
        {"padding": [(1, 0), (0, 2)], "feature_group_count": 2, "precision": "highest"},
        {"padding": "SAME", "feature_group_count": 2, "precision": (lax.Precision.HIGHEST, lax.Precision.DEFAULT)},
        {"padding": "SAME", "feature_group_count": 2, "precision": ["highest", "default"]},
        {"padding": "SAME", "feature_group_count": 2, "preferred_element_type": jnp.float32},
        {"padding": np.ones((2, 2), int), "feature_group_count": 2, "rhs_dilation": np.array([2, 1])},
        {"padding": "VALID", "feature_group_count": 2, "window_strides": np.array([2, 1])},
    ],
)
def test_every_form_of_the_options_is_accepted(options):
    options = {"window_strides": (1, 1)} | options
    np.testing.assert_allclose(
        jaxconv.conv_general_dilated(X, W, **options), lax.conv_general_dilated(X, W, **options), atol=1e-5
    )


def test_batch_groups_are_passed_to_lax():
    x, w = jnp.ones((4, 3, 5)), jnp.ones((2, 3, 2))
    options = {"window_strides": (1,), "padding": "VALID", "batch_group_count": 2}
    np.testing.assert_array_equal(
        jaxconv.conv_general_dilated(x, w, **options), lax.conv_general_dilated(x, w, **options)
    )


def test_four_spatial_axes_are_passed_to_lax():
    x, w = jnp.ones((1, 1, 3, 3, 3, 3)), jnp.ones((1, 1, 2, 2, 2, 2))
    assert jaxconv.conv_general_dilated(x, w, (1,) * 4, "VALID").shape == (1, 1, 2, 2, 2, 2)


@pytest.mark.parametrize(
    ("operands", "result"),
    [
        *(("int8", result) for result in (None, "int8", "int16", "int32", "bfloat16", "float16", "float32")),
        *((operands, result) for operands in ("uint8", "bool") for result in (None, "float32")),
    ],
)
def test_sums_of_integers_have_the_preferred_element_type_as_in_lax(operands, result):
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-100, 100, shape).astype(operands) for shape in ((1, 4, 9), (4, 2, 3)))
    options = {"window_strides": (1,), "padding": "VALID", "feature_group_count": 2}
    want = lax.conv_general_dilated(x, w, **options, preferred_element_type=result)
    got = jaxconv.conv_general_dilated(x, w, **options, preferred_element_type=result)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype("float32"), want.astype("float32"))


@pytest.mark.few(2)
@pytest.mark.parametrize("weak", [(True, True), (True, False), (False, True), (False, False)])
def test_results_and_gradients_are_weakly_typed_where_those_of_lax_are(weak):
    x, w = (
        jnp.broadcast_to(jnp.asarray(1.0) if is_weak else np.float32(1), shape)
        for is_weak, shape in zip(weak, ((1, 2, 5), (3, 2, 3)), strict=True)
    )
    assert (x.weak_type, w.weak_type) == weak

    def types(conv):
        y, vjp = jax.vjp(lambda x, w: conv(x, w, (1,), "SAME"), x, w)
        return [v.weak_type for v in (y, jax.jit(conv, static_argnums=(2, 3))(x, w, (1,), "SAME"), *vjp(y))]

    assert types(jaxconv.conv_general_dilated) == types(lax.conv_general_dilated)


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("x_shape", "pad", "stretch", "taps"),
    [
        ((2, 0, 3), (2, 2), 1, 1),
        ((2, 0, 3), (2, 2), 2, 1),
        ((2, 0, 3), (-1, 3), 2, 1),
        ((2, 0, 3), (4, 1), 3, 3),
        ((2, 0, 3), (0, 0), 2, 1),
        ((0, 5, 3), (1, 1), 2, 3),
        ((2, 5, 0), (1, 1), 2, 3),
    ],
)
def test_values_and_gradients_of_empty_inputs_are_those_of_lax(x_shape, pad, stretch, taps):
    x, w = np.ones(x_shape, "float32"), np.ones((taps, x_shape[-1], 4), "float32")

    def run(conv):
        y, vjp = jax.vjp(lambda x, w: conv(x, w, (1,), [pad], (stretch,), None, ("NWC", "WIO", "NWC")), x, w)
        return y, *vjp(y)

    try:
        want = run(lax.conv_general_dilated)
    except (TypeError, ValueError) as theirs:
        with pytest.raises(type(theirs)):
            run(jaxconv.conv_general_dilated)
        return
    for one, other in zip(run(jaxconv.conv_general_dilated), want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_numpy_arrays_are_not_placed_on_a_device_before_the_operation():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    w = jax.device_put(W, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        y = jaxconv.conv_general_dilated(X, w, (1, 1), "SAME", feature_group_count=2)
    assert y.shape == (2, 6, 9, 8)


@pytest.mark.parametrize(
    "x, w, options",
    [
        (X, W[:, :1], {"padding": "SAME", "window_strides": (1, 1), "feature_group_count": 2}),
        (X, W, {"padding": "SAME", "window_strides": (1, 1), "lhs_dilation": (2, 2), "feature_group_count": 2}),
        (X, W, {"padding": "CAUSAL", "window_strides": (1, 1), "feature_group_count": 2}),
        (X, W.astype("f2"), {"padding": "SAME", "window_strides": (1, 1), "feature_group_count": 2}),
    ],
)
def test_errors_are_those_of_lax(x, w, options):
    with pytest.raises(Exception) as theirs:
        lax.conv_general_dilated(x, w, **options)
    with pytest.raises(theirs.type) as ours:
        jaxconv.conv_general_dilated(x, w, **options)
    assert str(ours.value) == str(theirs.value)


def test_symbolic_spatial_lengths_export():
    b, n = jax.export.symbolic_shape("b, n", constraints=["n >= 3"])
    conv = jax.jit(lambda x, w: jaxconv.conv_general_dilated(x, w, (1,), "SAME"))
    args = jax.ShapeDtypeStruct((b, 2, n), jnp.float32), jax.ShapeDtypeStruct((3, 2, 3), jnp.float32)
    exported = jax.export.export(conv)(*args)
    assert exported.call(jnp.ones((2, 2, 7)), jnp.ones((3, 2, 3))).shape == (2, 3, 7)


def test_explicit_sharding_is_kept():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    x = jax.device_put(jnp.ones((8, 2, 6)), place)
    y = jaxconv.conv_general_dilated(x, jnp.ones((3, 2, 3)), (1,), "SAME")
    assert jax.typeof(y).sharding.spec[0] == "d"


@pytest.mark.parametrize("groups, strides, padding", [(1, (1, 1), "SAME"), (2, (2, 1), "VALID"), (4, (1, 2), "SAME")])
def test_a_flax_layer_computes_the_same_with_it(groups, strides, padding):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 9, 4)), jnp.float32)
    options = {
        "features": 8,
        "kernel_size": (3, 3),
        "strides": strides,
        "padding": padding,
        "feature_group_count": groups,
    }
    theirs, ours = nn.Conv(**options), nn.Conv(**options, conv_general_dilated=jaxconv.conv_general_dilated)
    variables = theirs.init(jax.random.key(0), x)

    def run(module):
        return jax.jit(jax.value_and_grad(lambda v, x: jnp.sum(jnp.sin(module.apply(v, x))), (0, 1)))(variables, x)

    for one, other in zip(jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
