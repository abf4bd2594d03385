"""The networks in Haiku: one transformed function."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from jaxconv.bench.networks import Network, kind, propagate
from jaxconv.bench.programs import JaxNetwork, Programs, apply_plain, compile_programs


def _apply(layer: Any, x: Any, train: bool) -> jax.Array:
    match kind(layer):
        case "Conv":
            padding = hk.pad.causal if layer.padding == "causal" else "SAME"
            sizes = (layer.filters, layer.kernel_size, layer.strides, layer.dilation_rate)
            return hk.ConvND(layer.rank, *sizes, padding, layer.use_bias)(x)
        case "DepthwiseConv":
            options = {"with_bias": False, "feature_group_count": x.shape[-1]}
            return hk.ConvND(layer.rank, x.shape[-1], layer.kernel_size, layer.strides, **options)(x)
        case "ConvTranspose":
            return hk.ConvNDTranspose(layer.rank, layer.filters, layer.kernel_size, layer.strides, with_bias=False)(x)
        case "BatchNormalization":
            return hk.BatchNorm(True, True, 0.99)(x, is_training=train)
        case "MaxPooling":
            return hk.max_pool(x, (1, *layer.pool_size, 1), (1, *layer.strides, 1), "VALID")
        case "Dense":
            return hk.Linear(layer.units)(x)
    return apply_plain(layer, x)


def build(network: Network) -> Programs:
    """Build the network and return its timed programs."""

    def net(x: jax.Array, train: bool) -> jax.Array:
        return propagate(network.model, x, lambda layer, x: _apply(layer, x, train))

    transformed = hk.transform_with_state(net)
    init = jax.jit(transformed.init, static_argnums=2)
    trainable, fixed = init(jax.random.key(0), jnp.zeros(network.shape), True)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return transformed.apply(trainable, fixed, None, x, train)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))
