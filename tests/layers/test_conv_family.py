"""Transposed, depthwise, separable and locally connected convolutions, and the options that all convolutions share."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.constraints import MaxNorm

FIRST, LAST = "channels_first", "channels_last"
RANKS = (1, 2, 3)


def function(name, rank):
    return getattr(jc, name.replace("Nd", f"{rank}d"))


def arrays(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def scatter(x, kernel, strides, rate, groups):
    """Return the full transposed convolution, channels last, in float64 by its definition: steps add kernels."""
    rank = x.ndim - 2
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(x.shape[1:], strides, kernel.shape, rate, strict=False)]
    width, channels = kernel.shape[-2], kernel.shape[-1] // groups
    out = np.zeros((x.shape[0], *full, width * groups))
    for place in itertools.product(*map(range, x.shape[1:-1])):
        for tap in itertools.product(*map(range, kernel.shape[:rank])):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, rate, strict=True))
            for g in range(groups):
                one = x[(slice(None), *place)][:, g * channels : (g + 1) * channels]
                part = kernel[tap][:, g * channels : (g + 1) * channels]
                out[(slice(None), *at)][:, g * width : (g + 1) * width] += one @ part.T
    return out


def crop(full, lengths, before):
    """Cut places off, or append zeros, to get the lengths that are wanted."""
    for axis, (length, start) in enumerate(zip(lengths, before, strict=True), 1):
        full = np.concatenate([full, np.zeros([length if a == axis else n for a, n in enumerate(full.shape)])], axis)
        full = np.take(full, range(start, start + length), axis)
    return full


@pytest.mark.few(3)
@pytest.mark.parametrize("seed", range(24))
def test_transposed_convolutions_scatter_and_crop(seed, x64):
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    strides, rate, taps = ([int(v) for v in rng.integers(1, 4, rank)] for _ in range(3))
    lengths, padding = [int(v) for v in rng.integers(2, 5 - (rank == 3), rank)], ["valid", "same"][seed % 2]
    more = None if rng.integers(2) else [int(rng.integers(s)) for s in strides]
    channels, filters = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    x, kernel = arrays(rng, (2, *lengths, channels), (*taps, filters // groups, channels))
    full = scatter(x, kernel, strides, rate, groups)
    out, before = [], []
    for n, s, k, d, m in zip(lengths, strides, taps, rate, more or [None] * rank, strict=True):
        extent = (k - 1) * d + 1
        if padding == "valid":
            out.append((n - 1) * s + (max(extent, s) if m is None else extent + m))
            before.append(0)
        else:
            out.append(n * s if m is None else (n - 1) * s + extent % 2 + m)
            before.append(max((n - 1) * s + extent - out[-1], 0) // 2)
    want = crop(full, out, before)
    got = function("convNd_transpose", rank)(x, kernel, strides, padding, more, LAST, rate, groups=groups)
    np.testing.assert_allclose(got, want, atol=1e-12)
    first = jc.conv_transpose(np.moveaxis(x, -1, 1), kernel, strides, padding, more, FIRST, rate, groups=groups)
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), want, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same", [(1, 2)]])
def test_the_transpose_is_the_gradient_of_the_convolution(padding, x64):
    rng = np.random.default_rng(0)
    kernel, x = arrays(rng, (3, 2, 4), (2, 9, 2))
    y, vjp = jax.vjp(lambda x: jc.conv1d(x, kernel, 2, padding), x)
    back = jc.conv1d_transpose(y, kernel, 2, padding, output_padding=None if padding == "valid" else 0)
    np.testing.assert_allclose(back, vjp(y)[0][:, : back.shape[1]], atol=1e-12)


def test_lengths_of_transposed_convolutions_are_those_of_the_table():
    def length(padding, more, n=5, k=3, s=2):
        return jc.Conv1DTranspose(1, k, s, padding, more).output_shape((1, n, 1))[1]

    assert [length("same", more) for more in (None, 0, 1)] == [10, 9, 10]
    assert [length("valid", more) for more in (None, 0, 1)] == [11, 11, 12]
    assert length([(1, 2)], 1) == 9


@pytest.mark.parametrize("rank", RANKS)
def test_depthwise_equals_one_convolution_a_channel(rank, x64):
    x, kernel = arrays(np.random.default_rng(rank), (2, *(5,) * rank, 3), (*(3,) * rank, 3, 2))
    got = function("depthwise_convNd", rank)(x, kernel, 2, "same", LAST, 2)
    for c, m in itertools.product(range(3), range(2)):
        one = function("convNd", rank)(x[..., c : c + 1], kernel[..., c : c + 1, m : m + 1], 2, "same", LAST, 2)
        np.testing.assert_allclose(got[..., 2 * c + m], one[..., 0], atol=1e-12)


@pytest.mark.parametrize("rank", RANKS)
def test_separable_is_depthwise_then_pointwise(rank, x64):
    x, first, second = arrays(
        np.random.default_rng(rank), (2, *(5,) * rank, 3), (*(3,) * rank, 3, 2), (*(1,) * rank, 6, 4)
    )
    got = function("separable_convNd", rank)(x, first, second, 2, "same")
    want = np.einsum("...c,cf->...f", jc.depthwise_conv(x, first, 2, "same"), second.reshape(6, 4))
    np.testing.assert_allclose(got, want, atol=1e-12)
    moved = jc.separable_conv(np.moveaxis(x, -1, 1), first, second, 2, "same", FIRST)
    np.testing.assert_allclose(np.moveaxis(moved, 1, -1), want, atol=1e-12)


@pytest.mark.few(2)
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("padding, strides", [("valid", 2), ("same", 1)])
def test_locally_connected_with_one_kernel_everywhere_is_a_convolution(rank, padding, strides):
    layer = getattr(jc, f"LocallyConnected{rank}D")(4, 2, strides, padding)
    shape = (2, *(4,) * rank, 3)
    params, apply_fn = layer.init(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (*(2,) * rank, 3, 4))
    same = {"kernel": jnp.broadcast_to(kernel.reshape(1, -1, 4), params["kernel"].shape), "bias": params["bias"] + 1}
    x = jax.random.normal(jax.random.key(2), shape)
    np.testing.assert_allclose(apply_fn(same, x), jc.conv(x, kernel, strides, padding) + 1, atol=1e-5)


def test_locally_connected_uses_a_separate_kernel_at_each_position():
    _, apply_fn = jc.LocallyConnected1D(1, 2, use_bias=False).init(jax.random.key(0), (1, 4, 1))
    x = jnp.array([[[1.0], [2.0], [3.0], [4.0]]])
    kernel = jnp.array([[[1.0], [0.0]], [[0.0], [1.0]], [[1.0], [1.0]]])
    np.testing.assert_array_equal(apply_fn({"kernel": kernel}, x)[0, :, 0], [1, 3, 7])


@pytest.mark.parametrize("mode, numpy_mode", [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@pytest.mark.parametrize("rank", RANKS)
def test_padding_modes_are_those_of_numpy(rank, mode, numpy_mode, x64):
    x, kernel = arrays(np.random.default_rng(0), (2, *(4,) * rank, 2), (*(3,) * rank, 2, 3))
    padded = np.pad(x, [(0, 0), *[(1, 1)] * rank, (0, 0)], mode=numpy_mode)
    got = jc.conv(x, kernel, padding="same", padding_mode=mode)
    np.testing.assert_allclose(got, jc.conv(padded, kernel), atol=1e-12)
    layer = getattr(jc, f"Conv{rank}D")(3, 3, padding="same", padding_mode=mode, use_bias=False, dtype="float64")
    np.testing.assert_allclose(layer.apply_fn({"kernel": jnp.asarray(kernel)}, x), got, atol=1e-12)


@pytest.mark.parametrize(
    "layer", [jc.Conv2D(2, 3, padding=("causal", "same")), jc.DepthwiseConv2D(3, padding=("causal", "same"))]
)
def test_one_axis_can_be_causal(layer):
    x = jax.random.normal(jax.random.key(0), (1, 5, 5, 2))
    params, apply_fn = layer.init(jax.random.key(1), x)
    assert apply_fn(params, x).shape == (1, 5, 5, 2)
    jacobian = jax.jacobian(lambda x: apply_fn(params, x))(x)
    seen = np.abs(np.asarray(jacobian)).sum(axis=(0, 2, 3, 4, 6, 7))  # output row, input row
    assert not np.triu(seen, 1).any() and np.tril(seen).any()


def test_a_mixed_padding_is_one_rule_for_each_axis():
    x, kernel = jnp.ones((1, 6, 6, 1)), jnp.ones((3, 3, 1, 1))
    mixed = jc.conv2d(x, kernel, padding=("valid", (2, 0)))
    np.testing.assert_array_equal(mixed, jc.conv2d(x, kernel, padding=((0, 0), (2, 0))))
    assert jc.Conv2D(1, 3, padding=("same", "SAME")) == jc.Conv2D(1, 3, padding="same")


@pytest.mark.parametrize("layer", [jc.Conv1D, jc.Conv1DTranspose])
def test_one_switch_allows_strides_with_dilation(layer):
    with pytest.raises(ValueError, match="strides_with_dilation=True"):
        layer(2, 3, strides=2, dilation_rate=2)
    allowed = layer(2, 3, strides=2, dilation_rate=2, strides_with_dilation=True)
    params, apply_fn = allowed.init(jax.random.key(0), (1, 9, 1))
    assert apply_fn(params, jnp.ones((1, 9, 1))).shape == allowed.output_shape((1, 9, 1))
    assert allowed.get_config()["strides_with_dilation"] and "strides_with_dilation" not in layer(2, 3).get_config()


def test_filter_axes_of_each_family():
    constraint = MaxNorm(1.0, axis="filter")
    assert jc.Conv2DTranspose(4, 3, kernel_constraint=constraint).kernel_constraint.axis == (0, 1, 3)
    assert jc.DepthwiseConv2D(3, depthwise_constraint=constraint).depthwise_constraint.axis == (0, 1)
    separable = jc.SeparableConv1D(4, 3, depthwise_constraint=constraint, pointwise_constraint=constraint)
    assert (separable.depthwise_constraint.axis, separable.pointwise_constraint.axis) == ((0,), (0, 1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jc.Conv1DTranspose(2, 3, 2, output_padding=2), r"output_padding=\(2,\) is not below strides=\(2,\)"),
        (lambda: jc.Conv1DTranspose(2, 3, 2, output_padding=-1), "output_padding=-1 is not valid"),
        (lambda: jc.Conv1DTranspose(2, 3, padding="causal"), "unknown padding 'causal'"),
        (lambda: jc.Conv2DTranspose(3, 3, groups=2), "filters=3 do not divide into groups=2"),
        (lambda: jc.Conv1DTranspose(2, 3, groups=2).init(jax.random.key(0), (1, 5, 3)), "3 channels, which do not"),
        (lambda: jc.Conv1DTranspose(2, 1, padding=[(3, 3)]).output_shape((1, 6, 1)), "shortest valid input is 7"),
        (lambda: jc.DepthwiseConv1D(3, depth_multiplier=0), "depth_multiplier=0 is not positive"),
        (lambda: jc.SeparableConv2D(4, 3, depth_multiplier=-1), "depth_multiplier=-1 is not positive"),
        (lambda: jc.DepthwiseConv1D(3).output_shape((1, 2, 4)), "the shortest valid input is 3"),
        (lambda: jc.DepthwiseConv1D(3, groups=2), "unknown argument 'groups'"),
        (
            lambda: jc.LocallyConnected1D(2, 3).init(jax.random.key(0), (1, None, 4)),
            "None",
        ),
        (lambda: jc.Conv1D(2, 3, padding="same", padding_mode="mirror"), "unknown padding_mode 'mirror'"),
        (
            lambda: jc.Conv1D(2, 9, padding="same", padding_mode="reflect").output_shape((1, 4, 1)),
            r"length 4 is too short for padding mode .reflect. by 4; the shortest valid input is 5",
        ),
        (lambda: jc.Conv2D(2, 3, padding=("causal", "sme")), "did you mean 'same'"),
        (lambda: jc.conv1d_transpose(jnp.ones((1, 4, 3)), jnp.ones((2, 5, 4))), "3 channels and the kernel takes 4"),
        (
            lambda: jc.conv1d_transpose(jnp.ones((1, 4, 3)), jnp.ones((2, 5, 3)), groups=2),
            "3 input channels are not a multiple of groups=2",
        ),
        (lambda: jc.depthwise_conv1d(jnp.ones((1, 4, 3)), jnp.ones((2, 4, 1))), "3 channels and the kernel 4"),
        (
            lambda: jc.separable_conv1d(jnp.ones((1, 4, 3)), jnp.ones((2, 3, 2)), jnp.ones((1, 3, 4))),
            "does not fit the depthwise kernel",
        ),
    ],
)
def test_invalid_options_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
