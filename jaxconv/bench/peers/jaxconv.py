"""The networks in jaxconv, and trained models, optimized and compiled."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.bench.agreement import Loaded
from jaxconv.bench.networks import Network
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs
from jaxconv.bench.timing import repeated
from jaxconv.contract import Layer, Params, merge
from jaxconv.serving import compile, optimize


def build(network: Network) -> Programs:
    """Build the network and return its timed programs."""
    params, apply_fn = network.model.init(jax.random.key(0), network.shape)
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
