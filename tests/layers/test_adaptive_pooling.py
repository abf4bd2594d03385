"""Adaptive pooling: bins by hand, values against the definition in float64, values and gradients against Keras."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.layers.adaptive_pooling import bins
from tests.support.keras_oracle import keras, keras_rules

FIRST = "channels_first"
RAMP = jnp.array([3.0, 1, 4, 1, 5, 9, 2]).reshape(1, 7, 1)
LENGTHS = {1: (7,), 2: (6, 5), 3: (4, 5, 3)}
# fewer bins than steps, a divisor of the steps, as many, more, and one
SIZES = {1: [3, 7, 12, 1], 2: [(4, 2), (3, 5), (8, 1)], 3: [(3, 2, 2), (2, 5, 4)]}
CASES = [(kind, rank, size) for kind in ("Max", "Average") for rank in SIZES for size in SIZES[rank]]


def by_definition(x, sizes, reduce):
    """Reduce the box of each place in float64: bin ``i`` goes from floor(i n / m) up to ceil((i + 1) n / m)."""
    x = np.asarray(x, np.float64)
    y = np.empty((x.shape[0], *sizes, x.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        bounds = zip(place, sizes, x.shape[1:-1], strict=True)
        box = x[(slice(None), *(slice(int(i * n / m), int(np.ceil((i + 1) * n / m))) for i, m, n in bounds))]
        y[(slice(None), *place)] = reduce(box, tuple(range(1, x.ndim - 1)))
    return y


@pytest.mark.parametrize(
    "layer, want",
    [
        (jc.AdaptiveMaxPooling1D(3), [4, 5, 9]),  # bins 0-2, 2-4, 4-6
        (jc.AdaptiveMaxPooling1D((2,)), [4, 9]),  # 0-3, 3-6
        (jc.AdaptiveMaxPooling1D(np.int64(7)), [3, 1, 4, 1, 5, 9, 2]),
        (jc.AdaptiveAveragePooling1D([3]), [8 / 3, 10 / 3, 16 / 3]),
        (jc.AdaptiveAveragePooling1D(1), [25 / 7]),
        (jc.AdaptiveAveragePooling1D(14), np.repeat([3, 1, 4, 1, 5, 9, 2], 2)),
    ],
)
@pytest.mark.parametrize("data_format", ["channels_last", FIRST])
def test_values(layer, want, data_format):
    x = RAMP if data_format == "channels_last" else RAMP.reshape(1, 1, 7)
    layer = dataclasses.replace(layer, data_format=data_format)
    np.testing.assert_allclose(layer.apply_fn({}, x).ravel(), want, rtol=1e-6)  # float32


def test_bins_cover_all_steps_and_their_widths_differ_by_one_at_most():
    for length, count in itertools.product(range(1, 14), range(1, 20)):
        begin, end = bins(length, count)
        assert begin[0] == 0 and end[-1] == length
        assert (begin[1:] <= end[:-1]).all() and (np.diff(begin) >= 0).all()
        assert set(end - begin) <= {-(-length // count), -(-length // count) + 1}


def test_bins_of_a_long_sequence_are_exact():
    begin, end = bins(2**24 + 1, 3)  # in float32 the last step would be lost
    assert begin.tolist() == [0, 5592405, 11184811] and end.tolist() == [5592406, 11184812, 2**24 + 1]


@pytest.mark.parametrize("kind, rank, size", CASES)
def test_each_output_is_the_maximum_or_mean_of_its_bin(key, kind, rank, size):
    layer = getattr(jc, f"Adaptive{kind}Pooling{rank}D")(size)  # the other data format: see test_laws
    x = jax.random.normal(key, (2, *LENGTHS[rank], 3))
    want = by_definition(x, layer.output_size, np.max if kind == "Max" else np.mean)
    y = jax.jit(layer.apply_fn)({}, x)
    assert y.shape == layer.output_shape(x.shape)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)  # float32, up to 60 terms of order 1


@pytest.mark.few(2)
@pytest.mark.parametrize("kind, rank, size", [case for case in CASES if case[2] not in (7, (2, 5, 4))])
def test_values_and_gradients_equal_keras(key, kind, rank, size):
    name = f"Adaptive{kind}Pooling{rank}D"
    ours, theirs = getattr(jc, name)(size), getattr(keras.layers, name)(size)
    x = jnp.round(2 * jax.random.normal(key, (2, *LENGTHS[rank], 3)))  # with ties, of which the first gets it all
    weight = jax.random.normal(jax.random.key(1), ours.output_shape(x.shape))

    def both(x):
        mine = jax.value_and_grad(lambda x: jnp.sum(weight * ours.apply_fn({}, x)))(x)
        with keras_rules():
            return mine, jax.value_and_grad(lambda x: jnp.sum(weight * theirs(x)))(x)

    mine, want = jax.jit(both)(x)
    for one, wanted in zip(mine, want, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-5)  # float32, sums of up to 180 terms of order 1


@pytest.mark.few(1)
@pytest.mark.parametrize("count", [7, 13, 14])
def test_with_as_many_bins_as_steps_the_output_is_the_input(count):
    x = jnp.arange(float(count)).reshape(1, count, 1)
    np.testing.assert_array_equal(jax.jit(jc.AdaptiveMaxPooling1D(count).apply_fn)({}, x), x)
    with keras_rules():  # Keras's bins come from a float32 quotient, and these miss; told by this when it is mended
        assert jnp.isnan(keras.layers.AdaptiveMaxPooling1D(count)(x)).any()


@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_second_derivatives_are_those_of_finite_differences(x64, kind):
    layer = getattr(jc, f"Adaptive{kind}Pooling1D")(3, dtype="float64")
    x, v = (jax.random.normal(jax.random.key(seed), (1, 7, 1), jnp.float64) for seed in (0, 1))
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(layer.apply_fn({}, x))))
    step = 1e-6  # the error of the central difference is of order 1e-10
    want = (gradient(x + step * v) - gradient(x - step * v)) / (2 * step)
    np.testing.assert_allclose(jax.jvp(gradient, (x,), (v,))[1], want, rtol=1e-7, atol=1e-8)


def test_a_mean_of_large_half_precision_numbers_does_not_overflow():
    layer = jc.AdaptiveAveragePooling1D(1, dtype="float16")
    y = layer.apply_fn({}, jnp.full((1, 4, 1), 30000.0, jnp.float16))  # the sum is 120000, float16 ends at 65504
    np.testing.assert_array_equal(y, jnp.full((1, 1, 1), 30000.0, jnp.float16))


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("size", [2, 4])
def test_bins_divide_the_real_rows_of_an_image_and_of_a_sequence_whose_bins_are_equal(key, kind, size):
    image, rows = jax.random.normal(key, (2, 8, 5, 2)) - 9, np.arange(8) < np.array([[8], [3]])
    for rank, x in [(2, image), (1, image[:, :, 0])]:
        layer = getattr(jc, f"Adaptive{kind}Pooling{rank}D")(size)
        y, effects = layer.apply_fn.forward({}, x.at[1, 3:].set(jnp.nan), mask=rows)
        assert effects.mask is None  # every output is real
        np.testing.assert_allclose(y[:1], layer.apply_fn({}, x[:1]), rtol=1e-5)  # float32, up to 12 terms
        np.testing.assert_allclose(y[1:], layer.apply_fn({}, x[1:, :3]), rtol=1e-5)


def test_the_length_of_the_output_is_known_where_that_of_the_input_is_not():
    assert jc.AdaptiveMaxPooling2D((3, 2), FIRST).output_shape((None, 4, None, None)) == (None, 4, 3, 2)


@pytest.mark.parametrize("kind", [jc.AdaptiveMaxPooling2D, jc.AdaptiveAveragePooling2D])
@pytest.mark.parametrize(
    "options, kind_of_error, message",
    [
        ({"output_size": 0}, ValueError, "output_size=0 is not valid; give an integer or 2 integers, each at least 1"),
        ({"output_size": (2, 2, 2)}, ValueError, r"output_size=\(2, 2, 2\) is not valid"),
        ({"output_size": None}, ValueError, "output_size=None does not consist of integers"),
        ({"output_size": 2.5}, ValueError, "output_size=2.5 does not consist of integers"),
        ({"output_size": "2"}, TypeError, "output_size is the string '2'"),
        ({"output_size": 2, "data_format": "NHWC"}, ValueError, "unknown data_format 'NHWC'"),
    ],
)
def test_options_that_are_not_valid(kind, options, kind_of_error, message):
    with pytest.raises(kind_of_error, match=f"{kind.__name__}: {message}"):
        kind(**options)


def test_inputs_that_do_not_fit(key):
    with pytest.raises(ValueError, match=r"AdaptiveMaxPooling2D: .*rank 3; this layer needs rank 4"):
        jc.AdaptiveMaxPooling2D(2).init(key, (None, 3, 2))
    with pytest.raises(ValueError, match=r"length 0 .*shortest valid input is 1"):
        jc.AdaptiveAveragePooling1D(2).init(key, (None, 0, 2))


def test_a_symbolic_length_raises_and_a_symbolic_batch_does_not():
    shape = jax.export.symbolic_shape("b, t, 2")
    run = jax.jit(lambda x: jc.AdaptiveMaxPooling1D(2).apply_fn({}, x))
    with pytest.raises(ValueError, match=r"axis 1 has the symbolic length t; .* export with a number"):
        jax.export.export(run)(jax.ShapeDtypeStruct(shape, jnp.float32))
    exported = jax.export.export(run)(jax.ShapeDtypeStruct((shape[0], 5, 2), jnp.float32))
    x = jnp.arange(30.0).reshape(3, 5, 2)
    np.testing.assert_array_equal(exported.call(x), run(x))


@pytest.mark.exact
def test_the_gradient_of_one_masked_bin_reaches_the_largest_value():
    """Its input is cheap, so that XLA computes it for the maximum and again to find its place."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(6, 14, 8)).astype("float32"), rng.normal(size=4).astype("float32")
    mask = np.ones((6, 12), bool)
    mask[2, 6:] = mask[3, :4] = False
    layer = jc.AdaptiveMaxPooling1D(1).apply_fn

    def smoothed(x, w):
        return w[0] * x[:, :-2] + w[1] * x[:, 1:-1] + w[2] * x[:, 2:] + w[3]

    gradients = jax.grad(lambda x, w: (layer({}, smoothed(x, w), mask=jnp.asarray(mask)) ** 2).sum(), (0, 1))
    y = np.where(mask[..., None], smoothed(x.astype("float64"), w), -np.inf)
    expected, top = np.zeros(x.shape), y.max(1, keepdims=True)
    for tap in range(3):
        expected[:, tap : tap + 12] += np.where(y == top, w[tap] * 2 * top, 0)
    np.testing.assert_allclose(jax.jit(gradients)(x, w)[0], expected, rtol=1e-5, atol=1e-5)  # float32, four terms


@pytest.mark.parametrize("data_format", ["channels_last", FIRST])
@pytest.mark.parametrize("kind, reduce", [("Max", np.max), ("Average", np.mean)])
@pytest.mark.filterwarnings("ignore:.*the mask ends here")
def test_masked_pixels_contribute_to_no_bin(kind, reduce, data_format):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 2)).astype("float32") - 3  # a zero would be the largest
    mask = rng.random((2, 6, 5)) < 0.5
    mask[0, :2, :3] = False  # the first bin is empty
    want = np.zeros((2, 3, 2, 2))
    spans = [list(zip(*bins(*sizes), strict=True)) for sizes in ((6, 3), (5, 2))]
    for sample, row, column in itertools.product(range(2), range(3), range(2)):
        box = (sample, *(slice(*span[i]) for span, i in zip(spans, (row, column), strict=True)))
        if mask[box].any():
            want[sample, row, column] = reduce(x[box][mask[box]], 0)
    layer = getattr(jc, f"Adaptive{kind}Pooling2D")((3, 2), data_format)
    x[~mask] = np.nan
    given = x if data_format == "channels_last" else np.moveaxis(x, -1, 1)
    want = want if data_format == "channels_last" else np.moveaxis(want, -1, 1)
    np.testing.assert_allclose(layer.apply_fn({}, given, mask=mask), want, rtol=1e-5)  # float32, up to 9 terms
