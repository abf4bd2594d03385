"""Gradients in half precision: sums over thousands of terms are computed in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

POLICIES = {"mixed_bfloat16": 0.03, "bfloat16": 0.03, "mixed_float16": 4e-3, "float16": 4e-3}  # a few roundings
SIGNAL = (32, 512, 4)
LAYERS = {
    "conv": (lambda d: jc.Conv1D(4, 3, dtype=d), SIGNAL),
    "conv first": (lambda d: jc.Conv1D(4, 3, data_format="channels_first", dtype=d), (32, 4, 512)),
    "conv2d": (lambda d: jc.Conv2D(4, 3, dtype=d), (4, 64, 64, 4)),
    "depthwise": (lambda d: jc.DepthwiseConv1D(3, dtype=d), SIGNAL),
    "separable": (lambda d: jc.SeparableConv1D(4, 3, dtype=d), SIGNAL),
    "transpose": (lambda d: jc.Conv1DTranspose(4, 3, strides=2, dtype=d), SIGNAL),
    "local": (lambda d: jc.LocallyConnected1D(4, 3, dtype=d), (512, 8, 4)),
    "dense": (lambda d: jc.Dense(4, dtype=d), SIGNAL),
    "prelu": (lambda d: jc.PReLU(shared_axes=[1], alpha_initializer="ones", dtype=d), SIGNAL),
    "batch normalization": (lambda d: jc.BatchNormalization(dtype=d), SIGNAL),
    "layer normalization": (lambda d: jc.LayerNormalization(dtype=d), SIGNAL),
    "group normalization": (lambda d: jc.GroupNormalization(2, dtype=d), SIGNAL),
    "global average": (lambda d: jc.GlobalAveragePooling1D(dtype=d), SIGNAL),
    "average": (lambda d: jc.AveragePooling1D(64, 1, dtype=d), SIGNAL),
    "upsampling": (lambda d: jc.UpSampling1D(512, dtype=d), (32, 4, 4)),
    "repeat": (lambda d: jc.RepeatVector(512, dtype=d), (32, 4)),
    "add": (lambda d: jc.Add(dtype=d), [SIGNAL, (32, 1, 4)]),
    "multiply": (lambda d: jc.Multiply(dtype=d), [SIGNAL, (32, 1, 4)]),
    "dot": (lambda d: jc.Dot(1, dtype=d), [SIGNAL, SIGNAL]),
    "weight normalization": (lambda d: jc.WeightNormalization(jc.Conv1D(4, 3), dtype=d), SIGNAL),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_in_half_precision_are_those_of_float32(name, policy):
    make, shape = LAYERS[name]
    params, full = make("float32").init(jax.random.key(0), shape)
    rng = np.random.default_rng(0)
    x = jax.tree.map(
        lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s), jnp.float32), shape, is_leaf=lambda s: isinstance(s, tuple)
    )

    def gradient(apply_fn, params):
        def loss(params, x):
            y = apply_fn(params, x).astype(jnp.float32)
            weight = 1 + 0.1 * jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            return jnp.sum(y * weight) / 64  # cotangents of a size that float16 holds

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, x)

    half = make(policy)
    own = jax.tree.map(lambda v: v.astype(half.policy.variable), params)
    for got, want in zip(
        jax.tree.leaves(gradient(half.apply_fn, own)), jax.tree.leaves(gradient(full, params)), strict=True
    ):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        scale = np.abs(want).max()
        # a normalization's input gradient is a difference of nearly equal terms
        loose = 3 if "normalization" in name and got.ndim == 3 else 1
        assert np.abs(got - want).max() <= loose * POLICIES[policy] * scale or scale < 1e-6


def test_the_bias_gradient_of_a_mean_over_many_steps():
    layer = jc.Conv1D(4, 3, dtype="mixed_bfloat16")
    params, apply_fn = layer.init(jax.random.key(0), (64, 512, 4))

    def loss(params):
        return jnp.mean(apply_fn(params, jnp.ones((64, 512, 4))).astype(jnp.float32))

    np.testing.assert_allclose(jax.grad(loss)(params)["bias"], 0.25, rtol=4e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_softmax_over_many_entries(dtype):
    x = jax.random.normal(jax.random.key(0), (4, 4096), jnp.float32).astype(dtype)
    np.testing.assert_allclose(np.asarray(jc.activations.softmax(x), np.float64).sum(-1), 1.0, rtol=2e-3)
    weight = jnp.arange(4096, dtype=jnp.float32)[None] / 64

    def loss(x):
        return jnp.sum(jc.activations.softmax(x).astype(jnp.float32) * weight)

    want = np.asarray(jax.grad(loss)(x.astype(jnp.float32)))
    got = np.asarray(jax.grad(loss)(x), np.float64)
    np.testing.assert_allclose(got, want, atol=0.02 * abs(want).max())


def test_rows_of_an_embedding_used_very_often():
    layer = jc.Embedding(2, 3, dtype="bfloat16")
    params, apply_fn = layer.init(jax.random.key(0), (8, 2048))
    ids = jnp.zeros((8, 2048), jnp.int32)
    gradient = jax.grad(lambda p: apply_fn(p, ids).astype(jnp.float32).sum() / 1024)(params)["embeddings"]
    np.testing.assert_allclose(np.asarray(gradient, np.float64), [[16.0] * 3, [0.0] * 3])


def test_the_counts_of_average_pooling_come_from_the_axes():
    # a count for every output, computed by a window reduction of ones, is a constant that XLA folds for seconds
    layer = jc.AveragePooling2D(3, 1, "same")
    jaxpr = jax.make_jaxpr(lambda x: layer.apply_fn({}, x))(jnp.ones((1, 40, 60, 1)))
    assert str(jaxpr).count("window_sum[") == 1
    ones = layer.apply_fn({}, jnp.ones((1, 40, 60, 1)))
    np.testing.assert_allclose(ones, 1.0, rtol=1e-6)
