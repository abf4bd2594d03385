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
from keras import layers

from jaxconv.bench import networks
from jaxconv.bench.agreement import Loaded, Unsupported
from jaxconv.bench.programs import JaxNetwork, Programs, compile_programs
from jaxconv.bench.timing import repeated
from jaxconv.contract import Layer, Params
from jaxconv.files.keras.writing import save_model


def _apply(operation: Any, x: Any, rank: int) -> Any:
    match operation:
        case networks.Conv(filters, kernel, strides, dilation, depthwise, causal, bias):
            options = {"padding": "causal" if causal else "same", "dilation_rate": dilation, "use_bias": bias}
            if depthwise:
                return getattr(layers, f"DepthwiseConv{rank}D")(kernel, strides, **options)(x)
            return getattr(layers, f"Conv{rank}D")(filters, kernel, strides, **options)(x)
        case networks.ConvTranspose(filters, kernel, strides):
            layer = getattr(layers, f"Conv{rank}DTranspose")
            return layer(filters, kernel, strides, padding="same", use_bias=False)(x)
        case networks.Norm():
            return layers.BatchNormalization()(x)
        case networks.Relu():
            return layers.ReLU()(x)
        case networks.Tanh():
            return layers.Activation("tanh")(x)
        case networks.Pool():
            return getattr(layers, f"MaxPooling{rank}D")(2)(x)
        case networks.Mean():
            return getattr(layers, f"GlobalAveragePooling{rank}D")()(x)
        case networks.Dense(units):
            return layers.Dense(units)(x)
        case networks.Unflatten(lengths, channels):
            return layers.Reshape((*lengths, channels))(x)
    raise TypeError(f"unknown operation {operation!r}")


def build(network: networks.Network) -> Programs:
    """Build the network and return its timed programs.

    Raises:
        ValueError: Keras uses another backend than JAX.
    """
    _check_backend()
    x = keras.Input(network.shape[1:], network.shape[0])

    def layer(operation: Any, x: Any) -> Any:
        return _apply(operation, x, network.rank)

    def add(a: Any, b: Any) -> Any:
        return layers.Add()([a, b])

    def concatenate(a: Any, b: Any) -> Any:
        return layers.Concatenate()([a, b])

    y = networks.propagate(network.body, x, layer, add, concatenate)
    model = keras.Model(x, y)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return model.stateless_call(trainable, fixed, x, training=train)

    return compile_programs(network, JaxNetwork(forward, trainable, fixed))


def load(layer: Layer, params: Params, x: Any) -> Loaded:
    """Save a trained model in Keras's format and load it in Keras, for inputs of the shape of ``x``, under ``jax.jit``.

    Raises:
        Unsupported: Keras cannot load the model, because Keras lacks one of its layers.
        ValueError: Keras uses another backend than JAX.
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
