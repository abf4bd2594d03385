"""``jaxconv.accelerate``: the convolutions of ``jax.lax``, compiled by jaxconv's lowerings, keep their values."""

import importlib.util
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxconv
from jaxconv.kernels import acceleration
from tests.kernels.test_general import all_orders, all_orders_by_definition, draw

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 9, 8)), "float32")
W = jnp.asarray(np.random.default_rng(1).standard_normal((8, 1, 3, 3)), "float32")


def grouped(x, w, **options):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=x.shape[1] // w.shape[1], **options)


def convolutions(function, *operands):
    """Return how many convolutions of XLA the program of a function contains, compiled anew."""
    return jax.jit(lambda *a: function(*a)).lower(*operands).as_text().count("stablehlo.convolution")


@pytest.fixture(autouse=True)
def afterwards():
    """Leave the process as it was."""
    yield
    jaxconv.accelerate(False)


@pytest.fixture
def maps(monkeypatch):
    """Return the list of (map, lowering) that were chosen since."""
    found, choose = [], acceleration.choice.choose

    def listen(name, *arguments, **options):
        chosen = choose(name, *arguments, **options)
        found.append((name, chosen.lowering))
        return chosen

    monkeypatch.setattr(acceleration.choice, "choose", listen)
    return found


def assert_alike(got, want, rtol=1e-5):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        scale = max(1.0, float(jnp.abs(other).max(initial=0)))
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale)


# -- values


@pytest.mark.parametrize("seed", [0, 3, 7, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(400, 520))])
def test_values_and_derivatives_are_those_of_the_definition_on_random_options(seed, maps):
    x, w, options = draw(seed)
    want = all_orders_by_definition(seed)
    with jaxconv.accelerate():
        got = all_orders(lax.conv_general_dilated, x, w, options)
    assert_alike(got, want, 2e-4)  # the derivative of a gradient is a sum with cancellation, in float32
    assert maps or x.size == 0 or w.size == 0 or len(options["window_strides"]) > 3


@pytest.mark.parametrize("batch_group_count", [2, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_batch_group_count_is_a_kernel_gradient(batch_group_count, dilation, maps):
    x, y = X.reshape(8, 2, 9, 8), jnp.ones((8, 2, 5, 4))

    def correlate(x, y):
        return lax.conv_general_dilated(
            x, y, (1, dilation), [(1, 1), (0, 2)], rhs_dilation=(dilation, 1), batch_group_count=batch_group_count
        )

    want = jax.jit(lambda x, y: correlate(x, y))(x, y)
    with jaxconv.accelerate():
        assert_alike(jax.jit(correlate)(x, y), want)
    assert {name for name, _ in maps} == {"correlate"}


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_recognised_as_the_maps_that_they_are(layout, groups, stride, monkeypatch):
    x, w = ((2, 12, 12, 8), (3, 3, 8 // groups, 8)) if layout == "NHWC" else ((2, 8, 12, 12), (8, 8 // groups, 3, 3))
    spec = (layout, "HWIO" if layout == "NHWC" else "OIHW", layout)
    found, as_map = [], acceleration.as_map

    def listen(*avals, **params):
        found.append(as_map(*avals, **params))
        return found[-1]

    monkeypatch.setattr(acceleration, "as_map", listen)

    def loss(x, w):
        y = lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=spec, feature_group_count=groups)
        return jnp.sum(y * y)

    with jaxconv.accelerate():
        jax.jit(jax.grad(loss, (0, 1))).lower(jnp.ones(x), jnp.ones(w))
    assert sorted(name for name, _ in found) == ["convolve", "convolve", "correlate"]
    (gradient,) = [geometry for name, geometry in found if name == "correlate"]
    assert (gradient.groups, gradient.strides, gradient.w_lengths) == (groups, (stride, stride), (3, 3))
    assert [geometry.lhs_dilation for name, geometry in found if name == "convolve"].count((stride, stride)) >= 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64", "int32"])
def test_every_dtype_keeps_its_values(dtype, x64):
    x, w = (jnp.round(4 * v).astype(dtype) for v in (X, W))
    want = jax.jit(lambda: grouped(x, w))()
    with jaxconv.accelerate():
        got = jax.jit(lambda: grouped(x, w))()
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)


def test_empty_symbolic_and_four_dimensional_operands_are_left_to_xla():
    def line(x, w):
        return lax.conv_general_dilated(x, w, (1,), "SAME")

    with jaxconv.accelerate():
        assert jax.jit(line)(jnp.ones((2, 3, 0)), jnp.ones((4, 3, 3))).shape == (2, 4, 0)
        shape = jax.export.symbolic_shape("b, 3, n")
        jax.export.export(jax.jit(line))(jax.ShapeDtypeStruct(shape, "float32"), jnp.ones((4, 3, 3)))
        x, w = jnp.ones((1, 2, 3, 3, 3, 3)), jnp.ones((2, 2, 2, 2, 2, 2))
        assert jax.jit(lambda: lax.conv(x, w, (1,) * 4, "VALID"))().shape == (1, 2, 2, 2, 2, 2)


# -- where it holds


def test_a_small_product_does_not_come_back():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 26, 21, 64), (1, 1, 64, 48)))

    def conv(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    with jaxconv.accelerate():
        lowered = jax.jit(conv).lower(x, w)
    # a convolution of one axis
    assert "dim_numbers = [b, 0, f]x[0, i, o]->[b, 0, f]" in lowered.as_text()
    np.testing.assert_allclose(lowered.compile()(x, w), np.einsum("nhwc,cf->nhwf", x, w[0, 0]), rtol=1e-4, atol=1e-4)


def test_it_holds_for_the_process_until_it_is_ended():
    assert convolutions(grouped, X, W) == 1
    jaxconv.accelerate()
    jaxconv.accelerate()
    assert convolutions(grouped, X, W) == 0
    seen = []
    other = threading.Thread(target=lambda: seen.append(convolutions(grouped, X, W)))
    other.start()
    other.join()
    jaxconv.accelerate(False)
    assert seen == [0]
    assert convolutions(grouped, X, W) == 1


def test_a_block_holds_for_its_thread_and_is_undone_after_an_error():
    seen = []
    with pytest.raises(KeyError), jaxconv.accelerate():
        assert convolutions(grouped, X, W) == 0
        other = threading.Thread(target=lambda: seen.append(convolutions(grouped, X, W)))
        other.start()
        other.join()
        with jaxconv.accelerate(False):
            assert convolutions(grouped, X, W) == 1
        assert convolutions(grouped, X, W) == 0
        raise KeyError
    assert seen == [1]
    assert convolutions(grouped, X, W) == 1
    jaxconv.accelerate()
    with jaxconv.accelerate(False):
        assert convolutions(grouped, X, W) == 1
    assert convolutions(grouped, X, W) == 0


def test_a_compiled_function_keeps_its_program_wherever_it_is_called():
    before, inside = (jax.jit(lambda x, w: grouped(x, w)) for _ in range(2))
    plain = before(X, W)
    with jaxconv.accelerate():
        np.testing.assert_array_equal(before(X, W), plain)
        fast = inside(X, W)
    np.testing.assert_array_equal(inside(X, W), fast)
    assert before._cache_size() == inside._cache_size() == 1
    assert_alike(fast, plain)


def test_a_convolution_that_a_lowering_leaves_to_xla_does_not_come_back(maps):
    def requested(x, w):
        with jaxconv.lowering("xla"):
            return jaxconv.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=8)

    want = jax.jit(lambda x, w: grouped(x, w))(X, W)
    jaxconv.accelerate()
    text = jax.jit(requested).lower(X, W).as_text()
    assert text.count("stablehlo.convolution") == 1
    both = jax.jit(lambda x, w: (requested(x, w), grouped(x, w)))  # equal parameters: JAX must not mix them up
    assert both.lower(X, W).as_text().count("stablehlo.convolution") == 1
    assert_alike(both(X, W), (want, want))


@pytest.mark.parametrize("platforms", [("cuda",), ("tpu",), ("cpu", "cuda", "tpu")])
def test_programs_for_other_platforms_are_untouched(platforms):
    programs = set()
    for enabled in (False, True):
        jaxconv.accelerate(enabled)
        function = jax.jit(lambda x, w: grouped(x, w))
        programs.add(str(jax.export.export(function, platforms=platforms)(X, W).mlir_module()))
    assert len(programs) == 1


def test_programs_over_several_devices_are_left_to_the_partitioner_and_local_ones_are_not():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data")))
    local = jax.shard_map(
        grouped, mesh=mesh, in_specs=(PartitionSpec("data"), PartitionSpec()), out_specs=PartitionSpec("data")
    )
    want = jax.jit(lambda x, w: grouped(x, w))(X, W)
    with jaxconv.accelerate():
        assert convolutions(grouped, x, W) == 1
        assert convolutions(local, X, W) == 0
        assert_alike(jax.jit(grouped)(x, W), want)
        assert_alike(jax.jit(local)(X, W), want)


def test_flax_is_accelerated_without_a_change():
    layer = nn.Conv(8, (3, 3), feature_group_count=8)
    x = jnp.moveaxis(X, 1, -1)
    params = layer.init(jax.random.key(0), x)

    def loss(params, x):
        return jnp.sum(jnp.sin(layer.apply(params, x)))

    want = jax.jit(lambda p, x: jax.grad(loss)(p, x))(params, x)
    with jaxconv.accelerate():
        assert convolutions(jax.grad(loss), params, x) == 0
        assert_alike(jax.jit(jax.grad(loss))(params, x), want)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["conv_transpose_test.py", "depthwise_conv_test.py", "separable_conv_test.py"])
def test_keras_s_own_tests_pass(file):
    """Run a file of tests from the installed Keras, in a process that is accelerated."""
    folder = Path(importlib.util.find_spec("keras").origin).parent / "src" / "layers" / "convolutional"
    code = (
        "import sys, jaxconv, pytest; jaxconv.accelerate();"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--import-mode=importlib', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / file], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_function_is_not_an_argument():
    with pytest.raises(TypeError, match=r"enabled=.*grouped.*accelerate\(\)"):
        jaxconv.accelerate(grouped)
    assert convolutions(grouped, X, W) == 1


# -- another JAX


def test_a_jax_with_other_parameters_is_left_alone_with_a_warning(monkeypatch):
    monkeypatch.setattr(acceleration, "_is_installed", False)
    monkeypatch.setattr(acceleration, "PARAMETERS", {"window_strides"})
    with pytest.warns(UserWarning, match=rf"jax {jax.__version__}"):
        jaxconv.accelerate()
    assert convolutions(grouped, X, W) == 1
    with warnings.catch_warnings(), pytest.warns(UserWarning, match="accelerate"), jaxconv.accelerate():
        assert convolutions(grouped, X, W) == 1
