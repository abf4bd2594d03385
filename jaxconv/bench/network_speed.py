"""The speed of whole networks in several libraries, and the cost of a single call of ``apply_fn``."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.bench.networks import Network
from jaxconv.bench.timing import Program, medians
from jaxconv.contract import Params, layers
from jaxconv.kernels.acceleration import accelerate

INFERENCE, TRAIN, CALL = "inference", "train step", "call"
MODES = (INFERENCE, TRAIN)
JAX_PEERS = ("flax", "equinox", "haiku", "keras")
LIBRARIES = ("torch", "jaxconv", *JAX_PEERS)
PLUS = "+"  # suffix of a library's name: the library with jaxconv.accelerate()
CALLS = 200


def measure_network(network: Network, libraries: Sequence[str], seconds: float) -> dict[str, Any]:
    """Measure inference and training step of a network in several libraries and return a row of the results.

    A name that ends in :data:`PLUS` is that library with ``jaxconv.accelerate()``. The row has name, ``milliseconds``
    of each library by mode, ``compile`` seconds, the number of ``parameters``. Raises RuntimeError if two libraries
    disagree on the number of parameters or on the shape of the output.
    """
    built = {}
    for name in libraries:
        with accelerate(name.endswith(PLUS)):
            built[name] = importlib.import_module(f"jaxconv.bench.peers.{name.removesuffix(PLUS)}").build(network)
    first, expected = next(iter(built.items()))
    for name, one in built.items():
        if (one.parameters, one.output_shape) != (expected.parameters, expected.output_shape):
            raise RuntimeError(
                f"{network.name}: {name} has {one.parameters} parameters and output {one.output_shape}, "
                f"but {first} has {expected.parameters} and {expected.output_shape}"
            )
    times = {
        INFERENCE: medians({name: one.infer for name, one in built.items()}, seconds),
        TRAIN: medians({name: one.train for name, one in built.items()}, seconds),
    }
    compiled = {name: one.seconds for name, one in built.items() if one.seconds}
    return {"name": network.name, "milliseconds": times, "compile": compiled, "parameters": expected.parameters}


def measure_call(seconds: float) -> dict[str, Any]:
    """Measure the time of a call of a jitted ``apply_fn`` (a tiny Conv1D), and of the same function in ``jax.lax``."""
    x = jnp.ones((1, 16, 4))
    params, apply_fn = layers["Conv1D"](8, 3, padding="same").init(jax.random.key(0), x.shape)

    def reference(params: Params, x: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(x, params["kernel"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        return y + params["bias"].reshape(1, 1, -1)

    def program(function: Any) -> Program:
        jitted = jax.jit(function)

        def run() -> None:
            for _ in range(CALLS):
                y = jitted(params, x)
            y.block_until_ready()

        return Program(run, CALLS)

    times = medians({"lax": program(reference), "jaxconv": program(apply_fn)}, seconds)
    return {"name": "dispatch", "milliseconds": {CALL: times}, "compile": {}}
