"""Collectives of compiled programs on eight devices, and of texts from other platforms."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxconv.inspect import collectives
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
