"""The networks in Keras on JAX: a functional model, called statelessly. Knows nothing of jaxconv's layers."""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
from keras import layers

from jaxconv.bench import networks
from jaxconv.bench.stepping import Built, Measured, measured


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
    raise TypeError(f"no such operation: {operation!r}")


def measure(network: networks.Network) -> Measured:
    """Build the network and give its timed programs.

    Raises:
        ValueError: Keras runs on another backend than JAX.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(f"Keras runs on {keras.backend.backend()}, not on JAX; set KERAS_BACKEND=jax")
    x = keras.Input(network.shape[1:], network.shape[0])

    def layer(operation: Any, x: Any) -> Any:
        return _apply(operation, x, network.rank)

    def add(a: Any, b: Any) -> Any:
        return layers.Add()([a, b])

    def concatenate(a: Any, b: Any) -> Any:
        return layers.Concatenate()([a, b])

    y = networks.flow(network.body, x, layer, add, concatenate)
    model = keras.Model(x, y)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def forward(trainable: Any, fixed: Any, x: jax.Array, train: bool) -> tuple[jax.Array, Any]:
        return model.stateless_call(trainable, fixed, x, training=train)

    return measured(network, Built(forward, trainable, fixed))
