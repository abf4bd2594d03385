"""Convolutions inside ``jax.shard_map`` with its default check of varying axes: forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxconv

L, S, V = (16, 128), (16, 32, 32), (16, 16, 8, 8)
# (input without channels, channels, kernel, filters), then options of `conv` or `conv_transpose`
KINDS = {
    "1-D": (L, 16, (3,), 32, {}),
    "1-D, strides": (L, 16, (3,), 32, {"strides": 2}),
    "1-D, dilation": (L, 16, (3,), 32, {"dilation_rate": 4}),
    "1-D, causal": (L, 16, (3,), 32, {"padding": "causal"}),
    "1-D, causal, dilation": (L, 16, (3,), 32, {"padding": "causal", "dilation_rate": 8}),
    "1-D, one channel": (L, 1, (8,), 32, {}),
    "1-D, few filters": (L, 64, (7,), 4, {}),
    "1-D, bfloat16": (L, 64, (3,), 64, {"dtype": "bfloat16"}),
    "1-D, groups": (L, 64, (3,), 64, {"groups": 4}),
    "1-D, depthwise": (L, 64, (5,), 64, {"groups": 64}),
    "1-D, long": ((8, 2048), 1, (1024,), 4, {}),
    "1-D, long, depthwise": ((8, 2048), 16, (1024,), 16, {"groups": 16, "padding": "causal"}),
    "1-D, transposed": (L, 16, (4,), 16, {"strides": 2, "transposed": True}),
    "1-D, one tap": (L, 16, (1,), 16, {}),
    "2-D": (S, 16, (3, 3), 32, {}),
    "2-D, 64 channels": (S, 64, (3, 3), 64, {}),
    "2-D, 128 channels": (S, 128, (3, 3), 128, {}),
    "2-D, 3 channels": (S, 3, (3, 3), 32, {}),
    "2-D, one channel": (S, 1, (3, 3), 32, {}),
    "2-D, strides": (S, 16, (3, 3), 32, {"strides": 2}),
    "2-D, dilation": (S, 16, (3, 3), 32, {"dilation_rate": 2}),
    "2-D, patches": (S, 16, (4, 4), 32, {"strides": 4, "padding": "valid"}),
    "2-D, one tap": (S, 64, (1, 1), 128, {}),
    "2-D, one tap, strides": (S, 64, (1, 1), 128, {"strides": 2}),
    "2-D, 10 filters": (S, 64, (3, 3), 10, {}),
    "2-D, one filter": (S, 32, (3, 3), 1, {}),
    "2-D, bfloat16": (S, 64, (3, 3), 64, {"dtype": "bfloat16"}),
    "2-D, 2 groups": (S, 64, (3, 3), 64, {"groups": 2}),
    "2-D, 4 groups": (S, 64, (3, 3), 64, {"groups": 4}),
    "2-D, 8 groups": (S, 64, (3, 3), 64, {"groups": 8}),
    "2-D, 8 groups, strides": (S, 64, (3, 3), 64, {"groups": 8, "strides": 2}),
    "2-D, 32 groups": (S, 128, (3, 3), 128, {"groups": 32}),
    "2-D, depthwise": (S, 64, (3, 3), 64, {"groups": 64}),
    "2-D, depthwise, strides": (S, 64, (3, 3), 64, {"groups": 64, "strides": 2}),
    "2-D, depthwise, 7x7": (S, 64, (7, 7), 64, {"groups": 64}),
    "2-D, depthwise, multiplier": (S, 16, (3, 3), 32, {"groups": 16}),
    "2-D, transposed": (S, 32, (3, 3), 16, {"strides": 2, "transposed": True}),
    "2-D, transposed, 4x4": (S, 32, (4, 4), 16, {"strides": 2, "transposed": True}),
    "3-D": (V, 16, (3, 3, 3), 32, {}),
    "3-D, strides": (V, 16, (3, 3, 3), 32, {"strides": 2}),
    "3-D, 2 channels": (V, 2, (3, 3, 3), 8, {}),
    "3-D, groups": (V, 16, (3, 3, 3), 16, {"groups": 4}),
    "3-D, many taps": (V, 16, (7, 3, 3), 24, {}),
    "3-D, transposed": (V, 16, (2, 2, 2), 8, {"strides": 2, "transposed": True}),
}
P = PartitionSpec


def kind(name):
    """Return the function of x and kernel, and their shapes and dtype."""
    lengths, channels, kernel, filters, options = KINDS[name]
    options = {"padding": "same"} | options
    dtype, transposed = options.pop("dtype", "float32"), options.pop("transposed", False)
    groups = options.pop("groups", 1)
    width = (filters, channels) if transposed else (channels // groups, filters)
    function = jaxconv.conv_transpose if transposed else jaxconv.conv
    return lambda x, w: function(x, w, **options), ((*lengths, channels), (*kernel, *width)), dtype


def loss_and_gradients(function, reduce):
    def loss(x, w):
        return reduce(jnp.sum(jnp.sin(function(x, w).astype(jnp.float32))))

    return jax.value_and_grad(loss, (0, 1))


def sharded(function):
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    local = loss_and_gradients(function, lambda v: jax.lax.psum(v, "d"))
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P("d"), P()), out_specs=(P(), (P("d"), P()))))


@pytest.mark.few(2)
@pytest.mark.parametrize("name", KINDS)
def test_a_sharded_batch_differentiates_with_the_check_of_varying_axes(name):
    function, shapes, dtype = kind(name)
    sharded(function).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))


def test_im2col_computes_a_sharded_batch_in_blocks_of_rows():
    function, shapes, dtype = kind("2-D")
    with jaxconv.lowering("im2col"):
        text = sharded(function).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)).as_text()
    assert "while" in text


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["2-D", "3-D, many taps"])
def test_values_and_gradients_of_a_sharded_batch_are_those_of_one_device(name):
    function, shapes, dtype = kind(name)
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)
    got = sharded(function)(x, w)
    want = jax.jit(loss_and_gradients(function, lambda v: v))(x, w)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, atol=1e-4 * scale)  # sums over the batch in another order
