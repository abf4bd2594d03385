"""Make an existing Flax network faster with one argument of its convolutions. Run: python examples/faster_flax.py

The network is a small MobileNet in flax.linen; flax.nnx.Conv takes the same argument. Needs flax (pip install flax).
"""

import functools
import time

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxconv


class MobileNet(nn.Module):
    conv_general_dilated: object = None  # None: Flax uses jax.lax.conv_general_dilated

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, use_bias=False, conv_general_dilated=self.conv_general_dilated)
        x = nn.relu(nn.GroupNorm(8)(conv(32, (3, 3), 2)(x)))
        for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
            x = nn.relu(nn.GroupNorm(8)(conv(x.shape[-1], (3, 3), strides, feature_group_count=x.shape[-1])(x)))
            x = nn.relu(nn.GroupNorm(8)(conv(filters, (1, 1))(x)))
        return nn.Dense(10)(x.mean((1, 2)))


net, faster = MobileNet(), MobileNet(conv_general_dilated=jaxconv.conv_general_dilated)  # the one argument
x = jax.random.normal(jax.random.key(0), (8, 64, 64, 3))
labels = jax.random.randint(jax.random.key(1), (8,), 0, 10)
params = jax.jit(net.init)(jax.random.key(2), x)  # the same for both


def step_of(net):
    def loss(params):
        chosen = jnp.take_along_axis(jax.nn.log_softmax(net.apply(params, x)), labels[:, None], 1)
        return -chosen.mean()

    return jax.jit(jax.value_and_grad(loss))


steps = {"Flax": step_of(net), "Flax with jaxconv": step_of(faster)}
(loss, grads), (same_loss, same_grads) = (step(params) for step in steps.values())
assert jnp.allclose(loss, same_loss, rtol=1e-5)
largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
for g, h in zip(jax.tree.leaves(grads), jax.tree.leaves(same_grads), strict=True):
    assert jnp.allclose(g, h, rtol=1e-3, atol=1e-4 * largest)  # sums in another order, through seven normalizations

times = {name: [] for name in steps}
for _ in range(7):  # interleaved, so that a noisy machine affects both equally
    for name, step in steps.items():
        start = time.perf_counter()
        jax.block_until_ready(step(params))
        times[name].append(time.perf_counter() - start)
medians = {name: 1e3 * sorted(each)[len(each) // 2] for name, each in times.items()}
for name, milliseconds in medians.items():
    print(f"{name:<18} {milliseconds:8.1f} ms for loss and gradients")
print(f"equal values, {medians['Flax'] / medians['Flax with jaxconv']:.1f} times as fast")
