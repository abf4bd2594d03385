"""The networks in Equinox: modules for one example with channels first, under vmap."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxconv.bench import networks
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs


def _module(operation: Any, channels: int, rank: int) -> Any:
    key = jax.random.key(0)
    match operation:
        case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            padding: Any = [((kernel - 1) * dilation, 0)] if causal else "SAME"
            groups, out = (channels, channels) if depthwise else (1, filters)
            return eqx.nn.Conv(rank, channels, out, kernel, strides, padding, dilation, groups, bias, key=key)
        case networks.ConvTranspose(filters, kernel, strides):
            around = (kernel - strides) // 2
            return eqx.nn.ConvTranspose(rank, channels, filters, kernel, strides, around, use_bias=False, key=key)
        case networks.Norm():
            return eqx.nn.BatchNorm(channels, "batch", mode="batch")
        case networks.Relu():
            return jax.nn.relu
        case networks.Tanh():
            return jnp.tanh
        case networks.Pool():
            return (eqx.nn.MaxPool1d, eqx.nn.MaxPool2d, eqx.nn.MaxPool3d)[rank - 1](2, 2)
        case networks.Mean():
            return lambda x: x.mean(tuple(range(1, x.ndim)))
        case networks.Dense(units):
            return eqx.nn.Linear(channels, units, key=key)
        case networks.Unflatten(lengths, depth):
            return lambda x: x.reshape(depth, *lengths)
    raise TypeError(f"unknown operation {operation!r}")


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""
    modules = networks.build_in_order(network, lambda operation, channels: _module(operation, channels, network.rank))
    made, fixed = eqx.nn.make_with_state(lambda: modules)()
    trainable, static = eqx.partition(made, eqx.is_inexact_array)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        def one(x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
            left = iter(eqx.nn.inference_mode(eqx.combine(trainable, static), not train))

            def layer(operation: Any, x: jax.Array) -> jax.Array:
                nonlocal state
                if isinstance(operation, networks.Norm):
                    x, state = next(left)(x, state)
                    return x
                return next(left)(x)

            y = networks.propagate(network.body, x, layer, jnp.add, lambda a, b: jnp.concatenate([a, b]))
            return y, state

        return jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, fixed)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed, channels=1))
