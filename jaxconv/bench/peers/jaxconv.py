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
    x = Input(network.shape[1:])
    return Model(x, networks.keras_output(network, x, layers.__getitem__))


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
