"""Max and average pooling, windowed and global: values by hand, counts at the edges, forms and errors."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

RAMP = jnp.array([3.0, 1, 4, 1, 5, 9]).reshape(1, 6, 1)


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "layer, want",
    [
        (jc.MaxPooling1D(), [3, 4, 9]),
        (jc.MaxPooling1D(3, 1), [4, 4, 5, 9]),
        (jc.MaxPooling1D(3, 2, "same"), [4, 5, 9]),
        (jc.MaxPooling1D(4, 4, "SAME"), [4, 9]),
        (jc.AveragePooling1D(), [2, 2.5, 7]),
        (jc.AveragePooling1D(3, 3), [8 / 3, 5]),
        (jc.AveragePooling1D(3, 1, "same"), [2, 8 / 3, 2, 10 / 3, 5, 7]),  # two values at both ends
        (jc.AveragePooling1D(4, 4, "same"), [8 / 3, 5]),  # one zero before, one after, neither counted
        (jc.MaxPooling1D((2,), np.int64(4)), [3, 9]),
    ],
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_values(layer, want, data_format):
    x = RAMP if data_format == "channels_last" else RAMP.reshape(1, 1, 6)
    layer = dataclasses.replace(layer, data_format=data_format)
    np.testing.assert_allclose(layer.apply_fn({}, x).ravel(), want, rtol=1e-6)  # float32


def test_the_largest_of_negative_numbers_is_not_the_padding():
    y = jc.MaxPooling2D(3, 2, "same").apply_fn({}, jnp.full((1, 4, 4, 1), -7.0))
    np.testing.assert_array_equal(y, -7)


def test_an_average_at_the_corners_counts_only_real_values():
    y = jc.AveragePooling2D(3, 1, "same").apply_fn({}, jnp.ones((1, 3, 3, 1)).at[0, 1, 1, 0].set(10.0))
    np.testing.assert_allclose(
        y[0, :, :, 0], [[13 / 4, 15 / 6, 13 / 4], [15 / 6, 2, 15 / 6], [13 / 4, 15 / 6, 13 / 4]], rtol=1e-6
    )


@pytest.mark.few(1)
@pytest.mark.parametrize("strides, padding", [(1, "same"), (2, "same"), (2, "valid"), ((1, 2), "same")])
def test_an_average_with_a_mask_along_the_rows_counts_real_values_alone(strides, padding):
    x, rows = jax.random.normal(jax.random.key(0), (2, 5, 5, 2)), np.arange(5) < np.array([[5], [3]])
    layer = jc.AveragePooling2D(2, strides, padding)
    y, effects = layer.apply_fn.forward({}, x.at[1, 3:].set(jnp.nan), mask=rows)
    np.testing.assert_allclose(y[:1], layer.apply_fn({}, x[:1]), rtol=1e-5, atol=1e-6)
    alone = layer.apply_fn({}, x[1:, :3])
    assert effects.mask.sum(1).tolist() == [y.shape[1], alone.shape[1]]
    np.testing.assert_allclose(y[1:, : alone.shape[1]], alone, rtol=1e-5, atol=1e-6)  # float32, four terms


def test_the_counts_of_a_large_average_are_no_constant_that_xla_folds():
    layer, x = jc.AveragePooling2D(3, 1, "same"), jax.ShapeDtypeStruct((1, 400, 600, 1), jnp.float32)
    program = jax.jit(lambda x: layer.apply_fn({}, x)).lower(x).compile().as_text()
    sizes = [re.findall(r"\d+", dims) for dims in re.findall(r"\w+\[([\d,]*)\]\S* constant\(", program)]
    assert sizes and max(np.prod([int(n) for n in dims]) for dims in sizes) <= 600


def test_the_gradient_goes_to_the_largest():
    grad = jax.grad(lambda x: jc.MaxPooling1D(2).apply_fn({}, x).sum())(RAMP)
    np.testing.assert_array_equal(grad.ravel(), [1, 0, 1, 0, 0, 1])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(key, rank, data_format, keepdims):
    lengths = (4, 3, 2)[:rank]
    x = jax.random.normal(key, (2, *lengths, 5))
    axes = tuple(range(1, rank + 1))
    for kind, reduce in (("Max", np.max), ("Average", np.mean)):
        layer = getattr(jc, f"Global{kind}Pooling{rank}D")(data_format, keepdims)
        given = x if data_format == "channels_last" else jnp.moveaxis(x, -1, 1)
        y = layer.apply_fn({}, given)
        want = reduce(np.asarray(x), axes, keepdims=keepdims)
        want = np.moveaxis(want, -1, 1) if keepdims and data_format == "channels_first" else want
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)  # float32, up to 24 terms of order 1


@pytest.mark.parametrize("layer", [jc.AveragePooling1D(4), jc.GlobalAveragePooling1D()])
def test_an_average_of_large_half_precision_numbers_does_not_overflow(layer):
    layer = dataclasses.replace(layer, dtype="float16")
    y = layer.apply_fn({}, jnp.full((1, 4, 1), 30000.0, jnp.float16))  # the sum is 120000, float16 ends at 65504
    assert y.dtype == jnp.float16
    np.testing.assert_array_equal(y, jnp.full(y.shape, 30000.0, jnp.float16))


@pytest.mark.parametrize("kind", [jc.MaxPooling1D, jc.AveragePooling1D])
@pytest.mark.parametrize(
    "options, kind_of_error, message",
    [
        ({"padding": "causal"}, ValueError, "padding='causal' is not defined for pooling; expected 'valid', 'same'"),
        ({"padding": (1, 1)}, ValueError, r"padding=\(1, 1\) is not defined for pooling"),
        ({"padding": None}, ValueError, "padding=None is not defined"),
        ({"pool_size": 0}, ValueError, "pool_size=0 is not valid"),
        ({"pool_size": None}, ValueError, "pool_size=None does not consist of integers"),
        ({"pool_size": 2.5}, ValueError, "pool_size=2.5 does not consist of integers"),
        ({"strides": (1, 2)}, ValueError, r"strides=\(1, 2\) is not valid"),
        ({"strides": "2"}, TypeError, "strides is the string '2'"),
        ({"data_format": "NCW"}, ValueError, "unknown data_format 'NCW'"),
        ({"size": 2}, ValueError, "unknown argument 'size' = 2; did you mean"),
    ],
)
def test_options_that_are_not_valid(kind, options, kind_of_error, message):
    with pytest.raises(kind_of_error, match=f"{kind.__name__}: {message}"):
        kind(**options)


def test_inputs_that_do_not_fit(key):
    with pytest.raises(ValueError, match=r"length 3 is shorter .*size 4.* shortest valid input is 4"):
        jc.MaxPooling1D(4).init(key, (None, 3, 2))
    with pytest.raises(ValueError, match=r"rank 3; this layer needs rank 4: \(batch, rows, columns, channels\)"):
        jc.AveragePooling2D(2).init(key, (None, 3, 2))
    with pytest.raises(ValueError, match=r"needs rank 4: \(batch, channels, rows, columns\)"):
        jc.GlobalMaxPooling2D("channels_first").init(key, (None, 3, 2))
    with pytest.raises(ValueError, match=r"length 0 .*shortest valid input is 1"):
        jc.GlobalAveragePooling1D().init(key, (None, 0, 2))


@pytest.mark.few(1)
@pytest.mark.parametrize("layer", [jc.Conv1D(6, 3, groups=3), jc.DepthwiseConv1D(3)])
def test_the_gradient_of_a_global_maximum_reaches_the_largest_value(layer):
    """Compiled with the layer before it, which XLA computes once for the maximum and again to find its place."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 12, 3)).astype("float32")
    params, apply_fn = jc.Sequential([layer, jc.GlobalMaxPooling1D()]).init(jax.random.key(0), x)

    def loss(params, x):
        y = apply_fn(params, x)
        return jnp.sum(jnp.sin(y)), y

    ((name, weights),) = params.items()
    kernel = np.asarray(weights["kernel"], "float64").reshape(3, -1)  # tap, filter
    windows = np.lib.stride_tricks.sliding_window_view(x.astype("float64"), 3, 1)  # batch, step, channel, tap
    windows = windows.repeat(kernel.shape[1] // 3, 2)
    y = np.einsum("nsct,tc->nsc", windows, kernel)
    largest = np.take_along_axis(windows, y.argmax(1)[:, None, :, None], 1)[:, 0]
    expected = np.einsum("nc,nct->tc", np.cos(y.max(1)), largest)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d")))
    for placed in (x, sharded):
        _, (found, of_x) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, placed)
        np.testing.assert_allclose(found[name]["kernel"].reshape(expected.shape), expected, rtol=1e-4)
        # y is linear in x
        np.testing.assert_allclose(np.vdot(of_x, x), np.sum(np.cos(y.max(1)) * y.max(1)), rtol=1e-4)


@pytest.mark.few(1)
@pytest.mark.parametrize("keepdims", [False, True])
def test_equal_largest_values_share_the_gradient_of_a_global_maximum(keepdims):
    x = jnp.array([[2.0, 5, 5, 1], [3, 3, 3, 3]]).reshape(2, 2, 2, 1)
    layer = jc.GlobalMaxPooling2D(keepdims=keepdims).apply_fn
    gradient = jax.grad(lambda x: jnp.sum(layer({}, x)))(x)
    assert gradient.ravel().tolist() == [0, 0.5, 0.5, 0, *[0.25] * 4]
    assert not jax.hessian(lambda x: jnp.sum(layer({}, x)))(x).any()
