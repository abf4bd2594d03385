"""The networks in Equinox: modules for one example with channels first, under vmap."""

from typing import Any

import equinox as eqx
import jax

from jaxconv.bench.networks import Network, kind, propagate
from jaxconv.bench.programs import JaxNetwork, Programs, apply_plain, compile_programs


def _module(layer: Any, shape: Any) -> Any:
    """Return the module of a layer, or None if :func:`apply_plain` computes it."""
    key, channels = jax.random.key(0), shape[-1]
    match kind(layer):
        case "Conv":
            rates = layer.dilation_rate
            padding: Any = [((layer.kernel_size[0] - 1) * rates[0], 0)] if layer.padding == "causal" else "SAME"
            sizes = (channels, layer.filters, layer.kernel_size, layer.strides)
            return eqx.nn.Conv(layer.rank, *sizes, padding, rates, use_bias=layer.use_bias, key=key)
        case "DepthwiseConv":
            sizes = (channels, channels, layer.kernel_size, layer.strides)
            return eqx.nn.Conv(layer.rank, *sizes, "SAME", groups=channels, use_bias=False, key=key)
        case "ConvTranspose":
            around = [(k - s) // 2 for k, s in zip(layer.kernel_size, layer.strides, strict=True)]
            sizes = (channels, layer.filters, layer.kernel_size, layer.strides)
            return eqx.nn.ConvTranspose(layer.rank, *sizes, around, use_bias=False, key=key)
        case "BatchNormalization":
            return eqx.nn.BatchNorm(channels, "batch", mode="batch")
        case "MaxPooling":
            return (eqx.nn.MaxPool1d, eqx.nn.MaxPool2d, eqx.nn.MaxPool3d)[layer.rank - 1](2, 2)
        case "Dense":
            return eqx.nn.Linear(channels, layer.units, key=key)
    return None


def build(network: Network) -> Programs:
    """Build the network and return its timed programs."""
    modules: list[Any] = []

    def add(layer: Any, shape: Any) -> Any:
        modules.append(_module(layer, shape))
        return layer.output_shape(shape)

    propagate(network.model, network.shape, add)
    made, fixed = eqx.nn.make_with_state(lambda: modules)()
    trainable, static = eqx.partition(made, eqx.is_inexact_array)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        def one(x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
            left = iter(eqx.nn.inference_mode(eqx.combine(trainable, static), not train))

            def apply(layer: Any, x: Any) -> jax.Array:
                nonlocal state
                module = next(left)
                if kind(layer) == "BatchNormalization":
                    x, state = module(x, state)
                    return x
                return apply_plain(layer, x, channels=0) if module is None else module(x)

            return propagate(network.model, x, apply), state

        return jax.vmap(one, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, fixed)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed, channels=1))
