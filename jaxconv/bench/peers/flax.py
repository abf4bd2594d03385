"""The networks in Flax: one compact linen module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxconv.bench import networks
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs


class _Net(nn.Module):
    network: networks.Network

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def layer(operation: Any, x: jax.Array) -> jax.Array:
            return _apply(operation, x, self.network.rank, train)

        return networks.propagate(self.network.body, x, layer, jnp.add, lambda a, b: jnp.concatenate([a, b], -1))


def _apply(operation: Any, x: jax.Array, rank: int, train: bool) -> jax.Array:
    spatial = tuple(range(1, x.ndim - 1))
    match operation:
        case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            return nn.Conv(
                x.shape[-1] if depthwise else filters,
                (kernel,) * rank,
                strides,
                "CAUSAL" if causal else "SAME",
                kernel_dilation=dilation,
                feature_group_count=x.shape[-1] if depthwise else 1,
                use_bias=bias,
            )(x)
        case networks.ConvTranspose(filters, kernel, strides):
            return nn.ConvTranspose(filters, (kernel,) * rank, (strides,) * rank, use_bias=False)(x)
        case networks.Norm():
            return nn.BatchNorm(use_running_average=not train)(x)
        case networks.Relu():
            return nn.relu(x)
        case networks.Tanh():
            return nn.tanh(x)
        case networks.Pool():
            return nn.max_pool(x, (2,) * rank, (2,) * rank)
        case networks.Mean():
            return x.mean(spatial)
        case networks.Dense(units):
            return nn.Dense(units)(x)
        case networks.Unflatten(lengths, channels):
            return x.reshape(x.shape[0], *lengths, channels)
    raise TypeError(f"unknown operation {operation!r}")


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""
    net = _Net(network)
    variables = jax.jit(net.init, static_argnums=2)(jax.random.key(0), jnp.zeros(network.shape), True)
    trainable, fixed = variables["params"], {key: value for key, value in variables.items() if key != "params"}

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        if train:
            return net.apply({"params": trainable, **fixed}, x, True, mutable=list(fixed))
        return net.apply({"params": trainable, **fixed}, x, False), fixed

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))
