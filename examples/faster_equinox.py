"""Compute gradients of an Equinox network with and without one line of jaxconv. Run: python examples/faster_equinox.py

The network is a stack of depthwise separable convolutions. Needs equinox (pip install equinox).
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp

import jaxconv

keys = iter(jax.random.split(jax.random.key(0), 16))
layers = [eqx.nn.Conv2d(3, 32, 3, 2, padding="SAME", key=next(keys))]
for channels, filters in ((32, 64), (64, 128), (128, 128)):
    layers += [
        eqx.nn.Conv2d(channels, channels, 3, padding="SAME", groups=channels, key=next(keys)),
        eqx.nn.Conv2d(channels, filters, 1, key=next(keys)),
        eqx.nn.Lambda(jax.nn.relu),
    ]
net = eqx.nn.Sequential(layers)
x = jax.random.normal(next(keys), (8, 3, 64, 64))
target = jax.random.normal(next(keys), (len(x), 128))


def step():
    """Return a compiled function that computes the gradients of a loss."""

    @eqx.filter_jit
    def gradients(net, x):
        return eqx.filter_grad(lambda net: jnp.mean((jax.vmap(net)(x).mean((2, 3)) - target) ** 2))(net)

    return gradients


def milliseconds(function):
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(function(net, x)))
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[2]


plain, faster = step(), step()
want = plain(net, x)  # compiled before accelerate, so it keeps XLA's convolutions
with jaxconv.accelerate():  # the one line
    got = faster(net, x)
    after = milliseconds(faster)
before = milliseconds(plain)
for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert jnp.allclose(ours, theirs, rtol=1e-3, atol=1e-5)
print(f"gradients of a loss: {before:.1f} ms; with jaxconv.accelerate(): {after:.1f} ms")
print(f"equal values, {before / after:.1f} times as fast")
