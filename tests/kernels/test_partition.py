"""The maps in programs for several devices: the results of one device, with only the necessary communication."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxconv
from jaxconv import kernels
from jaxconv.geometry import Geometry
from jaxconv.kernels.halo import Blocks, Halo, Shards, axes_of, collect, exchange
from jaxconv.kernels.maps import SIGNATURES
from tests.support import reference
from tests.support.sharded import AXES, compiled, moved, on

P = PartitionSpec
MESHES = [((8,), ("a",)), ((2, 4), ("a", "b")), ((4, 2), ("b", "a"))]


def random_spec(rng, shape, mesh):
    """Return a sharding that divides the shape: each axis of the mesh on some axis of the array, or on none."""
    entries = [()] * len(shape)
    for name in mesh.axis_names:
        axis = int(rng.integers(-1, len(shape)))
        if axis >= 0 and shape[axis] % (mesh.shape[name] * int(np.prod([mesh.shape[n] for n in entries[axis]]))) == 0:
            entries[axis] = (*entries[axis], name) if rng.random() < 0.5 else (name, *entries[axis])
    return NamedSharding(mesh, P(*(entry or None for entry in entries)))


def divisible_geometry(rng):
    """Return a geometry as layers make them, with lengths that eight devices divide, and outer sizes."""
    rank = int(rng.integers(1, 3))
    strides = rng.integers(1, 4, rank) if rng.random() < 0.7 else [1] * rank
    dilations, input_dilations = rng.integers(1, 3, rank), [1] * rank
    if rng.random() < 0.3:
        strides, input_dilations = [1] * rank, rng.integers(1, 4, rank)
    taps = rng.integers(1, 6, rank)
    x = [8 * int(s) * int(rng.integers(1, 3)) for s in strides]
    extents = [(int(k) - 1) * int(d) + 1 for k, d in zip(taps, dilations, strict=True)]
    padding = tuple(
        [(max(e - int(s), 0) // 2, max(e - int(s), 0) - max(e - int(s), 0) // 2), (e - 1, 0), (0, 0), (-1, e)][
            int(kind)
        ]
        for e, s, kind in zip(extents, strides, rng.integers(0, 4, rank), strict=True)
    )
    last = rng.random() < 0.5
    spatial = tuple(range(1, rank + 1)) if last else tuple(range(2, rank + 2))
    dims = (0, rank + 1, *spatial) if last else (0, 1, *spatial)
    geometry = Geometry(
        tuple(x), tuple(map(int, taps)), tuple(map(int, strides)), padding, tuple(map(int, input_dilations)),
        tuple(map(int, dilations)), int(rng.choice([1, 1, 2])), dims, (rank + 1, rank, *range(rank)), dims,
    )  # fmt: skip
    return geometry, (8, 2, 4)


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(120))
def test_maps_and_their_transposes_of_any_sharding_agree_with_the_definition(seed, x64):
    rng = np.random.default_rng(seed)
    geometry, outer = divisible_geometry(rng) if seed % 3 else reference.random_geometry(rng)
    shape, names = MESHES[seed % len(MESHES)]
    mesh = jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))
    arrays = {v: rng.standard_normal(reference.shape(v, geometry, outer)) for v in "xwy"}
    placed = {v: jax.device_put(array, random_spec(rng, array.shape, mesh)) for v, array in arrays.items()}

    for name, (first, second, third) in SIGNATURES.items():

        def both(a, b, cotangent, name=name):
            y, vjp = jax.vjp(lambda a, b: getattr(kernels, name)(a, b, geometry), a, b)
            return y, vjp(cotangent)

        gots = jax.jit(both)(placed[first], placed[second], placed[third])
        wants = both(arrays[first], arrays[second], arrays[third])
        for got, want in zip(jax.tree.leaves(gots), jax.tree.leaves(wants), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-10, rtol=1e-10)


# a layer, the shape of its input, and how many numbers a shard of the first spatial axis needs of its neighbours in the
# forward pass, and for the gradients besides
SPATIAL = {
    "dense": (jaxconv.Conv2D(4, 3, padding="same"), (8, 16, 4, 4), 2 * 8 * 4 * 4, 2 * 8 * 4 * 4),
    "few filters": (jaxconv.Conv2D(2, 3, padding="same"), (8, 16, 4, 8), 2 * 8 * 4 * 8, 2 * 8 * 4 * 2),
    "few channels": (jaxconv.Conv2D(8, 3, padding="same"), (8, 16, 4, 2), 2 * 8 * 4 * 2, 2 * 8 * 4 * 2),
    "grouped": (jaxconv.Conv2D(8, 3, padding="same", groups=4), (8, 16, 4, 8), 2 * 8 * 4 * 8, 2 * 8 * 4 * 8),
    "depthwise": (jaxconv.DepthwiseConv2D(5, padding="same"), (8, 16, 4, 8), 4 * 8 * 4 * 8, 4 * 8 * 4 * 8),
    "causal": (jaxconv.Conv1D(8, 3, dilation_rate=4, padding="causal"), (8, 64, 8), 8 * 8 * 8, 8 * 8 * 8),
    "longer than a shard": (jaxconv.Conv1D(8, 33, padding="causal"), (8, 64, 8), 32 * 8 * 8, 32 * 8 * 8),
    "strides": (jaxconv.Conv1D(8, 3, strides=2, padding="same"), (8, 64, 8), 1 * 8 * 8, 1 * 8 * 8),
    "patches": (jaxconv.Conv2D(8, 2, strides=2), (8, 16, 4, 4), 0, 0),
    "transposed": (jaxconv.Conv1DTranspose(8, 3, strides=2, padding="same"), (8, 16, 8), 8 * 8, 8 * 8),
    # the first output of a shard reads the step before it, the last output the step behind it
    "transposed, both sides": (jaxconv.Conv1DTranspose(8, 4, strides=2, padding="same"), (8, 16, 8), 2 * 64, 2 * 64),
    "dilated": (jaxconv.Conv2D(4, 3, dilation_rate=2, padding="same"), (8, 16, 4, 4), 4 * 128, 4 * 128),
    "one channel": (jaxconv.Conv1D(8, 8, padding="same"), (8, 64, 1), 7 * 8, 7 * 8),
    "volume": (jaxconv.Conv3D(4, 3, padding="same"), (8, 16, 4, 4, 2), 2 * 256, 2 * 256),
    "separable": (jaxconv.SeparableConv2D(8, 3, padding="same"), (8, 16, 4, 4), 2 * 128, 2 * 128),
    "grouped, strides": (jaxconv.Conv2D(8, 3, 2, padding="same", groups=4), (8, 16, 4, 8), 256, 128),
    "fourier": (jaxconv.DepthwiseConv1D(1024, padding="causal"), (8, 2048, 2), 1023 * 16, 1023 * 16),
    "fourier, dense": (jaxconv.Conv1D(4, 1024, padding="same"), (8, 2048, 1), 1023 * 8, 1023 * 8),
    "one tap, strides": (jaxconv.Conv2D(8, 1, 2), (8, 16, 4, 4), 0, 0),
    "one tap": (jaxconv.Conv2D(8, 1), (8, 16, 4, 4), 0, 0),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("axes", AXES)
def test_a_spatial_axis_moves_halos_and_one_sum(name, axes):
    layer, shape, forward, backward = SPATIAL[name]
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES[axes],))
    (output, gradients), params = compiled(layer, shape, mesh, (None, "d"))
    assert moved(output).get("collective-permute", 0) == 4 * forward
    assert moved(gradients).pop("collective-permute", 0) == 4 * (forward + backward)
    assert {k: v for k, v in moved(gradients).items() if k != "collective-permute"} == {"all-reduce": params}


@pytest.mark.few(1)
@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("axes", AXES)
def test_a_sharded_batch_moves_one_sum(name, axes):
    layer, shape, *_ = SPATIAL[name]
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES[axes],))
    (output, gradients), params = compiled(layer, shape, mesh, ("d",))
    assert moved(output) == {} and moved(gradients) == {"all-reduce": params}


@pytest.mark.slow
def test_every_transformation_of_a_sharded_convolution_gives_the_numbers_of_one_device(x64):
    layer = jaxconv.Conv2D(4, 3, strides=2, padding="same", groups=2, dtype="float64")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 16, 4, 4))
    params, apply_fn = layer.init(jax.random.key(0), x.shape[1:])

    def loss(params, x):
        return jnp.sum(jnp.sin(jax.checkpoint(apply_fn, policy=jaxconv.convs_saveable)(params, x)))

    def everything(params, x):
        curve = jax.jvp(jax.grad(loss), (params, x[0]), (params, x[1]))[1]  # second order, forward over reverse
        each = jax.vmap(jax.grad(loss), (None, 1))(params, x)  # a gradient for each example
        steps = jax.lax.scan(
            lambda total, one: (total + loss(params, one), loss(params, one)), jnp.zeros((), x.dtype), x
        )
        return curve, each, steps

    mesh = jax.make_mesh((2, 4), ("n", "h"), axis_types=(AxisType.Auto,) * 2)
    gots = jax.jit(everything)(params, jax.device_put(x, on(mesh, None, "n", "h")))
    for got, want in zip(jax.tree.leaves(gots), jax.tree.leaves(everything(params, x)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-10, rtol=1e-10)


def test_an_axis_of_two_meshes_axes_and_one_that_is_sharded_twice():
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 2)).astype(np.float32)
    params, apply_fn = jaxconv.Conv2D(4, 3, padding="same").init(jax.random.key(0), x.shape)
    mesh = jax.make_mesh((2, 2, 2), ("a", "b", "c"), axis_types=(AxisType.Auto,) * 3)
    for spec in [(None, ("a", "b"), "c"), ("b", ("c", "a")), (None, ("c", "b", "a")), ("a", "b", "c")]:
        program = jax.jit(apply_fn, out_shardings=on(mesh, *spec))
        arguments = params, jax.device_put(x, on(mesh, *spec))
        np.testing.assert_allclose(program(*arguments), apply_fn(params, x), atol=1e-5)
        assert "all-gather" not in program.lower(*arguments).compile().as_text()


@pytest.mark.few(1)
@pytest.mark.parametrize("halo", [Halo(1, 0), Halo(0, 2), Halo(5, 7), Halo(-1, 3), Halo(9, -3), Halo(-3, -1)])
def test_a_halo_spans_any_number_of_shards_and_its_transpose_adds(halo):
    x = np.arange(1.0, 33.0, dtype=np.float32)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    padded = np.concatenate([np.zeros(32), x, np.zeros(32)])
    wants = [padded[32 + 4 * i - halo.before : 36 + 4 * i + halo.after] for i in range(8)]

    def mapped(function):
        def local(x):
            return function(x, 0, halo, Shards(("d",), tuple(range(8))))

        return jax.shard_map(local, mesh=mesh, in_specs=P("d"), out_specs=P("d"))

    extended = mapped(exchange)(x)
    np.testing.assert_array_equal(extended, np.concatenate(wants))
    cotangent = np.random.default_rng(0).standard_normal(extended.shape).astype(np.float32)
    want = jax.linear_transpose(mapped(exchange), x)(cotangent)[0]
    np.testing.assert_allclose(mapped(collect)(cotangent), want, atol=1e-6)


def test_blocks_cover_an_axis():
    for seed in range(200):
        geometry, _ = reference.random_geometry(np.random.default_rng(seed))
        for axis in axes_of(geometry):
            blocks = Blocks.of(axis, 8)
            assert blocks.size * blocks.x >= axis.x and blocks.size * blocks.y >= axis.y
            assert (blocks.size == 1 or blocks.x * axis.dilation == blocks.y * axis.stride) and 8 % blocks.size == 0


def test_programs_that_hold_no_python_are_left_to_the_partitioner_of_xla():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    params, apply_fn = jaxconv.Conv1D(4, 3, padding="same").init(jax.random.key(0), (8, 16, 2))
    x = jax.device_put(jnp.ones((8, 16, 2)), on(mesh, "d"))
    exported = jax.export.export(jax.jit(apply_fn))(jax.device_put(params, on(mesh)), x)
    assert "CustomSPMDPartitioning" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(jax.device_put(params, on(mesh)), x), apply_fn(params, x), atol=1e-6)
