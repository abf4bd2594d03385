"""Every lowering of every map against the definition in float64, the choice between them, and what must survive it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxconv
from jaxconv import kernels
from jaxconv.geometry import Geometry
from jaxconv.kernels import choice
from jaxconv.kernels.maps import SIGNATURES
from jaxconv.kernels.problem import standard
from tests.support import reference

FEW, MANY = range(10), range(10, 60)


def draw(seed):
    """Draw a geometry of one of the kinds that lowerings are for: strided input or output, depthwise, many groups."""
    rng = np.random.default_rng(seed)
    geometry, (n, c, f) = reference.random_geometry(rng)
    ones = (1,) * geometry.rank
    kind = ("lhs_dilation", "strides")[seed % 4 == 0]
    geometry = dataclasses.replace(geometry, **{kind: ones})
    if seed % 5 == 0:
        geometry, c = dataclasses.replace(geometry, groups=int(rng.integers(2, 12))), 1
    return rng, geometry, (n, c, f)


def lowered(name, lowering, geometry, dtype=None, platform="cpu"):
    """Give one map computed by one lowering, jitted."""
    return jax.jit(
        lambda a, b: choice.compute(
            name, a, b, geometry=geometry, precision=None, dtype=dtype or a.dtype, lowering=lowering, platform=platform
        )
    )


def agrees(got, want, factor=64.0):
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    tolerance = factor * float(jnp.finfo(got.dtype).eps) * scale  # sums of a few hundred products, or a transform
    np.testing.assert_allclose(np.asarray(got, np.float64), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MANY)])
def test_every_lowering_computes_its_maps_by_the_definition(seed, x64):
    rng, geometry, outer = draw(seed)
    for name, letters in SIGNATURES.items():
        a, b = (jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer))) for v in letters[:2])
        want = reference.evaluate(name, a, b, geometry)
        for lowering in [None, *choice.able(name, geometry, a, b)]:
            if lowering != "xla":  # tests/test_kernels.py tests that one, and XLA aborts on some of these in float64
                agrees(lowered(name, lowering, geometry)(a, b), want)


@pytest.mark.parametrize("lowering", [name for name in choice.LOWERINGS if name != "xla"])
def test_a_forced_lowering_has_right_derivatives(lowering, x64):
    rng = np.random.default_rng(0)
    groups, strides = (4, (1, 1)) if lowering in ("slices", "blocks") else (1, (1, 2))
    geometry = Geometry(
        (6, 7), (3, 2), strides, ((1, 1), (0, 1)), (1, 1), (1, 2), groups, (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    )
    outer = (2, 1 if lowering == "slices" else 2, 2)
    arrays = {v: jnp.asarray(rng.standard_normal(reference.shape(v, geometry, outer))) for v in "xwy"}
    tested = [name for name in SIGNATURES if hasattr(choice.LOWERINGS[lowering], name)]
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
    ("x", "w", "strides", "pads", "dilation", "groups"),
    [
        ((5, 4, 3), (3, 2, 3, 20), (1, 1), (1, 1), (1, 1), 1),  # few channels: planes side by side in the channels
        ((5, 4, 3), (3, 2, 3, 20), (2, 1), (0, 2), (2, 1), 1),
        ((5, 6, 8), (3, 2, 8, 4), (1, 1), (2, 0), (1, 1), 1),  # few filters: taps side by side in the filters
        ((7, 6, 8), (6, 1, 8, 4), (2, 2), (3, 2), (1, 1), 1),  # three of the taps at a time, for the stride
        ((9, 4, 24), (3, 2, 24, 24), (1, 1), (1, 1), (1, 1), 1),  # neither: a convolution for each tap
        ((9, 4, 24), (4, 2, 24, 24), (3, 1), (1, 1), (2, 1), 1),
        ((3, 4, 24), (3, 2, 24, 24), (1, 1), (0, 0), (1, 1), 1),  # a plane for each tap
        ((9, 4, 2), (7, 2, 2, 24), (1, 1), (3, 3), (1, 1), 2),  # many taps
        ((1, 4, 6), (1, 2, 6, 6), (2, 1), (1, 1), (1, 1), 1),  # no plane at all
        ((1, 4, 6), (2, 2, 6, 6), (4, 1), (2, 2), (3, 1), 1),  # fewer planes than a stride
    ],
)
def test_the_sum_over_the_outer_taps_is_right_in_every_way_it_is_taken(x, w, strides, pads, dilation, groups, x64):
    rng = np.random.default_rng(0)
    padding = (pads, *((1, 0),) * (len(w) - 3))
    x, w = (2, *x[:-1], x[-1] * groups), w
    dims = (0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)
    geometry = Geometry(x[1:-1], w[:-2], strides, padding, (1, 1), dilation, groups, *dims)
    a, b = jnp.asarray(rng.standard_normal(x)), jnp.asarray(rng.standard_normal(w))
    agrees(lowered("convolve", "outer", geometry)(a, b), reference.evaluate("convolve", a, b, geometry))


@pytest.mark.parametrize("name", SIGNATURES)
def test_standard_form_is_reached_and_left_without_loss(name):
    for seed in range(40):
        rng, geometry, outer = draw(seed)
        plan = standard(name, geometry)
        third = SIGNATURES[name][2]
        array = rng.standard_normal(reference.shape(third, geometry, outer))
        a, b = (jax.ShapeDtypeStruct(reference.shape(v, geometry, outer), np.float32) for v in SIGNATURES[name][:2])
        shapes = plan.problem.shapes(plan.name, *(v.shape for v in jax.eval_shape(plan.arrange, a, b)))
        result = jax.ShapeDtypeStruct(shapes[SIGNATURES[plan.name][2]], np.float32)
        assert jax.eval_shape(plan.restore, result).shape == array.shape


# -- the choice


def chosen(x, w, strides=1, padding="SAME", dilation=1, groups=1, dtype="float32", stretch=1):
    """Give the names for C, T and K of a channels-last convolution."""
    rank = len(x) - 2
    axes = "DHW"[3 - rank :]
    how = jaxconv.explain_lowering(
        jax.ShapeDtypeStruct(x, dtype), jax.ShapeDtypeStruct(w, dtype), (strides,) * rank, padding, (stretch,) * rank,
        (dilation,) * rank, (f"N{axes}C", f"{axes}IO", f"N{axes}C"), groups, platform="cpu",
    )  # fmt: skip
    return [one.lowering for one in how]


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (dict(x=(16, 512, 128), w=(5, 128, 256)), ["direct", "phases > direct", "lines"]),
        (dict(x=(8, 56, 56, 64), w=(3, 3, 64, 64)), ["threads", "phases > threads", "patches"]),
        (dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128)), ["direct", "phases > direct", "dots"]),
        (dict(x=(8, 7, 7, 512), w=(3, 3, 512, 512)), ["direct", "dots", "dots"]),
        (dict(x=(8, 56, 56, 64), w=(1, 1, 64, 256)), ["dots", "dots", "dots"]),
        (dict(x=(4, 2048, 768), w=(4, 1, 768), groups=768), ["slices", "slices", "slices"]),
        (dict(x=(8, 56, 56, 96), w=(7, 7, 1, 96), groups=96), ["slices", "phases > slices", "slices"]),
        (dict(x=(4, 2048, 64), w=(1024, 1, 64), groups=64), ["fourier", "fourier", "fourier"]),
        (dict(x=(2, 24, 24, 24, 32), w=(3, 3, 3, 32, 64)), ["outer > threads", "phases > outer > threads", "patches"]),
        (dict(x=(1, 10, 10, 10, 16), w=(3, 3, 3, 16, 16)), ["outer > threads", "phases > outer > threads", "dots"]),
        (dict(x=(4, 56, 56, 3), w=(3, 3, 3, 64)), ["direct", "dots", "lines"]),
        (dict(x=(4, 56, 56, 32), w=(3, 3, 32, 3)), ["dots", "phases > direct", "dots"]),
        (dict(x=(4, 56, 56, 32), w=(3, 3, 32, 8)), ["outer > direct", "phases > direct", "dots"]),
        (dict(x=(64, 4, 4, 512), w=(4, 4, 512, 1), padding="VALID"), ["direct", "dots", "dots"]),
        (dict(x=(64, 4, 4, 64), w=(4, 4, 64, 16), padding="VALID"), ["direct", "dots", "patches"]),
        (dict(x=(4, 2000, 16), w=(200, 16, 16)), ["direct", "phases > direct", "lines"]),
        (dict(x=(1, 256, 256, 3), w=(9, 9, 3, 32)), ["threads", "phases > outer > direct", "lines"]),
        (dict(x=(4, 1000, 128), w=(128, 128, 128)), ["direct", "phases > direct", "lines"]),
        (
            dict(x=(16, 14, 14, 256), w=(4, 4, 256, 128), stretch=2, padding=[(2, 2)] * 2),
            ["phases > direct", "direct", "dots"],
        ),
        (dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128), dtype="bfloat16"), ["direct", "phases > direct", "dots"]),
        (dict(x=(8, 28, 28, 128), w=(3, 3, 128, 128), dtype="int32"), ["xla", "xla", "xla"]),
    ],
)
def test_the_table_chooses_by_what_a_convolution_is(facts, names):
    assert chosen(**facts) == names


def test_other_platforms_keep_the_convolution_of_xla():
    x, w = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 1, 16))
    call = jax.jit(lambda x, w: jaxconv.depthwise_conv2d(x, jnp.swapaxes(w, 2, 3), padding="same"))
    exported = jax.export.export(call, platforms=["cpu", "cuda", "tpu"])(x, w).mlir_module()
    assert "stablehlo.convolution" in exported
    assert "stablehlo.convolution" not in jax.export.export(call, platforms=["cpu"])(x, w).mlir_module()
    how = jaxconv.explain_lowering(x, w, (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"), 16, platform="tpu")
    assert {one.lowering for one in how} == {"xla"}


def test_a_context_changes_jitted_code_and_an_argument_wins_over_it():
    x, w = jnp.ones((1, 16, 2)), jnp.ones((3, 2, 4))
    call = jax.jit(lambda x, w: jaxconv.conv1d(x, w))
    assert "fft" not in call.lower(x, w).as_text()
    with jaxconv.lowering("fourier"):
        assert "fft" in call.lower(x, w).as_text()
        with jaxconv.lowering(None):
            assert "fft" not in call.lower(x, w).as_text()
        text = jax.jit(
            lambda x, w: jaxconv.conv_general_dilated(
                x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), lowering="dots"
            )
        ).lower(x, w)
        assert "fft" not in text.as_text()
    assert "fft" not in call.lower(x, w).as_text()


def test_an_unknown_lowering_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match=r"lowering 'phase' is unknown; did you mean 'phases'.*"):
        jaxconv.lowering("phase").__enter__()


@pytest.mark.parametrize(
    ("lowering", "reason"),
    [
        ("slices", "it computes groups of one channel, not 2"),
        ("threads", "it computes two spatial axes, not 1"),
        ("outer", "it needs two spatial axes or more"),
        ("blocks", "it needs more than one group"),
        ("phases", "in standard form this is the map 'convolve', and it computes 'transpose'"),
        ("lines", "in standard form this is the map 'convolve', and it computes 'correlate'"),
    ],
)
def test_a_lowering_that_cannot_compute_a_convolution_says_why_and_lists_those_that_can(lowering, reason):
    x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    with jaxconv.lowering(lowering), pytest.raises(ValueError, match=reason) as failure:
        jaxconv.conv1d(x, w)
    assert "these can: xla, direct, dots, patches, fourier" in str(failure.value)


def test_what_has_no_standard_form_names_xla_alone():
    x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    with pytest.raises(ValueError, match=r"strides of the input or of the output but not of both; these can: xla"):
        jaxconv.conv_general_dilated(
            x, w, (2,), [(1, 1)], (2,), None, ("NWC", "WIO", "NWC"), lowering="dots"
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"dots.*64 taps, not 81"):
        jaxconv.conv_general_dilated(
            jnp.ones((1, 9, 9, 1)), jnp.ones((9, 9, 1, 1)), (1, 1), "SAME", None, None, ("NHWC", "HWIO", "NHWC"),
            lowering="dots",
        )  # fmt: skip


def test_an_explanation_prints_names_reasons_and_costs():
    x, w = jnp.ones((8, 128, 64)), jnp.ones((3, 64, 32))
    how = jaxconv.explain_lowering(x, w, (2,), "SAME", None, None, ("NWC", "WIO", "NWC"), platform="cpu")
    text = repr(how)
    assert text.startswith("forward         direct   (6.29 MFLOP, operands and result 352 kB, largest temporary")
    assert all(name in text for name in ("input gradient", "kernel gradient", "lines"))
    assert how[0].operations == 2 * 8 * 64 * 3 * 64 * 32
    assert "dots" in how[0].able
    with jaxconv.lowering("xla"):
        how = jaxconv.explain_lowering(x, w, (2,), "SAME", None, None, ("NWC", "WIO", "NWC"), platform="cpu")
    assert [one.because for one in how] == ["asked for"] * 3


def test_what_goes_to_xla_unchanged_has_nothing_to_explain():
    with pytest.raises(TypeError, match="goes to XLA unchanged"):
        jaxconv.explain_lowering(jnp.ones((2, 4, 8)), jnp.ones((2, 4, 3)), (1,), "SAME", batch_group_count=2)


# -- what must survive


@pytest.mark.parametrize("groups", [8, 32])
def test_a_grouped_convolution_sharded_by_batch_gathers_no_batch(groups):
    devices = jax.devices()
    assert len(devices) == 8
    mesh = Mesh(np.array(devices), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    by_batch, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in (("batch",), ()))
    x = jax.ShapeDtypeStruct((16, 20, 32), np.float32, sharding=by_batch)
    w = jax.ShapeDtypeStruct((3, 32 // groups, 32), np.float32, sharding=whole)

    def loss(x, w):
        return jnp.sum(jnp.sin(jaxconv.conv1d(x, w, padding="same")))

    text = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(x, w).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text  # the kernel gradient sums over the batch


def test_a_symbolic_batch_goes_through_every_default_choice():
    (n,) = jax.export.symbolic_shape("n")
    for x, w, groups in [
        ((n, 9, 9, 4), (3, 3, 1, 4), 4),
        ((n, 9, 9, 8), (3, 3, 4, 8), 2),
        ((n, 9, 9, 20), (3, 3, 20, 20), 1),
        ((n, 9, 9, 3), (3, 3, 3, 20), 1),
        ((n, 1, 9, 20), (1, 3, 20, 2), 1),
        ((n, 5, 6, 7, 3), (3, 3, 3, 3, 8), 1),
        ((n, 5, 6, 7, 8), (3, 3, 3, 8, 3), 1),
        ((n, 5, 6, 7, 30), (3, 3, 3, 30, 30), 1),
        ((n, 5, 6, 7, 4), (5, 3, 3, 4, 30), 1),
    ]:

        def loss(x, w, groups=groups):
            axes = "DHW"[5 - len(x.shape) :]
            strides, dims = (2, 1, 1)[: len(axes)], (f"N{axes}C", f"{axes}IO", f"N{axes}C")
            return jnp.sum(jaxconv.conv_general_dilated(x, w, strides, "SAME", None, None, dims, groups) ** 2)

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        exported = jax.export.export(gradient)(*(jax.ShapeDtypeStruct(shape, np.float32) for shape in (x, w)))
        rng = np.random.default_rng(0)
        arrays = [
            jnp.asarray(rng.standard_normal((3, *x[1:])), np.float32),
            jnp.asarray(rng.standard_normal(w), np.float32),
        ]
        for got, want in zip(exported.call(*arrays), gradient(*arrays), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-3, rtol=1e-5)


CASES = [
    ((2, 64, 16), (5, 16, 16), 1, 1),
    ((2, 20, 20, 32), (3, 3, 32, 32), 1, 1),
    ((2, 21, 21, 16), (3, 3, 16, 32), 2, 1),
    ((2, 24, 24, 16), (3, 3, 1, 16), 1, 16),
    ((2, 16, 16, 32), (3, 3, 4, 32), 1, 8),
    ((1, 10, 10, 10, 16), (3, 3, 3, 16, 16), 1, 1),
    ((2, 8, 20, 20, 3), (3, 3, 3, 3, 32), 1, 1),
    ((2, 12, 12, 12, 16), (3, 3, 3, 16, 32), 2, 1),
    ((2, 24, 24, 64), (3, 3, 64, 3), 1, 1),
    ((2, 1024, 8), (512, 1, 8), 1, 8),
]


def gradients(conv, strides, groups, rank):
    axes = "DHW"[3 - rank :]

    def run(x, w, dy):
        call = functools.partial(
            conv, window_strides=(strides,) * rank, padding="SAME", feature_group_count=groups,
            dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        )  # fmt: skip
        y, vjp = jax.vjp(call, x, w)
        return y, *vjp(dy)

    return run


@pytest.mark.parametrize(("x", "w", "strides", "groups"), CASES)
def test_default_lowerings_are_as_accurate_as_lax(x, w, strides, groups, x64):
    rng, rank = np.random.default_rng(0), len(x) - 2
    x, w = rng.standard_normal(x), rng.standard_normal(w)
    ours, theirs = (
        gradients(conv, strides, groups, rank) for conv in (jaxconv.conv_general_dilated, lax.conv_general_dilated)
    )
    dy = rng.standard_normal((x.shape[0], *(-(-n // strides) for n in x.shape[1:-1]), w.shape[-1]))
    exact = jax.jit(theirs)(x, w, dy)
    single = [np.asarray(v, np.float32) for v in (x, w, dy)]
    for want, got, other in zip(exact, jax.jit(ours)(*single), jax.jit(theirs)(*single), strict=True):
        # root mean squares, which one unlucky sum does not decide
        error, allowed = (float(np.sqrt(np.mean((np.asarray(v, np.float64) - want) ** 2))) for v in (got, other))
        assert error <= 2 * allowed


@pytest.mark.parametrize(("x", "w", "strides", "groups"), CASES)
def test_a_compiled_gradient_needs_at_most_three_times_its_arguments_and_results(x, w, strides, groups):
    scale = 1 if len(x) > 3 else 4  # small arrays measure the program's constants
    x = (x[0] * scale, *x[1:])
    run = gradients(jaxconv.conv_general_dilated, strides, groups, len(x) - 2)
    y = (x[0], *(-(-n // strides) for n in x[1:-1]), w[-1])
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (x, w, y)]
    memory = jax.jit(run).lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes <= 3 * (memory.argument_size_in_bytes + memory.output_size_in_bytes)


def test_a_backward_pass_prepares_nothing_during_the_forward_pass():
    # what K needs besides its operands would be in memory once for each layer
    def temporary(layers):
        def loss(kernels, x):
            for w in kernels:
                x = jax.nn.relu(jaxconv.conv2d(x, w, padding="same"))
            return jnp.sum(x)

        shapes = [jax.ShapeDtypeStruct((3, 3, 256, 256), np.float32)] * layers
        x = jax.ShapeDtypeStruct((4, 14, 14, 256), np.float32)
        return jax.jit(jax.grad(loss)).lower(shapes, x).compile().memory_analysis().temp_size_in_bytes

    x = 4 * 4 * 14 * 14 * 256
    assert temporary(6) - temporary(3) <= 3 * 3 * x  # of each layer its input, and what is left of its output


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_are_summed_in_float32(dtype):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((1, 12, 12, 64), (3, 3, 64, 64)))
    got = jaxconv.conv2d(x, w, padding="same")
    want = jax.lax.conv_general_dilated(
        x.astype(np.float32), w.astype(np.float32), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert got.dtype == dtype
    # one rounding, of the result
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=float(jnp.finfo(dtype).eps), atol=1e-3)
