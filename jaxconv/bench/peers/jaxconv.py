"""The networks in jaxconv: a graph of layers; and trained models, optimized and compiled.

Knows layers by their names.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv.layers  # noqa: F401  enters every layer in the table
from jaxconv.bench import networks
from jaxconv.bench.agreement import Loaded
from jaxconv.bench.stepping import Built, Measured, measured
from jaxconv.bench.timing import paced
from jaxconv.contract import Input, Layer, Params, layers, merge
from jaxconv.models import Model
from jaxconv.serving import compile, optimize


def model(network: networks.Network) -> Model:
    """Give the network as a Model."""
    rank = network.rank

    def layer(operation: Any, x: Any) -> Any:
        match operation:
            case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
                options = {"strides": strides, "dilation_rate": dilation, "use_bias": bias}
                padding = "causal" if causal else "same"
                if depthwise:
                    return layers[f"DepthwiseConv{rank}D"](kernel, padding=padding, **options)(x)
                return layers[f"Conv{rank}D"](filters, kernel, padding=padding, **options)(x)
            case networks.ConvTranspose(filters, kernel, strides):
                return layers[f"Conv{rank}DTranspose"](filters, kernel, strides, padding="same", use_bias=False)(x)
            case networks.Norm():
                return layers["BatchNormalization"]()(x)
            case networks.Relu():
                return layers["ReLU"]()(x)
            case networks.Tanh():
                return layers["Activation"]("tanh")(x)
            case networks.Pool():
                return layers[f"MaxPooling{rank}D"](2)(x)
            case networks.Mean():
                return layers[f"GlobalAveragePooling{rank}D"]()(x)
            case networks.Dense(units):
                return layers["Dense"](units)(x)
            case networks.Unflatten(lengths, channels):
                return layers["Reshape"]((*lengths, channels))(x)
        raise TypeError(f"no such operation: {operation!r}")

    def add(a: Any, b: Any) -> Any:
        return layers["Add"]()([a, b])

    def concatenate(a: Any, b: Any) -> Any:
        return layers["Concatenate"]()([a, b])

    x = Input(network.shape[1:])
    return Model(x, networks.flow(network.body, x, layer, add, concatenate))


def measure(network: networks.Network) -> Measured:
    """Build the network and give its timed programs."""
    params, apply_fn = model(network).init(jax.random.key(0))
    trainable, fixed = apply_fn.split(params)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        y, effects = apply_fn.forward(merge(trainable, fixed), x, train=train)
        return y, effects.fixed

    return measured(network, Built(forward, trainable, fixed))


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Prepare a trained model for inputs like ``x``, as it is served: optimized and compiled."""
    start = time.perf_counter()
    less, own = optimize(layer, params)
    fast = compile(less.apply_fn, own, [jax.tree.map(np.shape, x)])
    seconds = time.perf_counter() - start
    given = jax.tree.map(jnp.asarray, x)

    def outputs(x: Any) -> list[np.ndarray]:
        return [np.asarray(one) for one in jax.tree.leaves(fast(x))]

    return Loaded(paced(lambda: jax.block_until_ready(fast(given))), outputs, seconds)
