"""Collectives of compiled programs on eight devices, and of program texts from other platforms."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxconv as jc
from jaxconv.inspect import collectives, communication
from jaxconv.inspect.compiled import _found


def split():
    """Return (a mesh of all devices, an array of shape (16, 4) that is sharded along its rows)."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    return mesh, jax.device_put(jnp.ones((16, 4)), NamedSharding(mesh, PartitionSpec("data")))


def test_a_sum_over_a_sharded_axis_is_one_reduction():
    mesh, x = split()
    (found,) = collectives(lambda x: jnp.sum(x, 0), x)
    assert (found.kind, found.bytes, found.times) == ("all-reduce", 16, 1) and "reduce_sum" in found.place
    whole = jax.jit(lambda x: 2 * x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    assert [(one.kind, one.bytes) for one in collectives(whole, x)] == [("all-gather", 16 * 4 * 4)]


def test_a_loop_counts_as_often_as_it_runs():
    _, x = split()

    def loop(x):
        return jax.lax.fori_loop(0, 5, lambda _, total: total + jnp.sum(jnp.sin(x * total[None]), 0), jnp.zeros(4))

    assert [(one.kind, one.bytes, one.times) for one in collectives(loop, x)] == [("all-reduce", 16, 5)]


def test_one_device_has_none():
    assert collectives(jax.jit(lambda x: x @ x), jnp.ones((4, 4))) == []


def test_started_operations_count_their_result_alone():
    text = """
ENTRY %main (p: f32[2,4]) -> f32[16,4] {
  %p = f32[2,4]{1,0} parameter(0)
  %s = (f32[2,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%p), metadata={op_name="jit(f)/gather"}
  %d = f32[16,4]{1,0} all-gather-done(%s)
  %r = (bf16[3]{0}, s4[5]{0}) all-reduce-start(%p, %p), to_apply=%add
  %q = (f32[2]{0}, f32[2]{0}, u32[], u32[]) collective-permute-start(%p)
  %t = ((f32[2]{0}, f32[3]{0}), (f32[16]{0}, f32[24]{0})) all-gather-start(%p, %p)
}
"""
    assert [(one.kind, one.bytes) for one in _found(text)] == [
        ("all-gather", 256),
        ("all-reduce", 6 + 3),
        ("collective-permute", 8),
        ("all-gather", 160),
    ]
    assert _found(text)[0].place == "jit(f)/gather"


def test_joined_collectives_belong_to_the_layers_that_use_their_parts():
    assert [(one.bytes, one.layer) for one in _found(TWO_SUMS)] == [(8, "body/dense"), (12, "head"), (16, "")]


TWO_SUMS = """
ENTRY %main (p: f32[2]) -> f32[3] {
  %p = f32[2] parameter(0)
  %r = (f32[2]{0}, f32[3]{0}, f32[4]{0}) all-reduce(%p, %p, %p), to_apply=%add, metadata={op_name="jit(f)/(a:b)"}
  %a = f32[2] get-tuple-element(%r), index=0, metadata={op_name="jit(f)/transpose(jvp(layer[body]))/layer[dense]/dot"}
  %b = f32[3]{0} get-tuple-element(%r), index=1, metadata={op_name="jit(f)/jvp(layer[x])/jvp(layer[head])/sum"}
  ROOT %c = f32[4]{0} get-tuple-element(%r), index=2
}
"""


CONV, SIZE = functools.partial(jc.Conv1D, 4, 3, padding="same"), 4 * 4 * 3 * 4 + 4 * 4


def exchanged(layers, *spec):
    """Return what each layer makes eight devices exchange, by its name; two equal convolutions come first."""
    model = jc.Sequential([jc.Sequential([CONV(), CONV()], name="body"), *layers])
    sharding = NamedSharding(split()[0], PartitionSpec(*spec))
    x = jax.ShapeDtypeStruct((8, 32, 4), jnp.float32, sharding=sharding)
    return {row.name: row for row in communication(model, x)}


def test_halos_and_kernels_belong_to_their_layers():
    rows, halos = exchanged([], None, "data"), 2 * 8 * 4 * 4
    assert rows["body/conv1d"].forward == rows["body/conv1d_1"].forward == {"collective-permute": halos}
    assert rows["body/conv1d"].gradients == {"all-reduce": SIZE, "collective-permute": halos}
    assert rows["body/conv1d_1"].gradients == {"all-reduce": SIZE, "collective-permute": 2 * halos}
    assert rows["body"].forward == rows[""].forward == {"collective-permute": 2 * halos}
    assert rows["(outside)"].gradients == {"all-reduce": 4}  # the loss


@pytest.mark.slow
def test_the_kernels_of_a_sharded_batch_belong_to_their_layers():
    layers = [jc.BatchNormalization(), CONV(groups=2), jc.GlobalAveragePooling1D(), jc.Dense(2)]
    rows = exchanged(layers, "data")
    assert not rows[""].forward and set(rows[""].gradients) == {"all-reduce"}
    for name, size in {"body/conv1d": SIZE, "body/conv1d_1": SIZE, "body": 2 * SIZE, "dense": 2 * 5 * 4}.items():
        assert rows[name].gradients == {"all-reduce": size}, name
    assert rows["conv1d"].gradients == {"all-reduce": 4 * 2 * 3 * 4 + 4 * 4}
    top = [row for name, row in rows.items() if name and "/" not in name]
    assert rows[""].gradients["all-reduce"] == sum(row.gradients.get("all-reduce", 0) for row in top)
