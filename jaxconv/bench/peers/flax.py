"""The networks in Flax: one compact linen module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxconv.bench.networks import Network, kind, propagate
from jaxconv.bench.programs import JaxNetwork, Programs, apply_plain, compile_programs


class _Net(nn.Module):
    network: Network

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return propagate(self.network.model, x, lambda layer, x: _apply(layer, x, train))


def _apply(layer: Any, x: Any, train: bool) -> jax.Array:
    match kind(layer):
        case "Conv":
            padding, rates = layer.padding.upper(), layer.dilation_rate
            options = {"kernel_dilation": rates, "use_bias": layer.use_bias}
            return nn.Conv(layer.filters, layer.kernel_size, layer.strides, padding, **options)(x)
        case "DepthwiseConv":
            channels, options = x.shape[-1], {"feature_group_count": x.shape[-1], "use_bias": False}
            return nn.Conv(channels, layer.kernel_size, layer.strides, **options)(x)
        case "ConvTranspose":
            return nn.ConvTranspose(layer.filters, layer.kernel_size, layer.strides, use_bias=False)(x)
        case "BatchNormalization":
            return nn.BatchNorm(use_running_average=not train)(x)
        case "MaxPooling":
            return nn.max_pool(x, layer.pool_size, layer.strides)
        case "Dense":
            return nn.Dense(layer.units)(x)
    return apply_plain(layer, x)


def build(network: Network) -> Programs:
    """Build the network and return its timed programs."""
    net = _Net(network)
    variables = jax.jit(net.init, static_argnums=2)(jax.random.key(0), jnp.zeros(network.shape), True)
    trainable, fixed = variables["params"], {key: value for key, value in variables.items() if key != "params"}

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        if train:
            return net.apply({"params": trainable, **fixed}, x, True, mutable=list(fixed))
        return net.apply({"params": trainable, **fixed}, x, False), fixed

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))
