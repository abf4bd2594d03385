"""The registry of layers, which layers and operators of symbolic tensors use."""

from jaxconv.registry import Registry

layers = Registry("layer", "keras.layers")
