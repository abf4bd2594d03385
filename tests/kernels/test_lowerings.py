"""Every lowering: values and derivatives against the definition in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import kernels
from jaxconv.geometry import Geometry
from jaxconv.kernels import choice, parts, taps
from jaxconv.kernels.lowerings import LOWERINGS, block_diagonal, leading_axis, matmul, shift_add, stacked_taps, winograd
from jaxconv.kernels.maps import SIGNATURES
from jaxconv.kernels.problem import exact, standard_form
from tests.support import reference

FEW = [*range(5), 9, 47]  # the default run draws every lowering of every map
MANY = [seed for seed in range(60) if seed not in FEW]


def lowered(name, lowering, geometry, dtype=None, platform="cpu"):
    """Return one map computed by one lowering, jitted."""
    return jax.jit(
        lambda a, b: choice.compute(
            name, a, b, geometry=geometry, precision=None, dtype=dtype or a.dtype, lowering=lowering, platform=platform
        )
    )


def agrees(got, want, factor=64.0):
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    tolerance = factor * float(jnp.finfo(got.dtype).eps) * scale  # sums of a few hundred products, or a transform
    np.testing.assert_allclose(np.asarray(got, np.float64), want, atol=tolerance, rtol=0)


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MANY)])
def test_every_lowering_computes_its_maps_by_the_definition(seed, x64):
    rng, geometry, outer = reference.random_standard_geometry(seed)
    for name, letters in SIGNATURES.items():
        a, b = (jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer))) for v in letters[:2])
        want = reference.evaluate(name, a, b, geometry)
        for lowering in [None, *choice.supported(name, geometry, a, b)]:
            if lowering != "xla":  # test_maps.py tests it, and XLA aborts on some of these in float64
                agrees(lowered(name, lowering, geometry)(a, b), want)


@pytest.mark.few(2)
@pytest.mark.parametrize("lowering", [name for name in LOWERINGS if name != "xla"])
def test_derivatives_of_a_requested_lowering_agree_with_the_definition(lowering, x64):
    rng = np.random.default_rng(0)
    groups = 4 if lowering in ("shift_add", "block_diagonal", "groups_last") else 1
    strides = (1, 1) if groups > 1 or lowering in ("winograd", "exchanged") else (1, 2)
    dilation = (1, 1 if lowering == "polyphase" else 2)
    geometry = Geometry(
        (6, 7), (3, 2), strides, ((1, 1), (0, 1)), (1, 1), dilation, groups, (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    outer = (2, {"shift_add": 1, "exchanged": 3}.get(lowering, 2), 2)
    arrays = {v: jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer))) for v in "xwy"}
    tested = [name for name in SIGNATURES if name in LOWERINGS[lowering].maps]
    for name in tested:
        first, second, third = SIGNATURES[name]
        function = functools.partial(getattr(kernels, name), geometry=geometry, lowering=lowering)
        out, vjp = jax.vjp(function, arrays[first], arrays[second])
        agrees(out, reference.evaluate(name, arrays[first], arrays[second], geometry))
        given = {first: arrays[first], second: arrays[second], third: arrays[third]}
        for gradient, wanted in zip(vjp(arrays[third]), (first, second), strict=True):
            adjoint = next(other for other, letters in SIGNATURES.items() if letters[2] == wanted)
            pair = [given[letter] for letter in SIGNATURES[adjoint][:2]]
            agrees(gradient, reference.evaluate(adjoint, *pair, geometry))


@pytest.mark.parametrize(
    ("filters", "strides", "reason"),
    [
        (3, (1, 1), None),
        (4, (1, 1), "fewer filters than channels, not 4 and 4"),
        (3, (1, 2), r"strides of 1, not (1, 2)"),
    ],
)
def test_operands_are_exchanged_where_the_filters_are_few_and_each_position_has_a_window(filters, strides, reason):
    shapes = {"x": (2, 9, 8, 4), "y": (2, 7, -(-8 // strides[1]), filters)}
    problem = exact((9, 8), (3, 1), shapes["y"][1:3], strides, (1, 1), (0, 0), 1)
    found = LOWERINGS["exchanged"].limits("correlate", problem, shapes)
    assert found is None if reason is None else reason in found


def test_bfloat16_is_copied_without_a_conversion():
    problem = exact((6,), (3,), (4,), (1,), (1,), (0,), 1)
    bits = jnp.arange(4 * 6 * 5, dtype=jnp.uint16).reshape(4, 6, 5) + 0x7F70  # infinity and NaNs are among them
    x = jax.lax.bitcast_convert_type(bits, jnp.bfloat16)
    assert not bool(jnp.isfinite(x).all())

    def twice(part):
        return 2 * jax.lax.bitcast_convert_type(part, jnp.uint16)

    copies = {
        "pad": (lambda x: taps.pad(x, [(1, 2)]), jnp.pad(bits, ((0, 0), (1, 2), (0, 0)))),
        "window": (lambda x: taps.window(x, (2,), problem), bits[:, 2:]),
        "window_at": (lambda x: taps.window_at(x, jnp.asarray([1]), problem), bits[:, 1:5]),
        "stack_windows": (
            lambda x: taps.stack_windows(x, problem),
            jnp.concatenate([bits[:, i:][:, :4] for i in range(3)], -1),
        ),
        "part_at": (lambda x: parts.part_at(x, jnp.asarray(1), 2), bits[2:]),
        "in_parts": (lambda x: parts.in_parts(twice, x, 2, jnp.uint16), 2 * bits),
    }
    for name, (copy, want) in copies.items():
        compiled = jax.jit(copy).lower(x).compile()
        assert "f32[" not in compiled.as_text(), name
        np.testing.assert_array_equal(np.asarray(compiled(x)).view(np.uint16), want, name)


def test_parts_of_the_batch_agree_with_the_definition(monkeypatch, x64):
    monkeypatch.setattr(stacked_taps, "BLOCK", 1)
    monkeypatch.setattr(matmul, "MANY", 0)
    monkeypatch.setattr(matmul, "CACHED", 1 << 8)
    geometry = Geometry(
        (9, 8), (3, 2), (1, 1), ((1, 2), (-1, 1)), (1, 1), (2, 1), 1, (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    rng = np.random.default_rng(0)
    x, w, y = (jnp.asarray(rng.standard_normal(reference.shape(v, geometry, (6, 4, 5)))) for v in "xwy")
    compute = lowered("convolve", "stacked_taps", geometry)
    assert compute.lower(x, w).as_text().count("stablehlo.while") == 1
    agrees(compute(x, w), reference.evaluate("convolve", x, w, geometry))
    monkeypatch.setattr(winograd, "PART", 1 << 8)
    for name, a, b in (("convolve", x, w), ("transpose", y, w), ("correlate", x, y)):
        compute = lowered(name, "winograd", geometry)
        # over the parts, and over the products of the first axis
        assert compute.lower(a, b).as_text().count("stablehlo.while") == 2
        agrees(compute(a, b), reference.evaluate(name, a, b, geometry))
    monkeypatch.setattr(winograd, "PART_WITHOUT_LOOP", 1 << 6)
    signal = Geometry((9,), (3,), (1,), ((1, 1),), (1,), (1,), 1, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    a, b = (jnp.asarray(rng.standard_normal(reference.shape(v, signal, (6, 4, 5)))) for v in "xy")
    compute = lowered("correlate", "winograd", signal)
    assert compute.lower(a, b).as_text().count("stablehlo.while") == 1  # over the parts
    agrees(compute(a, b), reference.evaluate("correlate", a, b, signal))
    x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    compute = lowered("correlate", "matmul", geometry, jnp.float32)
    assert compute.lower(x, y).as_text().count("stablehlo.while") == 2  # over the parts, and over the taps
    want = reference.evaluate("correlate", x.astype(float), y.astype(float), geometry)
    agrees(compute(x, y), want)
    monkeypatch.setattr(matmul, "PRODUCTS", 1)
    w = w.astype(jnp.bfloat16)
    compute = lowered("transpose", "matmul", geometry, jnp.float32)
    assert compute.lower(y, w).as_text().count("stablehlo.while") == 1
    agrees(compute(y, w), reference.evaluate("transpose", y.astype(float), w.astype(float), geometry))


@pytest.mark.few(3)
@pytest.mark.parametrize("beside_filters", [False, True])
@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilation", "groups"),
    [
        ((9, 8), (3, 2, 4, 20), (1, 1), ((1, 2), (-1, 1)), (2, 1), 4),  # four groups of 4 to 5
        ((7, 8), (2, 3, 5, 12), (1, 2), ((0, -1), (1, 1)), (1, 2), 3),
        ((9, 5), (3, 3, 8, 16), (2, 1), ((1, 1), (1, 0)), (1, 1), 2),
        ((5, 4, 6), (3, 2, 3, 4, 8), (1, 1, 1), ((1, 1), (0, 0), (2, 1)), (1, 1, 2), 2),
        ((23,), (4, 4, 64), (1,), ((3, 0),), (1,), 16),
        ((9, 8), (3, 2, 20, 44), (1, 1), ((1, 2), (-1, 1)), (2, 1), 2),  # wide: a dense convolution for each group
        ((7, 8), (2, 3, 24, 60), (1, 2), ((0, -1), (1, 1)), (1, 2), 3),
    ],
)
def test_groups_computed_alone_agree_with_the_definition(
    x, w, strides, pads, dilation, groups, beside_filters, monkeypatch, x64
):
    monkeypatch.setattr(block_diagonal, "STEP", 1)  # two groups at a time
    monkeypatch.setattr(block_diagonal, "FEW_TAPS", 0 if beside_filters else 99)
    rng, rank = np.random.default_rng(0), len(x)
    dims = [(0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank)), (0, rank + 1, *range(1, rank + 1))]
    geometry = Geometry(x, w[:-2], strides, pads, (1,) * rank, dilation, groups, *dims)
    outer = (3, w[-2], w[-1] // groups)
    arrays = {v: rng.standard_normal(reference.shape(v, geometry, outer)) for v in "xwy"}
    for name, (first, second, _) in SIGNATURES.items():
        compute = lowered(name, "block_diagonal", geometry)
        a, b = arrays[first], arrays[second]
        agrees(compute(a, b), reference.evaluate(name, a, b, geometry))
        for operand in (0, 1):
            pair = [a.copy(), b.copy()]
            pair[operand][..., -1] = np.nan  # of the last group
            result = np.asarray(compute(*pair))
            assert np.isnan(result).any()
            first_group = result.shape[-1] // groups
            assert np.isfinite(result[..., :first_group]).all()


def test_the_default_run_draws_every_lowering_of_every_map():
    drawn = set()
    for seed in FEW:
        _, geometry, outer = reference.random_standard_geometry(seed)
        for name, letters in SIGNATURES.items():
            a, b = (jax.ShapeDtypeStruct(reference.shape(v, geometry, outer), np.float32) for v in letters[:2])
            form = standard_form(name, geometry, a, b)
            if form is not None:
                drawn |= {(form.map, lowering) for lowering in choice.supported(name, geometry, a, b)}
    assert drawn >= {(name, lowering) for lowering in LOWERINGS for name in LOWERINGS[lowering].maps}


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilation", "groups"),
    [
        ((5, 4, 3), (3, 2, 3, 20), (1, 1), (1, 1), (1, 1), 1),  # few channels: planes stacked in the channels
        ((5, 4, 3), (3, 2, 3, 20), (2, 1), (0, 2), (2, 1), 1),
        ((5, 6, 8), (3, 2, 8, 4), (1, 1), (2, 0), (1, 1), 1),  # few filters: taps stacked in the filters
        ((7, 6, 8), (6, 1, 8, 4), (2, 2), (3, 2), (1, 1), 1),  # three of the taps at a time, for the stride
        ((9, 4, 24), (3, 2, 24, 24), (1, 1), (1, 1), (1, 1), 1),  # neither: a convolution for each tap
        ((9, 4, 24), (4, 2, 24, 24), (3, 1), (1, 1), (2, 1), 1),
        ((3, 4, 24), (3, 2, 24, 24), (1, 1), (0, 0), (1, 1), 1),  # a plane for each tap
        ((9, 4, 2), (7, 2, 2, 24), (1, 1), (3, 3), (1, 1), 2),  # many taps
        ((1, 4, 6), (1, 2, 6, 6), (2, 1), (1, 1), (1, 1), 1),  # no plane at all
        ((1, 4, 6), (2, 2, 6, 6), (4, 1), (2, 2), (3, 1), 1),  # fewer planes than a stride
    ],
)
@pytest.mark.parametrize("most", [0, 1 << 10])
def test_leading_axis_agrees_with_the_definition_in_all_its_variants(
    x, w, strides, pads, dilation, groups, most, monkeypatch, x64
):
    for limit in ("MAX_FILTERS", "MAX_OF_FEW", "MAX_OF_MANY"):
        monkeypatch.setattr(leading_axis, limit, most)
    rng = np.random.default_rng(0)
    padding = (pads, *((1, 0),) * (len(w) - 3))
    x, w = (2, *x[:-1], x[-1] * groups), w
    dims = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    geometry = Geometry(x[1:-1], w[:-2], strides, padding, (1, 1), dilation, groups, *dims)
    arrays = {"x": rng.standard_normal(x), "w": rng.standard_normal(w)}
    arrays["y"] = rng.standard_normal((2, *geometry.y_lengths, w[-1]))
    for name in ("convolve", "correlate"):
        a, b = (jnp.asarray(arrays[letter]) for letter in SIGNATURES[name][:2])
        agrees(lowered(name, "leading_axis", geometry)(a, b), reference.evaluate(name, a, b, geometry))


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "groups"),
    [
        ((23, 4), (4, 4, 5), (2,), [(1, 1)], 1),
        ((23, 4), (7, 4, 5), (3,), [(-1, 4)], 1),  # two whole strides, and one tap more
        ((23, 4), (5, 2, 6), (2,), [(2, -3)], 2),
        ((9, 12, 3), (4, 2, 3, 4), (2, 2), [(1, 2), (0, 1)], 1),
        ((9, 12, 6), (3, 4, 3, 4), (3, 1), [(0, 0), (3, -2)], 2),
        ((9, 12, 3), (3, 1, 3, 4), (2, 3), [(1, 1), (0, 0)], 1),  # phases without a tap: the kernel gradient only
        ((5, 6, 7, 2), (2, 3, 2, 2, 3), (1, 2, 2), [(1, 0), (1, 1), (0, 1)], 1),
    ],
)
def test_phases_as_channels_agree_with_the_definition_and_keep_a_nan_where_it_is_read(x, w, strides, pads, groups, x64):
    rng, rank = np.random.default_rng(0), len(strides)
    dims = [(0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank)), (0, rank + 1, *range(1, rank + 1))]
    geometry = Geometry(x[:-1], w[:-2], strides, tuple(pads), (1,) * rank, (1,) * rank, groups, *dims)
    arrays = {v: rng.standard_normal(reference.shape(v, geometry, (2, w[-2], w[-1] // groups))) for v in "xwy"}
    computed = []
    for name in ("convolve", "correlate"):
        a, b = (arrays[letter] for letter in SIGNATURES[name][:2])
        if "polyphase" in choice.supported(name, geometry, a, b):
            computed.append(name)
            compute = lowered(name, "polyphase", geometry)
            agrees(compute(a, b), reference.evaluate(name, a, b, geometry))
            for place in range(x[0]):
                poisoned = a.copy()
                poisoned[0, place] = np.nan
                read = reference.evaluate(name, np.isnan(poisoned).astype(float), np.ones_like(b), geometry) > 0
                np.testing.assert_array_equal(np.isnan(compute(poisoned, b)), read)
    divides = all(k % s == 0 for k, s in zip(w[:-2], strides, strict=True))
    assert computed == (["convolve", "correlate"] if divides or rank == 1 else ["correlate"])


def test_filters_are_stacked_while_their_results_stay_in_the_cache(monkeypatch):
    assert leading_axis.filters_fit((8, 32, 32, 64), 384) and not leading_axis.filters_fit((8, 32, 32, 64), 385)
    assert leading_axis.filters_fit((64, 64, 64, 8), 64) and not leading_axis.filters_fit((64, 64, 64, 8), 65)
    dims = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    geometry = Geometry((9, 4), (3, 2), (1, 1), ((1, 1), (1, 0)), (1, 1), (1, 1), 1, *dims)
    x, w = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 9, 4, 24), (3, 2, 24, 24)))

    def convolutions():
        return lowered("convolve", "leading_axis", geometry).lower(x, w).as_text().count("stablehlo.convolution")

    assert convolutions() == 1
    monkeypatch.setattr(leading_axis, "LARGEST", 2 * 9 * 4 * 72 - 1)
    assert convolutions() == 3


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("x", "w", "strides", "pads", "dilation", "groups"),
    [
        ((75, 3), (67, 1, 6), (1,), (3, 2), (1,), 3),  # two filters for each channel; a prime number of taps
        ((150, 2), (70, 1, 2), (3,), (2, -1), (2,), 2),
        ((11, 12, 2), (7, 10, 1, 2), (2, 1), (1, 1), (1, 1), 2),
        ((5, 90, 1), (2, 33, 1, 2), (1, 2), (1, 1), (2, 1), 1),
        ((5, 6, 6, 2), (5, 4, 4, 1, 2), (1, 2, 1), (1, 1), (1, 1, 1), 2),
    ],
)
def test_shift_add_of_a_long_kernel_agrees_with_the_definition(x, w, strides, pads, dilation, groups, x64):
    rng, rank = np.random.default_rng(0), len(strides)
    spatial = tuple(range(1, rank + 1))
    dims = (0, rank + 1, *spatial), (rank + 1, rank, *range(rank)), (0, rank + 1, *spatial)
    geometry = Geometry(x[:-1], w[:-2], strides, (pads,) * rank, (1,) * rank, dilation, groups, *dims)
    arrays = {"x": rng.standard_normal((2, *x)), "w": rng.standard_normal(w)}
    arrays["y"] = rng.standard_normal((2, *geometry.y_lengths, w[-1]))
    for name in ("convolve", "correlate"):
        a, b = (jnp.asarray(arrays[letter]) for letter in SIGNATURES[name][:2])
        agrees(lowered(name, "shift_add", geometry)(a, b), reference.evaluate(name, a, b, geometry))


@pytest.mark.parametrize(
    ("x", "w", "strides", "pads"),
    [
        ((70,), (70,), (1,), [(0, 0)]),
        ((9, 8), (9, 8), (2, 1), [(0, 0), (0, 0)]),
        ((7, 8), (9, 9), (1, 3), [(1, 1), (0, 1)]),
        ((9, 8), (7, 11), (1, 1), [(-2, 0), (4, -1)]),
        ((3, 5, 5), (3, 5, 5), (1, 1, 1), [(0, 0)] * 3),
    ],
)
def test_one_window_is_one_product_by_default(x, w, strides, pads, x64):
    rng, rank = np.random.default_rng(0), len(x)
    dims = (0, rank + 1, *range(1, rank + 1)), (rank + 1, rank, *range(rank))
    geometry = Geometry(x, w, strides, tuple(pads), (1,) * rank, (1,) * rank, 1, *dims, dims[0])
    arrays = {"x": rng.standard_normal((3, *x, 5)), "w": rng.standard_normal((*w, 5, 4))}
    arrays["y"] = rng.standard_normal((3, *(1,) * rank, 4))
    for name in SIGNATURES:
        a, b = (jnp.asarray(arrays[letter]) for letter in SIGNATURES[name][:2])
        assert choice.choose(name, geometry, a, b, platform="cpu").lowering == "matmul"
        agrees(lowered(name, None, geometry)(a, b), reference.evaluate(name, a, b, geometry))
        assert str(jax.make_jaxpr(lowered(name, None, geometry))(a, b)).count("dot_general[") == 1


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_a_small_product_of_one_tap_is_a_convolution_that_xla_makes_a_product_of(strides, x64):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 26, 21, 64), (1, 1, 64, 48)))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "lowering": "matmul"}
    compute = jax.jit(lambda x, w: jaxconv.conv_general_dilated(x, w, strides, "VALID", **options))
    read = x[:, :: strides[0], :: strides[1]]
    agrees(compute(x, w), np.einsum("nhwc,cf->nhwf", read.astype(np.float64), w[0, 0].astype(np.float64)))
    dx, dw = jax.jit(jax.grad(lambda x, w: jnp.sum(compute(x, w) ** 2) / 2, (0, 1)))(x, w)
    y = np.einsum("nhwc,cf->nhwf", read, w[0, 0])
    agrees(dw[0, 0], np.einsum("nhwc,nhwf->cf", read, y))
    agrees(dx[:, :: strides[0], :: strides[1]], np.einsum("nhwf,cf->nhwc", y, w[0, 0]))
    lowered = compute.lower(x, w)
    assert lowered.as_text().count("stablehlo.convolution") == 1
    assert " dot(" in lowered.compile().as_text()


@pytest.mark.parametrize(
    ("places", "channels", "filters", "counts"),  # of convolutions in C and T
    [
        (20_000, 64, 64, (1, 1)),
        (8_000, 64, 64, (1, 0)),  # T: too few multiplications
        (80_000, 32, 64, (0, 1)),  # C: too few channels to contract
        (80_000, 64, 16, (0, 1)),  # C: too few filters
        (1_500, 256, 192, (0, 0)),  # the kernel is large
    ],
)
def test_large_products_whose_kernel_fits_the_cache_are_computed_by_eigen(places, channels, filters, counts, x64):
    rng = np.random.default_rng(0)
    x, w, y = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((2, places // 2, channels), (1, channels, filters), (2, places // 2, filters))
    )

    def convolve(x, w):
        numbers = ("NWC", "WIO", "NWC")
        return jaxconv.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=numbers, lowering="matmul")

    forward, backward = jax.jit(convolve), jax.jit(lambda x, w, y: jax.vjp(lambda x: convolve(x, w), x)[1](y)[0])
    agrees(forward(x, w), x.astype(np.float64) @ w[0])
    agrees(backward(x, w, y), y.astype(np.float64) @ w[0].T)
    programs = forward.lower(x, w), backward.lower(x, w, y)
    assert tuple(lowered.as_text().count("stablehlo.convolution") for lowered in programs) == counts


@pytest.mark.parametrize("length", [2, 8, 11])  # shorter than a run, one run, places that do not fill one
@pytest.mark.parametrize(
    ("lowering", "taps", "outer", "part"),
    [
        ("shift_add", 3, (6, 1, 4), 1 << 5),
        ("shift_add", 2, (6, 1, 4), 1 << 20),
        ("shift_add", 5, (6, 1, 8), 1 << 20),
        ("groups_last", 2, (4, 3, 4), 1 << 6),
    ],
)
def test_kernel_gradients_in_runs_and_parts_agree_with_the_definition(
    length, lowering, taps, outer, part, monkeypatch, x64
):
    monkeypatch.setattr(shift_add, "PART", part)
    geometry = Geometry(
        (5, length), (taps, 3), (1, 1), ((taps // 2, taps - 1 - taps // 2), (1, 1)), (1, 1), (1, 1), 4, (0, 3, 1, 2),
        (3, 2, 0, 1), (0, 3, 1, 2),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer))) for v in "xy")
    compute = lowered("correlate", lowering, geometry)
    at_once = 2 if lowering == "shift_add" and taps <= 3 else 1  # parts of an image with few taps
    loops = (at_once * part < x.size) + (lowering == "groups_last")  # over the parts, and over the taps
    assert compute.lower(x, y).as_text().count("stablehlo.while") == loops
    agrees(compute(x, y), reference.evaluate("correlate", x, y, geometry))


@pytest.mark.parametrize("groups", [2, 16])
def test_kernel_gradients_of_groups_are_transformed_block_by_block_in_a_loop(groups):
    rng = np.random.default_rng(0)
    shapes = (1, 64, 64, 64), (3, 3, 64 // groups, 64), (1, 64, 64, 64)  # two blocks of 32 channels
    x, w, y = (jnp.asarray(rng.standard_normal(shape), "float32") for shape in shapes)

    def gradient(conv, x, y):
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
        return jax.vjp(lambda w: conv(x, w, (1, 1), "SAME", **options), w)[1](y)[0]

    with jaxconv.lowering("block_diagonal"):
        ours = jax.jit(lambda x, y: gradient(jaxconv.conv_general_dilated, x, y))
        text = ours.lower(x, y).as_text()
        got = ours(x, y)
        poisoned = ours(x.at[0, 20, 20, 3].set(jnp.nan), y)
    assert text.count("stablehlo.while") > 1  # over the blocks, and over the products of one axis
    expected = gradient(jax.lax.conv_general_dilated, x, y)
    np.testing.assert_allclose(got, expected, atol=2e-3)  # sums of 4,096 products, of a few units each
    own = 64 // groups
    others = [f for f in range(64) if f // own != 3 // own]
    np.testing.assert_allclose(poisoned[..., others], got[..., others], atol=2e-3)


@pytest.mark.parametrize("lowering", ["stacked_taps", "winograd"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_are_summed_in_float32(dtype, lowering):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((1, 12, 12, 64), (3, 3, 64, 64)))
    with jaxconv.lowering(lowering):
        got = jaxconv.conv2d(x, w, padding="same")
    want = jax.lax.conv_general_dilated(
        x.astype(np.float32), w.astype(np.float32), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert got.dtype == dtype
    # one rounding, of the result
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=float(jnp.finfo(dtype).eps), atol=1e-3)
