"""Layers on several devices: the results of one device, with no other communication than halos and sums."""

import jax
import numpy as np
import pytest

import jaxconv as jc
from tests.support.catalogue import CASES, flat, in_float64, inputs, map_shapes
from tests.support.sharded import AXES, compiled, moved, on

CLOSE = (1e-10, 1e-10)
F64 = {"dtype": "float64"}
HALO, SUM, GATHER = "collective-permute", "all-reduce", "all-gather"
# a layer, its input, and what the forward pass and the gradients besides it move ideally, in numbers: halos of the rows
# that windows read across the border of two shards, and of the gradients that these return; statistics; and of weights
# of places the gradients, which the test asks for on every device
SPATIAL = {
    "max": (jc.MaxPooling1D(3, 1, "same", **F64), (8, 16, 4), {HALO: 2 * 32}, {HALO: 2 * 32}),
    "max, strides": (jc.MaxPooling2D(3, 2, "same", **F64), (8, 16, 4, 2), {HALO: 64}, {HALO: 64}),
    "max, many": (jc.MaxPooling1D(9, 1, "same", **F64), (8, 16, 2), {HALO: 8 * 16}, {HALO: 8 * 16}),
    "max, no overlap": (jc.MaxPooling2D(2, **F64), (8, 16, 4, 2), {}, {}),
    "average": (jc.AveragePooling1D(3, 1, "same", **F64), (8, 16, 4), {HALO: 2 * 32}, {HALO: 2 * 32}),
    "average, strides": (jc.AveragePooling2D(3, 2, "same", **F64), (8, 16, 4, 2), {HALO: 64}, {HALO: 64}),
    "average, no overlap": (jc.AveragePooling3D(2, **F64), (8, 16, 2, 2, 2), {}, {}),
    "adaptive max": (jc.AdaptiveMaxPooling1D(8, **F64), (8, 16, 4), {}, {}),
    "adaptive average": (jc.AdaptiveAveragePooling1D(8, **F64), (8, 16, 4), {}, {}),
    "global max": (jc.GlobalMaxPooling1D(**F64), (8, 16, 4), {SUM: 32}, {SUM: 32 - 1}),
    "global average": (jc.GlobalAveragePooling2D(**F64), (8, 16, 2, 4), {SUM: 32}, {SUM: -1}),
    "reflect": (
        jc.Conv2D(2, 3, padding="same", padding_mode="reflect", **F64), (8, 16, 4, 2), {HALO: 128}, {HALO: 128}
    ),
    "replicate": (
        jc.Conv1D(2, 5, padding="same", padding_mode="replicate", **F64), (8, 32, 2), {HALO: 4 * 16}, {HALO: 4 * 16}
    ),
    "circular": (
        jc.DepthwiseConv1D(3, padding="same", padding_mode="circular", **F64), (8, 16, 4), {HALO: 64}, {HALO: 64}
    ),
    "nearest": (jc.UpSampling2D((2, 3), **F64), (8, 16, 4, 2), {}, {}),
    "bilinear": (jc.UpSampling2D(2, interpolation="bilinear", **F64), (8, 16, 4, 2), {HALO: 128}, {HALO: 2 * 128}),
    "bicubic": (jc.UpSampling1D(3, interpolation="bicubic", **F64), (8, 16, 4), {HALO: 4 * 32}, {HALO: 8 * 32}),
    "local": (jc.LocallyConnected1D(3, 3, padding="same", **F64), (8, 16, 4), {HALO: 2 * 32}, {HALO: 2 * 32}),
    "local, strides": (jc.LocallyConnected2D(2, 2, 2, **F64), (8, 16, 4, 2), {}, {}),
    "batch normalization": (jc.BatchNormalization(**F64), (8, 16, 4), {SUM: 8}, {SUM: 0}),
    "group normalization": (jc.GroupNormalization(2, **F64), (8, 16, 4), {SUM: 32}, {SUM: 32}),
    "instance normalization": (jc.InstanceNormalization(**F64), (8, 16, 4), {SUM: 64}, {SUM: 64}),
    "layer normalization": (jc.LayerNormalization(**F64), (8, 16, 4), {}, {}),
    "layer normalization of all": (
        jc.LayerNormalization([1, 2], center=False, scale=False, **F64), (8, 16, 4), {SUM: 16}, {SUM: 16}
    ),
}  # fmt: skip


def check(program, ideal):
    """Check that a program moves no kind of collective by more than a tenth beyond the ideal, in bytes."""
    assert {kind for kind, count in moved(program).items() if count > 1.1 * ideal.get(kind, 0)} == set(), moved(program)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("axes", AXES)
def test_a_sharded_axis_moves_halos_and_statistics(name, axes, x64):
    layer, shape, forward, backward = SPATIAL[name]
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES[axes],))
    (output, gradients), params = compiled(layer, shape, mesh, (None, "d"), CLOSE)
    check(output, {kind: 8 * count for kind, count in forward.items()})
    ideal = {kind: 8 * (forward.get(kind, 0) + backward.get(kind, 0)) for kind in (HALO, SUM)}
    places = params - 8 if isinstance(layer, jc.LocallyConnected1D | jc.LocallyConnected2D) else 0
    check(gradients, ideal | {SUM: ideal[SUM] + params - places, GATHER: places})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (jc.UpSampling2D(2, interpolation="bicubic", **F64), 4 * 64, 6 * 64),
        (jc.UpSampling2D((2, 1), interpolation="lanczos3", **F64), 6 * 64, 10 * 64),
    ],
)
def test_interpolation_with_many_weights_moves_halos_along_an_explicit_axis(layer, forward, backward, x64):
    """Which Auto axes are sharded is not known when a layer is traced; there the axis is gathered."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES["explicit"],))
    (output, gradients), _ = compiled(layer, (8, 16, 4, 2), mesh, (None, "d"), CLOSE)
    check(output, {HALO: 8 * forward})
    check(gradients, {HALO: 8 * (forward + backward), SUM: 8})


@pytest.mark.slow
def test_a_kernel_that_is_sharded_with_its_places_is_not_gathered():
    params, apply_fn = jc.LocallyConnected1D(3, 3, padding="same").init(jax.random.key(0), (8, 16, 4))
    mesh = jax.make_mesh((8,), ("d",))
    with jax.set_mesh(mesh):
        params = jax.device_put(params, on(mesh, "d"))
        x = jax.device_put(jax.numpy.ones((8, 16, 4)), on(mesh, None, "d"))
        step = jax.jit(jax.grad(lambda params, x: jax.numpy.sum(apply_fn(params, x) ** 2), (0, 1)))
        program = step.lower(params, x).compile()
    check(program, {HALO: 4 * 4 * 32})


@pytest.mark.slow
@pytest.mark.parametrize("axes", AXES)
def test_lengths_that_the_devices_do_not_divide_give_the_numbers_of_one_device(axes, x64):
    """24 steps on 8 devices become 12, 6, 13, 12, 14, 12 and 24."""
    layers = [
        jc.Conv1D(4, 3, strides=2, padding="same"), jc.MaxPooling1D(3, 2, "same"), jc.Conv1DTranspose(4, 3, strides=2),
        jc.Cropping1D((0, 1)), jc.ZeroPadding1D(1), jc.Conv1D(6, 3, groups=2),
        jc.UpSampling1D(2, interpolation="bilinear"),
    ]  # fmt: skip
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES[axes],))
    compiled(jc.Sequential(layers, **F64), (8, 24, 4), mesh, (None, "d"), CLOSE)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("axes", AXES)
def test_a_sharded_batch_moves_one_sum_and_statistics(name, axes, x64):
    layer, shape, *_ = SPATIAL[name]
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AXES[axes],))
    (output, gradients), params = compiled(layer, shape, mesh, ("d",), CLOSE)
    statistics = 8 * 2 * 4 if isinstance(layer, jc.BatchNormalization) else 0
    check(output, {SUM: statistics})
    check(gradients, {SUM: statistics + params})


def longer(case, length):
    """Return the shape of a case with eight examples and this length along the first spatial axis, and that axis."""

    def axis(shape):
        layer = case.layer
        first = getattr(layer, "data_format", None) == "channels_first" or getattr(layer, "axis", None) == 1
        return 2 if first and len(shape) > 2 and not isinstance(layer, jc.RMSNormalization | jc.Concatenate) else 1

    def change(shape):
        shape = [8, *shape[1:]]
        if len(shape) > 2:
            shape[axis(shape)] = length
        return tuple(shape)

    return map_shapes(change, case.shape), axis


OTHER_LENGTHS = ("reshape_vector", "dot", "model_two_outputs")  # fit their own shapes alone
LONG = [name for name in CASES if name not in OTHER_LENGTHS]


@pytest.mark.few(1)
@pytest.mark.parametrize("name", LONG)
def test_every_layer_takes_an_input_that_is_sharded_along_an_explicit_axis(name, x64):
    case = CASES[name]
    layer = in_float64(case.layer)
    shape, axis = longer(case, 8)
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
    params, apply_fn = layer.init(jax.random.key(0), shape)
    x = inputs(shape, dtype="float64")
    if any(isinstance(leaf, jc.Embedding) for leaf in flat(layer)) or "embedding" in name:
        x = jax.tree.map(lambda v: np.abs(np.asarray(v) * 2).astype("int32") % 5, x)
    spec = jax.tree.map(lambda v: on(mesh, *([] if v.ndim < 3 else [None] * axis(v.shape) + ["d"])), x)

    def loss(params, x):
        y, effects = apply_fn.forward(params, x, train=True, key=jax.random.key(1))
        return sum((jax.numpy.sin(leaf) ** 2).sum() for leaf in jax.tree.leaves(y)) + effects.penalty, (
            y,
            effects.fixed,
        )

    argnums = (0,) if "embedding" in name else (0, 1)
    step = jax.jit(jax.value_and_grad(loss, argnums, has_aux=True))
    want = step(params, x)
    with jax.set_mesh(mesh):
        got = step(jax.device_put(params, on(mesh)), jax.device_put(x, spec))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10, rtol=1e-10)
