"""Inference and training step of a network as timed programs, shared by the JAX libraries."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.bench.networks import Network, batch, kind
from jaxconv.bench.timing import Program

LEARNING_RATE = 1e-4


class JaxNetwork(NamedTuple):
    """A network built by a JAX library.

    forward: a pure function ``(trainable, fixed, x, train) -> (output, new fixed)``. fixed: running statistics.
    channels: the library's channel axis, 1 or -1.
    """

    forward: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]
    trainable: Any
    fixed: Any
    channels: int = -1


class Programs(NamedTuple):
    """The timed programs of a network in one library, and the facts that must agree between libraries.

    infer: inference of one batch. train: loss, gradients and an SGD update on one batch. parameters: number of
    trainable scalars. output_shape: channels last. seconds: time to trace and compile both; 0 for a library that does
    not compile.
    """

    infer: Program
    train: Program
    parameters: int
    output_shape: tuple[int, ...]
    seconds: float = 0.0


def apply_plain(layer: Any, x: Any, channels: int = -1) -> jax.Array:
    """Compute a layer without weights with channels last; with ``channels=0``, for one example with channels first."""
    match kind(layer):
        case "ReLU":
            return jax.nn.relu(x)
        case "Activation" if layer.activation.__name__ == "tanh":
            return jnp.tanh(x)
        case "GlobalAveragePooling":
            return x.mean(tuple(range(1, x.ndim if channels == 0 else x.ndim - 1)))
        case "Reshape":
            *lengths, depth = layer.target_shape
            return x.reshape(depth, *lengths) if channels == 0 else x.reshape(len(x), *lengths, depth)
        case "Add":
            return jnp.add(*x)
        case "Concatenate":
            return jnp.concatenate(x, channels)
    raise TypeError(f"apply_plain: {layer!r} is not supported; add a case for its class")


def mean_loss(network: Network, y: jax.Array, target: jax.Array, channels: int) -> jax.Array:
    """Return the mean softmax cross-entropy if the network has classes, otherwise the mean squared error."""
    if not network.classes:
        return jnp.mean((y - target) ** 2)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(y, channels), jnp.expand_dims(target, channels), channels)
    return -jnp.mean(chosen)


def compile_programs(network: Network, built: JaxNetwork) -> Programs:
    """Jit and compile the inference and the training step of a network."""
    x_last, target_last = batch(network)
    x = jnp.asarray(np.moveaxis(x_last, -1, built.channels))
    target = jnp.asarray(target_last if network.classes else np.moveaxis(target_last, -1, built.channels))

    @jax.jit
    def infer(trainable: Any, fixed: Any, x: jax.Array) -> jax.Array:
        return built.forward(trainable, fixed, x, False)[0]

    @jax.jit
    def train(trainable: Any, fixed: Any, x: jax.Array, target: jax.Array) -> Any:
        def loss(trainable: Any) -> Any:
            y, new = built.forward(trainable, fixed, x, True)
            return mean_loss(network, y, target, built.channels), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, trainable, gradients), new, value

    state = [built.trainable, built.fixed]

    def one_step() -> None:
        *state[:], _ = jax.block_until_ready(train(*state, x, target))

    def inference() -> None:
        infer(built.trainable, built.fixed, x).block_until_ready()

    start = time.perf_counter()
    y = infer(*state, x).block_until_ready()
    train.lower(*state, x, target).compile()
    seconds = time.perf_counter() - start
    shape = np.moveaxis(np.empty(y.shape), built.channels, -1).shape
    parameters = sum(leaf.size for leaf in jax.tree.leaves(built.trainable))
    return Programs(Program(inference), Program(one_step), parameters, shape, seconds)
