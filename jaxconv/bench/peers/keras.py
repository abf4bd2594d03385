"""The networks in Keras on JAX, as functional models called statelessly, and trained models, read from files."""

import os
import tempfile
import time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from jaxconv.bench.agreement import Loaded, Unsupported
from jaxconv.bench.networks import Network, propagate
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs
from jaxconv.bench.timing import repeated
from jaxconv.contract import Layer, Params, layers
from jaxconv.files.keras.writing import save_model


def build(network: Network) -> Programs:
    """Build the network and return its timed programs. Raises ValueError if Keras uses another backend than JAX."""
    _check_backend()
    x = keras.Input(network.shape[1:], network.shape[0])
    y = propagate(network.model, x, lambda layer, x: keras.layers.deserialize(layers.serialize(layer))(x))
    model = keras.Model(x, y)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return model.stateless_call(trainable, fixed, x, training=train)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Save a trained model in Keras's format and load it in Keras, for inputs of the shape of ``x``, under ``jax.jit``.

    Raises Unsupported if Keras lacks one of its layers; ValueError if Keras uses another backend than JAX.
    """
    _check_backend()
    with tempfile.TemporaryDirectory() as folder:
        save_model(f"{folder}/model.keras", layer, params, input_shape=jax.tree.map(np.shape, x))
        try:
            model = keras.models.load_model(f"{folder}/model.keras", compile=False)
        except (TypeError, ValueError) as error:
            why, *_ = str(error).partition("\n")
            raise Unsupported(f"it cannot load the model: {why}") from None
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def infer(trainable: Any, fixed: Any, x: Any) -> Any:
        return model.stateless_call(trainable, fixed, x, training=False)[0]

    batch = jax.tree.map(jnp.asarray, x)
    start = time.perf_counter()
    jax.block_until_ready(infer(trainable, fixed, batch))
    seconds = time.perf_counter() - start

    def outputs(x: Any) -> list[np.ndarray]:
        return [np.asarray(one) for one in jax.tree.leaves(infer(trainable, fixed, x))]

    return Loaded(repeated(lambda: jax.block_until_ready(infer(trainable, fixed, batch))), outputs, seconds)


def _check_backend() -> None:
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras uses the backend {keras.backend.backend()}; set KERAS_BACKEND=jax")
