"""Differentiate a 3-D U-Net on a volume divided over eight devices. Run: python examples/volume_on_many_devices.py

The devices are eight parts of the CPU. The model does not depend on them; only the input has a sharding.
"""

import collections
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxconv
from jaxconv import Conv3D, Conv3DTranspose
from jaxconv.inspect import collectives

SHAPE = (64, 32, 32, 2)  # depth, height, width, channels


def block(x, filters):
    for _ in range(2):
        x = Conv3D(filters, 3, padding="same", activation="relu")(x)
    return x


x = inputs = jaxconv.Input(SHAPE)
skips = []
for filters in (8, 16):
    skips.append(block(x, filters))
    x = jaxconv.MaxPooling3D(2)(skips[-1])
x = block(x, 32)
for filters in (16, 8):
    x = Conv3DTranspose(filters, 2, strides=2)(x)
    x = block(jaxconv.Concatenate()([skips.pop(), x]), filters)
params, apply_fn = jaxconv.Model(inputs, Conv3D(2, 1)(x)).init(jax.random.key(0))

gradients = jax.jit(jax.value_and_grad(lambda params, x: jnp.mean(apply_fn(params, x) ** 2)))
volume = jax.random.normal(jax.random.key(1), (1, *SHAPE))

mesh = jax.make_mesh((8,), ("depth",), axis_types=(AxisType.Auto,))
replicated, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "depth"))
arguments = jax.device_put(params, replicated), jax.device_put(volume, divided)

memory = [gradients.lower(*a).compile().memory_analysis().temp_size_in_bytes for a in ((params, volume), arguments)]
print(f"temporaries of loss and gradients: one device {memory[0] / 1e6:.1f} MB, each of eight {memory[1] / 1e6:.1f} MB")
moved = collections.Counter()
for collective in collectives(gradients, *arguments):
    moved[collective.kind] += collective.times * collective.bytes
for kind, size in moved.items():
    print(f"{kind}: {size / 1e3:.1f} kB on each device")

(loss, grads), (want, wants) = gradients(*arguments), gradients(params, volume)
for sharded, whole in zip(jax.tree.leaves(grads), jax.tree.leaves(wants), strict=True):
    assert jnp.allclose(jax.device_get(sharded), whole, rtol=1e-4, atol=1e-7)
print(f"loss {loss:.6f}, on one device {want:.6f}; equal gradients")
