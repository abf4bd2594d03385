"""The functions conv, conv1d, conv2d, conv3d: inputs, padding, groups and dtypes, against the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import ops
from tests.support import reference

FUNCTIONS = {1: jaxconv.conv1d, 2: jaxconv.conv2d, 3: jaxconv.conv3d}
X = jnp.arange(1.0, 7).reshape(1, 6, 1)


def ones(length):
    return jnp.ones((length, 1, 1))


@pytest.mark.parametrize(
    "kernel, options, want",
    [
        (2, {"padding": "same"}, [3, 5, 7, 9, 11, 6]),
        (3, {"padding": "same", "strides": 2}, [6, 12, 11]),
        (3, {"padding": "causal", "strides": 2}, [1, 6, 12]),
        (3, {"padding": "valid"}, [6, 9, 12, 15]),
        (2, {"padding": "causal", "dilation_rate": 2}, [1, 2, 4, 6, 8, 10]),
        (2, {"padding": (3, 0), "dilation_rate": 3, "strides": 2}, [1, 3, 7]),
        (3, {"padding": [(0, 2)], "strides": 3}, [6, 15]),
    ],
)
def test_golden_values(kernel, options, want):
    np.testing.assert_array_equal(jaxconv.conv1d(X, ones(kernel), **options)[0, :, 0], want)


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 16))])
def test_random_options_agree_with_the_definition(seed, x64):
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    data_format = ["channels_last", "channels_first"][seed % 2]
    lengths = rng.integers(5, 9 - rank, rank) if rank < 3 else rng.integers(3, 6, rank)
    kernel_size, strides, rate = rng.integers(1, 4, rank), rng.integers(1, 4, rank), rng.integers(1, 3, rank)
    pairs = [tuple(map(int, p)) for p in rng.integers(2, 6, (rank, 2))]
    padding = [["same", "causal" if rank == 1 else "same", pairs][seed % 3]][0]
    channels, filters = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    kernel = rng.standard_normal((*kernel_size, channels // groups, filters))
    x = rng.standard_normal((2, *lengths, channels))
    x = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    y = FUNCTIONS[rank](x, kernel, strides, padding, data_format, rate)
    geometry = ops.conv_geometry("test", x.shape, kernel.shape, strides, padding, data_format, rate)
    np.testing.assert_allclose(y, reference.evaluate("convolve", x, kernel, geometry), atol=1e-12)
    np.testing.assert_array_equal(jaxconv.conv(x, kernel, strides, padding, data_format, rate), y)


@pytest.mark.few(1)
@pytest.mark.parametrize("rank", FUNCTIONS)
def test_any_number_of_leading_axes(rank):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 3, *(4,) * rank, 2)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((*(3,) * rank, 2, 5)), jnp.float32)
    conv = FUNCTIONS[rank]
    y = conv(x, kernel, padding="same")
    assert y.shape == (2, 3, *(4,) * rank, 5)
    np.testing.assert_allclose(y[1], conv(x[1], kernel, padding="same"), atol=1e-5)
    np.testing.assert_allclose(y[1, 2], conv(x[1, 2], kernel, padding="same"), atol=1e-5)
    assert conv(x[:, :0], kernel, padding="same").shape == (2, 0, *(4,) * rank, 5)


def test_leading_axes_in_channels_first():
    x = jnp.ones((2, 3, 4, 7))
    assert jaxconv.conv1d(x, jnp.ones((3, 4, 5)), data_format="channels_first").shape == (2, 3, 5, 5)
    assert jaxconv.conv1d(x[0, 0], jnp.ones((3, 4, 5)), data_format="channels_first").shape == (5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_causal_padding_sees_no_future(data_format):
    x = jax.random.normal(jax.random.key(0), (1, 9, 9))  # time and channels of one length: both formats accept it
    kernel = jax.random.normal(jax.random.key(1), (3, 9, 4))
    for strides, rate in [(1, 1), (2, 1), (1, 2), (2, 2)]:
        jacobian = jax.jacobian(lambda x: jaxconv.conv1d(x, kernel, strides, "causal", data_format, rate))(x)  # noqa: B023
        time = (1, 4) if data_format == "channels_last" else (2, 5)
        seen = np.abs(np.moveaxis(np.asarray(jacobian), time, (0, 1))).sum(axis=(2, 3, 4, 5))
        for output, step in itertools.product(*map(range, seen.shape)):
            reach = [output * strides - rate * tap for tap in range(3)]
            assert (seen[output, step] > 0) == (step in reach)


def test_groups_are_inferred_and_contiguous():
    x = jax.random.normal(jax.random.key(0), (1, 8, 6))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 9))
    y = jaxconv.conv1d(x, kernel)
    for group in range(3):
        one = jaxconv.conv1d(x[..., 2 * group : 2 * group + 2], kernel[..., 3 * group : 3 * group + 3])
        np.testing.assert_allclose(y[..., 3 * group : 3 * group + 3], one, atol=1e-5)


@pytest.mark.parametrize(
    "x, kernel, result",
    [
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("int32", "float32", "float32"),
        ("bool", "float32", "float32"),
        ("float32", "int32", "float32"),
        ("int8", "int32", "int32"),
        ("float32", "complex64", "complex64"),
    ],
)
def test_the_kernel_decides_the_type(x, kernel, result):
    assert jaxconv.conv1d(X.astype(x), ones(2).astype(kernel)).dtype == jnp.dtype(result)


def test_an_integer_kernel_does_not_truncate_a_float_input():
    np.testing.assert_allclose(jaxconv.conv1d(X + 0.5, ones(2).astype(int))[0, :, 0], [4, 6, 8, 10, 12])


def test_a_wider_result_can_be_requested():
    y = jaxconv.conv1d(X.astype(jnp.bfloat16), ones(2).astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    assert y.dtype == jnp.float32


@pytest.mark.parametrize(
    "kernel, wanted, error, message",
    [
        (jnp.float32, jnp.int32, TypeError, "int32 .* float32 kernel"),
        (jnp.complex64, jnp.float32, TypeError, "float32 .* complex64 kernel"),
        (jnp.float32, jnp.complex64, TypeError, "complex64 cannot hold"),
        (jnp.float32, jnp.float64, ValueError, "float64"),
    ],
)
def test_a_result_dtype_that_would_lose_information_is_refused(kernel, wanted, error, message):
    with pytest.raises(error, match=message):
        jaxconv.conv1d(X, ones(2).astype(kernel), preferred_element_type=wanted)


def test_integers_may_be_summed_in_floats():
    y = jaxconv.conv1d(X.astype(jnp.int8), ones(2).astype(jnp.int8), preferred_element_type=jnp.float32)
    assert y.dtype == jnp.float32


def test_lists_and_numpy_arrays_are_accepted():
    np.testing.assert_array_equal(jaxconv.conv1d([[1.0], [2.0]], np.ones((2, 1, 1), "f4")), [[3.0]])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: jaxconv.conv1d(X, ones(2), data_format="NHWC"), ValueError, "unknown data_format 'NHWC'"),
        (lambda: jaxconv.conv1d(X, ones(2), padding="smae"), ValueError, "did you mean 'same'"),
        (lambda: jaxconv.conv1d(X, ones(7)), ValueError, "effective window 7 .* the shortest valid input is 7"),
        (lambda: jaxconv.conv1d(X, ones(2), strides=0), ValueError, "strides=0"),
        (lambda: jaxconv.conv1d(X, ones(2), dilation_rate=-1), ValueError, "dilation_rate=-1"),
        (lambda: jaxconv.conv1d(X, ones(0)), ValueError, "is empty; every size must be at least 1"),
        (lambda: jaxconv.conv2d(X, ones(2)), ValueError, "kernel of shape .* has rank 3; this needs rank 4"),
        (lambda: jaxconv.conv1d(X[0, 0], ones(2)), ValueError, "input of shape .* has rank 1; this needs at least 2"),
        (lambda: jaxconv.conv(X, jnp.ones((2, 2))), ValueError, "rank 2; this needs rank 3, 4 or 5"),
        (lambda: jaxconv.conv1d(X, jnp.ones((2, 2, 1))), ValueError, "input has 1 channels and the kernel 2"),
        (
            lambda: jaxconv.conv1d(jnp.ones((1, 6, 4)), jnp.ones((2, 2, 3))),
            ValueError,
            "make 2 groups, which do not divide the kernel's 3 filters",
        ),
        (lambda: jaxconv.conv1d(X.astype(complex), ones(2)), TypeError, "input is complex .* give a complex kernel"),
        (lambda: jaxconv.conv2d(jnp.ones((5, 5, 1)), jnp.ones((2, 2, 1, 1)), padding="causal"), ValueError, "'causal'"),
    ],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_default_data_format_is_the_configured_one():
    x = jnp.ones((1, 4, 7))
    try:
        jaxconv.set_image_data_format("channels_first")
        assert jaxconv.conv1d(x, jnp.ones((3, 4, 2))).shape == (1, 2, 5)
    finally:
        jaxconv.set_image_data_format("channels_last")
    assert jaxconv.conv1d(x, jnp.ones((3, 7, 2))).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda x: jaxconv.conv1d(x), r"conv1d: .*'kernel'"),
        (lambda x: jaxconv.depthwise_conv2d(x, x, stride=2), r"depthwise_conv2d: .*'stride'"),
        (lambda x: jaxconv.conv_transpose(x, *[x] * 12), "conv_transpose: too many"),
    ],
)
def test_a_wrong_call_names_the_function(call, facts):
    with pytest.raises(TypeError, match=facts):
        call(jnp.ones((1, 4, 2)))


@pytest.mark.parametrize(
    ("function", "kernel"),
    [("conv2d", (3, 3, 5, 4)), ("depthwise_conv2d", (3, 3, 5, 2)), ("conv_transpose", (3, 3, 4, 5))],
)
def test_an_input_in_the_other_data_format_is_named(function, kernel):
    compute, kernel = getattr(jaxconv, function), jnp.ones(kernel)
    strides = {"strides": 1} if function == "conv_transpose" else {}
    for given, other, shape in (
        ("channels_last", "channels_first", (2, 5, 8, 7)),
        ("channels_first", "channels_last", (2, 8, 7, 5)),
    ):
        with pytest.raises(ValueError, match=f"data_format='{other}' it would have 5$"):
            compute(jnp.ones(shape), kernel, data_format=given, **strides)
        with pytest.raises(ValueError, match="channels") as neither:
            compute(jnp.ones((2, 6, 8, 7)), kernel, data_format=given, **strides)
        assert "data_format" not in str(neither.value)
