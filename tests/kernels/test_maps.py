"""The three bilinear maps: values against the definition in float64, and every transformation of JAX over them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxconv import kernels
from jaxconv.geometry import Geometry
from jaxconv.kernels.maps import SIGNATURES
from tests.support import reference

MAPS = {name: getattr(kernels, name) for name in SIGNATURES}
SEEDS = range(8)
# jaxlib 0.10.2 aborts the process on the input gradient of this convolution in float64, called through jax.lax as well
XLA_ABORTS = {278}

# a strided, dilated, grouped, cropped convolution in two dimensions: nothing in it is symmetric
GEOMETRY = Geometry(
    (7, 6), (3, 2), (2, 1), ((2, 1), (-1, 3)), (1, 2), (2, 3), 2, (0, 3, 1, 2), (3, 2, 0, 1), (0, 1, 2, 3)
)
OUTER = (2, 3, 2)


def operands(name, geometry, outer, rng, dtype=np.float64):
    arrays = []
    for letter in SIGNATURES[name][:2]:
        array = rng.standard_normal(reference.shape(letter, geometry, outer))
        if np.issubdtype(dtype, np.complexfloating):
            array = array + 1j * rng.standard_normal(array.shape)
        arrays.append(jnp.asarray(array, dtype))
    return arrays


def fixed_operands(name, dtype=np.float32):
    return operands(name, GEOMETRY, OUTER, np.random.default_rng(0), dtype)


def close(got, want, factor=1.0):
    """Compare to a few roundings of the sums' size; ``factor`` for sums of sums."""
    want = np.asarray(want)
    eps = float(jnp.finfo(got.dtype).eps)
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(
        np.asarray(got, np.result_type(want.dtype, np.float64)), want, atol=32 * factor * eps * scale, rtol=0
    )


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", SEEDS)
def test_maps_and_their_transposes_agree_with_the_definition(seed, x64):
    rng = np.random.default_rng(seed)
    geometry, outer = reference.random_geometry(rng)
    arrays = {v: rng.standard_normal(reference.shape(v, geometry, outer)) for v in "xwy"}
    for name, (first, second, third) in SIGNATURES.items():
        a, b, cotangent = (jnp.asarray(arrays[v]) for v in (first, second, third))
        y, vjp = jax.vjp(lambda a, b, name=name: MAPS[name](a, b, geometry), a, b)
        close(y, reference.evaluate(name, a, b, geometry))
        for letter, gradient in zip((first, second), vjp(cotangent), strict=True):
            other = next(n for n, s in SIGNATURES.items() if s[2] == letter)
            close(gradient, reference.evaluate(other, *(arrays[v] for v in SIGNATURES[other][:2]), geometry))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [seed for seed in (*range(8, 24), *range(100, 400)) if seed not in XLA_ABORTS])
def test_maps_agree_with_the_definition_on_many_geometries(seed, x64):
    test_maps_and_their_transposes_agree_with_the_definition(seed, None)


@pytest.mark.few(3)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "complex64"])
@pytest.mark.parametrize("name", MAPS)
def test_every_dtype_computes_values_and_derivatives(name, dtype, x64):
    a, b = fixed_operands(name, jnp.dtype(dtype))
    y, vjp = jax.vjp(lambda a, b: MAPS[name](a, b, GEOMETRY), a, b)
    wide = np.complex128 if dtype == "complex64" else np.float64
    arrays = dict(zip(SIGNATURES[name], (np.asarray(v, wide) for v in (a, b, y)), strict=True))
    results = dict(zip(SIGNATURES[name], (*vjp(y), y), strict=True))
    for other, (first, second, third) in SIGNATURES.items():  # bilinear: no conjugate, as everywhere in JAX
        assert results[third].dtype == jnp.dtype(dtype)
        close(results[third], reference.evaluate(other, arrays[first], arrays[second], GEOMETRY))


@pytest.mark.parametrize("name", MAPS)
def test_a_wider_result_is_accumulated_and_differentiated_in_it(name):
    a, b = fixed_operands(name, jnp.bfloat16)

    def loss(a, b):
        return jnp.sum(MAPS[name](a, b, GEOMETRY, dtype=jnp.float32, precision="highest") ** 2)

    y = MAPS[name](a, b, GEOMETRY, dtype=jnp.float32)
    close(y, reference.evaluate(name, np.asarray(a, "f8"), np.asarray(b, "f8"), GEOMETRY))
    assert [g.dtype for g in jax.grad(loss, (0, 1))(a, b)] == [jnp.bfloat16, jnp.bfloat16]


@pytest.mark.few(1)
@pytest.mark.parametrize("name", MAPS)
def test_derivatives_to_third_order_agree_with_finite_differences(name, x64):
    a, b = fixed_operands(name, np.float64)
    # cubic in the output, so that no derivative up to the third is zero by accident
    check_grads(lambda a, b: jnp.sum(MAPS[name](a, b, GEOMETRY) ** 3), (a, b), order=3, rtol=1e-3)


def test_hessian_and_forward_over_reverse_agree(x64):
    geometry = Geometry((5,), (3,), (2,), ((1, 1),), (1,), (1,), 1, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    rng = np.random.default_rng(0)
    x, w = operands("convolve", geometry, (1, 2, 2), rng)

    def loss(w):
        return jnp.sum(jnp.tanh(kernels.convolve(x, w, geometry)))

    hessian = jax.hessian(loss)(w).reshape(w.size, w.size)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    direction = jnp.asarray(rng.standard_normal(w.shape))
    tangent = jax.jvp(jax.grad(loss), (w,), (direction,))[1]
    np.testing.assert_allclose(hessian @ direction.ravel(), tangent.ravel(), atol=1e-12)


@pytest.mark.few(2)
@pytest.mark.parametrize("axes", [(0, None), (None, 1), (2, 0), (-1, -1)])
@pytest.mark.parametrize("name", MAPS)
def test_vmap_equals_a_loop(name, axes):
    a, b = (
        v if axis is None else jnp.stack([v, 2 * v, v - 1], axis)
        for v, axis in zip(fixed_operands(name), axes, strict=True)
    )
    batched = jax.vmap(lambda a, b: MAPS[name](a, b, GEOMETRY), in_axes=axes)(a, b)
    for i in range(3):
        one = [v if axis is None else jnp.take(v, i, axis) for v, axis in zip((a, b), axes, strict=True)]
        close(batched[i], MAPS[name](*one, GEOMETRY))


@pytest.mark.parametrize("name", MAPS)
def test_vmap_twice_and_of_gradients_equals_loops(name):
    a, b = fixed_operands(name)
    aa, bb = jnp.stack([a, a + 1]), jnp.stack([b, -b, b * 3])

    def gradients(a, b):
        return jax.grad(lambda a, b: jnp.sum(jnp.sin(MAPS[name](a, b, GEOMETRY))), (0, 1))(a, b)

    def outer(function):
        return jax.vmap(jax.vmap(function, (None, 0)), (0, None))(aa, bb)

    values, grads = jax.jit(lambda: (outer(lambda a, b: MAPS[name](a, b, GEOMETRY)), outer(gradients)))()
    both = jax.jit(lambda a, b: (MAPS[name](a, b, GEOMETRY), gradients(a, b)))
    for i in range(2):
        for j in range(3):
            value, (ga, gb) = both(aa[i], bb[j])
            close(values[i, j], value)
            close(grads[0][i, j], ga, 4)  # the sine of sums, summed again
            close(grads[1][i, j], gb, 4)


@pytest.mark.parametrize("name", MAPS)
def test_vmap_over_an_empty_axis_is_empty(name):
    a, b = fixed_operands(name)
    out = jax.vmap(lambda a, b: MAPS[name](a, b, GEOMETRY), (0, None))(jnp.zeros((0, *a.shape)), b)
    assert out.shape == (0, *MAPS[name](a, b, GEOMETRY).shape)


@pytest.mark.parametrize("name", MAPS)
def test_checkpoint_and_scan_change_nothing(name):
    a, b = fixed_operands(name)

    def loss(a, b):
        return jnp.sum(jnp.sin(MAPS[name](a, b, GEOMETRY)))

    want = jax.grad(loss)(a, b)
    close(jax.grad(jax.checkpoint(loss))(a, b), want)

    def scanned(a, b):
        return jax.lax.scan(lambda total, scale: (total + loss(a * scale, b), None), 0.0, jnp.array([1.0, 1.0]))[0]

    close(jax.jit(jax.grad(scanned))(a, b), 2 * want, 4)


@pytest.mark.parametrize("name", MAPS)
def test_disable_jit_computes_the_same(name):
    a, b = fixed_operands(name)
    want = MAPS[name](a, b, GEOMETRY)
    with jax.disable_jit():
        close(MAPS[name](a, b, GEOMETRY), want)


def test_export_serves_cpu_cuda_and_tpu_with_a_symbolic_batch():
    x, w = fixed_operands("convolve")

    @jax.jit
    def step(x, w):
        y, vjp = jax.vjp(lambda x, w: kernels.convolve(x, w, GEOMETRY), x, w)
        return y, *vjp(y)

    batch = jax.export.symbolic_shape("b")[0]
    args = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), jax.ShapeDtypeStruct(w.shape, w.dtype)
    exported = jax.export.export(step, platforms=["cpu", "cuda", "tpu"])(*args)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    for got, want in zip(exported.call(x, w), step(x, w), strict=True):
        close(got, want)


def test_shard_map_over_the_batch_gives_the_same_values_and_gradients():
    mesh = Mesh(np.array(jax.devices()[:4]), "d")
    x, w = operands("convolve", GEOMETRY, (8, *OUTER[1:]), np.random.default_rng(0), np.float32)
    P = PartitionSpec

    def local(x, w):
        return jax.lax.psum(jnp.sum(jnp.sin(kernels.convolve(x, w, GEOMETRY))), "d")

    sharded = jax.shard_map(local, mesh=mesh, in_specs=(P("d"), P()), out_specs=P())
    value, grads = jax.jit(jax.value_and_grad(sharded, (0, 1)))(x, w)
    want, want_grads = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(kernels.convolve(x, w, GEOMETRY))), (0, 1))(x, w)
    close(value, want, 4)
    for got, one in zip(grads, want_grads, strict=True):
        close(got, one, 4)


def test_a_batch_sharded_over_devices_stays_sharded():
    mesh = Mesh(np.array(jax.devices()), "d")
    x, w = operands("convolve", GEOMETRY, (8, *OUTER[1:]), np.random.default_rng(0), np.float32)
    want = kernels.convolve(x, w, GEOMETRY)
    place = NamedSharding(mesh, PartitionSpec("d"))
    got = jax.jit(lambda x, w: kernels.convolve(x, w, GEOMETRY), out_shardings=place)(jax.device_put(x, place), w)
    assert got.sharding.is_equivalent_to(place, got.ndim)
    close(got, want)


@pytest.mark.parametrize("lengths, outer", [((7, 6), (0, 3, 2)), ((1, 6), (2, 3, 2))])
def test_empty_batches_and_empty_outputs_have_zero_gradients(lengths, outer):
    geometry = dataclasses.replace(GEOMETRY, x_lengths=lengths, padding=((0, 0), (0, 0)))
    x, w = operands("convolve", geometry, outer, np.random.default_rng(0), np.float32)
    y, vjp = jax.vjp(lambda x, w: kernels.convolve(x, w, geometry), x, w)
    assert y.shape == reference.shape("y", geometry, outer) and y.size == 0
    gx, gw = vjp(y)
    assert gx.shape == x.shape and gw.shape == w.shape
    assert not gx.any() and not gw.any()


def lowered_precision(function, *arrays):
    return "HIGHEST" in jax.jit(function).lower(*arrays).as_text()


@pytest.mark.parametrize("name", MAPS)
def test_the_default_precision_is_that_in_force_where_the_map_is_called(name):
    a, b = fixed_operands(name)

    def inside(a, b):
        with jax.default_matmul_precision("highest"):  # closed again when jit lowers what was traced in it
            return MAPS[name](a, b, GEOMETRY)

    assert lowered_precision(inside, a, b)
    assert lowered_precision(jax.grad(lambda a, b: jnp.sum(inside(a, b) ** 2), (0, 1)), a, b)
    assert not lowered_precision(lambda a, b: MAPS[name](a, b, GEOMETRY), a, b)


@pytest.mark.few(1)
@pytest.mark.parametrize("groups", [1, 2])
def test_on_a_mesh_with_explicit_axes_values_gradients_and_shardings_are_those_of_lax(groups):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    rng = np.random.default_rng(0)
    geometry = Geometry((6,), (3,), (1,), ((1, 0),), (1,), (1,), groups, (0, 2, 1), (2, 1, 0), (0, 2, 1))
    x, w = operands("convolve", geometry, (8, 2, 2), rng, np.float32)
    spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("d")))
    everywhere = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))

    def loss(x, w):
        return jnp.sum(jnp.sin(kernels.convolve(x, w, geometry)))

    wanted = jax.grad(loss, (0, 1))(x, w)
    nested = jax.grad(jax.jit(jax.checkpoint(jax.jit(loss))), (0, 1))
    with jax.set_mesh(mesh):
        results = [jax.jit(gradient)(spread, everywhere) for gradient in (jax.grad(loss, (0, 1)), nested)]
    for got in results:
        assert [jax.typeof(g).sharding.spec[0] for g in got] == ["d", None]
        for one, want in zip(got, wanted, strict=True):
            close(one, want, 4)
