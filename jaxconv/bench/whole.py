"""Whole networks side by side, and what a call of a tiny one costs. Knows the peers by their one function."""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.bench.networks import Network
from jaxconv.bench.timing import Program, medians
from jaxconv.contract import Params, layers

INFERENCE, TRAIN, CALL = "inference", "train step", "call"
MODES = (INFERENCE, TRAIN)
JAX_PEERS = ("flax", "equinox", "haiku", "keras")
LIBRARIES = ("torch", "jaxconv", *JAX_PEERS)
CALLS = 200


def measure_network(network: Network, libraries: Sequence[str], seconds: float) -> dict[str, Any]:
    """Measure inference and training step of a network in several libraries and give a row of the results.

    Returns:
        name, ``milliseconds`` of each library by mode, ``compile`` seconds, the number of ``parameters``.

    Raises:
        RuntimeError: two libraries disagree on the number of parameters or the shape of the output, so that their
            figures would not compare.
    """
    made = {name: importlib.import_module(f"jaxconv.bench.peers.{name}").measure(network) for name in libraries}
    first, *_ = made
    for name, one in made.items():
        same = (one.parameters, one.output_shape), (made[first].parameters, made[first].output_shape)
        if same[0] != same[1]:
            raise RuntimeError(
                f"{network.name}: {name} has {same[0][0]} parameters and output {same[0][1]}, "
                f"but {first} has {same[1][0]} and {same[1][1]}"
            )
    times = {
        INFERENCE: medians({name: one.infer for name, one in made.items()}, seconds),
        TRAIN: medians({name: one.train for name, one in made.items()}, seconds),
    }
    compiled = {name: one.seconds for name, one in made.items() if one.seconds}
    return {"name": network.name, "milliseconds": times, "compile": compiled, "parameters": made[first].parameters}


def measure_call(seconds: float) -> dict[str, Any]:
    """Measure what calling a jitted ``apply_fn`` costs: a tiny Conv1D, and the same function by hand in ``jax.lax``."""
    x = jnp.ones((1, 16, 4))
    params, apply_fn = layers["Conv1D"](8, 3, padding="same").init(jax.random.key(0), x.shape)

    def by_hand(params: Params, x: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(x, params["kernel"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        return y + params["bias"].reshape(1, 1, -1)

    def program(function: Any) -> Program:
        jitted = jax.jit(function)

        def run() -> None:
            for _ in range(CALLS):
                y = jitted(params, x)
            y.block_until_ready()

        return Program(run, CALLS)

    times = medians({"lax": program(by_hand), "jaxconv": program(apply_fn)}, seconds)
    return {"name": "dispatch", "milliseconds": {CALL: times}, "compile": {}}
