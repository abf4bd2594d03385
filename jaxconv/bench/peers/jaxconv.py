"""The networks in jaxconv, as graphs of layers, and trained models, optimized and compiled."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv.layers  # noqa: F401  registers every layer
from jaxconv.bench import networks
from jaxconv.bench.agreement import Loaded
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs
from jaxconv.bench.timing import repeated
from jaxconv.contract import Input, Layer, Params, layers, merge
from jaxconv.models import Model
from jaxconv.serving import compile, optimize


def model(network: networks.Network) -> Model:
    """Build the network as a Model."""
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
        raise TypeError(f"unknown operation {operation!r}")

    def add(a: Any, b: Any) -> Any:
        return layers["Add"]()([a, b])

    def concatenate(a: Any, b: Any) -> Any:
        return layers["Concatenate"]()([a, b])

    x = Input(network.shape[1:])
    return Model(x, networks.propagate(network.body, x, layer, add, concatenate))


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs."""
    params, apply_fn = model(network).init(jax.random.key(0))
    trainable, fixed = apply_fn.split(params)

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        y, effects = apply_fn.forward(merge(trainable, fixed), x, train=train)
        return y, effects.fixed

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Optimize and compile a trained model for inputs of the shape of ``x``."""
    start = time.perf_counter()
    optimized, folded = optimize(layer, params)
    compiled = compile(optimized.apply_fn, folded, [jax.tree.map(np.shape, x)])
    seconds = time.perf_counter() - start
    batch = jax.tree.map(jnp.asarray, x)

    def outputs(x: Any) -> list[np.ndarray]:
        return [np.asarray(one) for one in jax.tree.leaves(compiled(x))]

    return Loaded(repeated(lambda: jax.block_until_ready(compiled(batch))), outputs, seconds)
