"""The networks in Haiku: one transformed function."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from jaxconv.bench import networks
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs


def _apply(operation: Any, x: jax.Array, rank: int, train: bool) -> jax.Array:
    match operation:
        case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            return hk.ConvND(
                rank,
                x.shape[-1] if depthwise else filters,
                kernel,
                strides,
                dilation,
                hk.pad.causal if causal else "SAME",
                bias,
                feature_group_count=x.shape[-1] if depthwise else 1,
            )(x)
        case networks.ConvTranspose(filters, kernel, strides):
            return hk.ConvNDTranspose(rank, filters, kernel, strides, with_bias=False)(x)
        case networks.Norm():
            return hk.BatchNorm(True, True, 0.99)(x, is_training=train)
        case networks.Relu():
            return jax.nn.relu(x)
        case networks.Tanh():
            return jnp.tanh(x)
        case networks.Pool():
            window = (1, *(2,) * rank, 1)
            return hk.max_pool(x, window, window, "VALID")
        case networks.Mean():
            return x.mean(tuple(range(1, x.ndim - 1)))
        case networks.Dense(units):
            return hk.Linear(units)(x)
        case networks.Unflatten(lengths, channels):
            return x.reshape(x.shape[0], *lengths, channels)
    raise TypeError(f"unknown operation {operation!r}")


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""

    def net(x: jax.Array, train: bool) -> jax.Array:
        def layer(operation: Any, x: jax.Array) -> jax.Array:
            return _apply(operation, x, network.rank, train)

        return networks.propagate(network.body, x, layer, jnp.add, lambda a, b: jnp.concatenate([a, b], -1))

    transformed = hk.transform_with_state(net)
    init = jax.jit(transformed.init, static_argnums=2)
    trainable, fixed = init(jax.random.key(0), jnp.zeros(network.shape), True)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return transformed.apply(trainable, fixed, None, x, train)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))
