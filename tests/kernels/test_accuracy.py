"""The default lowerings on data of wide range: the error of each result, and which results a NaN reaches."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.kernels.lowerings import winograd
from jaxconv.kernels.lowerings.winograd_algorithms import FOURS, PAIRS

# x, w, groups: kernels for which products of spectra would be faster
LONG = {
    "1-D, depthwise": ((2, 700, 3), (513, 1, 3), 3),
    "2-D, depthwise": ((1, 40, 40, 2), (31, 31, 1, 2), 2),
    "2-D, one channel": ((1, 60, 60, 1), (40, 40, 1, 1), 1),
}
EPS = float(np.finfo(np.float32).eps)


def all_maps(x, w, dy, groups):
    """Return y, dx and dw by the default lowerings."""
    axes = "DHW"[5 - x.ndim :]
    dims = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def conv(x, w):
        return jaxconv.conv_general_dilated(x, w, (1,) * len(axes), "SAME", None, None, dims, groups)

    y, vjp = jax.vjp(conv, x, w)
    return y, *vjp(dy)


def direct_sums(x, w, dy):
    """Return y, dx and dw of a depthwise convolution in float64 by their definitions, and the numbers of terms."""
    x, w, dy = (v.astype(np.float64) for v in (x, w, dy))
    axes = tuple(range(1, x.ndim - 1))
    k = w.shape[:-2]

    def windows(v, mirrored):
        pads = [((n - 1) // 2, n - 1 - (n - 1) // 2) for n in k]
        pads = [(0, 0), *(pair[::-1] if mirrored else pair for pair in pads), (0, 0)]
        return np.lib.stride_tricks.sliding_window_view(np.pad(v, pads), k, axes)  # (n, *y, g, *k)

    places, taps = "abc"[: len(k)], "ijk"[: len(k)]
    y = np.einsum(f"n{places}g{taps},{taps}g->n{places}g", windows(x, False), w[..., 0, :])
    dx = np.einsum(f"n{places}g{taps},{taps}g->n{places}g", windows(dy, True), np.flip(w[..., 0, :], range(len(k))))
    dw = np.einsum(f"n{places}g{taps},n{places}g->{taps}g", windows(x, False), dy)
    return (y, dx, dw[..., None, :]), (math.prod(k), math.prod(k), math.prod(dy.shape[:-1]))


def wide(rng, shape):
    """Draw numbers of both signs from 1e-8 to 1e8, equally many of each magnitude."""
    return (rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-8, 8, shape)).astype(np.float32)


@pytest.mark.parametrize("name", LONG)
def test_each_result_of_a_long_kernel_is_as_accurate_as_its_own_direct_sum(name):
    x, w, groups = LONG[name]
    rng = np.random.default_rng(0)
    arrays = [wide(rng, shape) for shape in (x, w, (*x[:-1], w[-1]))]
    wants, counts = direct_sums(*arrays)
    sizes, _ = direct_sums(*map(np.abs, arrays))
    results = jax.jit(all_maps, static_argnums=3)(*arrays, groups)
    for got, want, size, count in zip(results, wants, sizes, counts, strict=True):
        assert np.all(np.abs(np.asarray(got, np.float64) - want) <= count * EPS * size)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_nan_reaches_the_results_of_a_long_kernel_that_its_direct_sum_reaches(name, where):
    x, w, groups = LONG[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in (x, w, (*x[:-1], w[-1]))]
    arrays[where][tuple(n // 2 for n in arrays[where].shape)] = np.nan
    wants, _ = direct_sums(*arrays)
    for got, want in zip(jax.jit(all_maps, static_argnums=3)(*arrays, groups), wants, strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


def test_a_spike_changes_no_result_far_away():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 8192, 1)).astype(np.float32), rng.standard_normal((513, 1, 1)).astype(np.float32)
    spiked = x.copy()
    spiked[0, 1000] = 1e8
    conv = jax.jit(lambda x: jaxconv.conv1d(x, w, padding="causal"))
    np.testing.assert_array_equal(conv(spiked)[:, 1000 + 513 :], conv(x)[:, 1000 + 513 :])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_value_that_is_not_finite_stays_in_its_group(value, where):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 20, 12), (3, 4, 12), (2, 20, 12))]
    arrays[where][..., 1, 0] = value  # of the first of three groups; of w, the first filter
    for result in jax.jit(all_maps, static_argnums=3)(*arrays, 3):
        assert np.all(np.isfinite(np.asarray(result)[..., 4:]))


def test_a_model_that_diverged_leaves_its_neighbours_in_vmap_alone():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 2, 9, 3), (4, 3, 3, 3)))
    w[1, 0, 0, 0] = np.nan

    def two_layers(x, w):
        return jaxconv.conv1d(jaxconv.conv1d(x, w, padding="same"), w, padding="same")

    y = jax.jit(jax.vmap(two_layers))(x, w)
    assert [bool(np.any(np.isnan(one))) for one in y] == [False, True, False, False]


# length of x, kernel, padding, dilation
IMAGES = [
    ((7, 8), (3, 2), "SAME", 1),
    ((9, 6), (2, 3), "VALID", 1),
    ((11, 12), (3, 3), "SAME", 2),
    ((5, 9), (3, 5), "VALID", 1),
    ((7, 8), (5, 5), "SAME", 1),
    ((8, 12), (3, 3), "SAME", 1),
]


@pytest.mark.few(2)
@pytest.mark.parametrize(("lengths", "kernel", "padding", "dilation"), IMAGES)
def test_fewer_multiplications_keep_what_each_result_reads(lengths, kernel, padding, dilation):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, *lengths, 3), (*kernel, 3, 4)))

    @functools.partial(jax.jit, static_argnums=2)
    def conv(x, w, lowering):
        numbers = ("NHWC", "HWIO", "NHWC")
        options = {"rhs_dilation": (dilation, dilation), "dimension_numbers": numbers, "lowering": lowering}
        return jaxconv.conv_general_dilated(x, w, (1, 1), padding, **options)

    plain = np.asarray(conv(x, w, "winograd"))
    for index in np.ndindex(lengths):
        there = np.zeros((1, *lengths, 3), np.float32)
        there[0, *index] = 1
        reads = np.asarray(conv(there, np.ones_like(w), "xla")) > 0
        poisoned = np.asarray(conv(np.where(there > 0, np.nan, x), w, "winograd"))
        np.testing.assert_array_equal(np.isnan(poisoned), reads)
        # tiles of four are left to XLA then: sums of 18 to 45 products of about 1, in another order
        np.testing.assert_allclose(poisoned[~reads], plain[~reads], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
@pytest.mark.parametrize("name", ["convolve", "transpose"])
def test_a_value_that_stands_out_changes_nothing_that_does_not_read_it(name, value):
    rng = np.random.default_rng(0)
    shapes = ((2, 16, 12, 8), (3, 3, 8, 8))
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)

    @jax.jit
    def compute(x):
        with jaxconv.lowering("winograd"):
            y, transposed = jax.vjp(lambda x: jaxconv.conv(x, w, padding="same"), x)
            return y if name == "convolve" else transposed(x)[0]

    plain, sentinel = np.asarray(compute(x)), x.copy()
    sentinel[1, 5, 6] = value  # the outputs next to it are in its tiles
    apart = np.ones(x.shape, bool)
    apart[1, 4:7, 5:8] = False
    got = np.asarray(compute(sentinel))
    # sums of 72 products of about 1, in two ways; by tiles of four, -1e9 would make errors of 1,000
    np.testing.assert_allclose(got[apart], plain[apart], rtol=1e-5, atol=2e-5)
    assert np.all(np.isnan(got[~apart]) | (np.abs(got[~apart]) > 1e5))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, False),
        (lambda x: x * np.logspace(0, -30, 4, dtype="f4")[:, None, None, None], False),  # images of different scales
        (lambda x: x * np.float32([1, 0, 1, 0])[:, None, None, None], False),
        (lambda x: np.where(np.arange(8) == 0, 1e9 * x, x), True),  # a channel
        (lambda x: _with_entry(x, 1e6), True),
        (lambda x: _with_entry(x, 1e3), False),
        (lambda x: _with_entry(x, np.nan), True),
        (lambda x: _with_entry(x, -np.inf), True),
        (lambda x: _with_entry(0 * x, np.inf), True),
        (lambda x: _with_entry(0 * x, 1.0), False),  # zeros do not count
    ],
)
def test_an_entry_stands_out_among_those_of_its_image(change, expected):
    x = np.random.default_rng(0).standard_normal((4, 16, 12, 8)).astype("f4")
    assert bool(winograd.has_outliers(jnp.asarray(change(x)))) == expected


def _with_entry(x, value):
    x = np.array(x)
    x[1, 5, 6, 3] = value
    return x


def test_fewer_multiplications_are_almost_as_accurate(x64):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 8, 96), (3, 3, 96, 64), (2, 8, 8, 64))]
    with jaxconv.lowering("winograd"):
        results = jax.jit(all_maps, static_argnums=3)(*arrays, 1)
    with jaxconv.lowering("matmul"):
        wants = all_maps(*(v.astype(np.float64) for v in arrays), 1)
    for got, want in zip(results, wants, strict=True):
        error = np.abs(np.asarray(got, np.float64) - np.asarray(want))
        # measured: 1.7 to 2.7 EPS, at most 14; by "matmul" 1.0 to 1.5, at most 10; by "xla_nhwc" 1.0 to 3.0, at most 19
        assert np.sqrt(np.mean(error**2)) < 4 * EPS * np.std(want)
        assert error.max() < 24 * EPS * np.std(want)


# the shape of x, the taps, and the largest errors of an output or input gradient, and of a kernel gradient, relative to
# those of "matmul"; of three taps 3 to 11 and 1.2 to 1.5 were measured, on three axes 10 to 12 and 3; of five taps 1.6
# to 4.5 and 1.7 to 3.3
FIVE_OR_SIX_PRODUCTS = [
    ((4, 16, 16, 24), (3, 3), (14, 2)),
    ((4, 16, 12, 24), (2, 2), (14, 2)),
    ((4, 64, 24), (3,), (8, 2)),
    ((4, 16, 16, 24), (5, 5), (8, 5)),
    ((4, 64, 24), (5,), (4, 3)),
    ((2, 8, 12, 16, 24), (3, 3, 3), (18, 4)),
]


@pytest.mark.few(3)
@pytest.mark.parametrize(("shape", "taps", "factors"), FIVE_OR_SIX_PRODUCTS)
def test_algorithms_of_five_and_six_products_are_almost_as_accurate(x64, shape, taps, factors):
    rng = np.random.default_rng(0)
    shapes = (shape, (*taps, 24, 32), (*shape[:-1], 32))
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def results(lowering, *arrays):
        with jaxconv.lowering(lowering):
            return [np.asarray(v, np.float64) for v in jax.jit(all_maps, static_argnums=3)(*arrays, 1)]

    wants = results("matmul", *(v.astype(np.float64) for v in arrays))
    errors = [
        [np.abs(got - want) for got, want in zip(results(name, *arrays), wants, strict=True)]
        for name in ("winograd", "matmul")
    ]
    for got, direct, factor in zip(*errors, [factors[0], factors[0], factors[1]], strict=True):
        for size in (np.max, lambda error: np.sqrt(np.mean(error**2))):
            assert size(got) < factor * size(direct)


@pytest.mark.parametrize("algorithm", [*PAIRS.values(), *FOURS.values()])
def test_winograds_algorithms_compute_the_outputs_of_a_tile(algorithm):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(len(algorithm.x[0])), rng.standard_normal(len(algorithm.w[0]))
    products = (np.array(algorithm.x) @ x) * (np.array(algorithm.w) @ w)
    np.testing.assert_allclose(np.array(algorithm.y).T @ products, np.correlate(x, w, "valid"), rtol=1e-13, atol=1e-13)
    assert len(algorithm.x) == algorithm.outputs + len(w) - 1
