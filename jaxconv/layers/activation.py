"""Activation: a function from the table of activations, as a layer."""

import dataclasses
from typing import Any

import jax

from jaxconv.layers.layer import Layer, Params, Shape, activate, activated_width, as_shape, layers

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class Activation(Layer):
    """Apply an activation to every element (softmax and its kin: along the last axis).

    Args:
        activation: name, function or config; None is linear.
        activity_regularizer: penalty on the output, divided by the batch size.

    Shapes:
        Any shape, kept (``glu`` halves the last axis).

    >>> params, apply_fn = Activation("relu").init(jax.random.key(0), (None, 3))
    >>> apply_fn(params, jnp.array([[-1.0, 0.0, 2.0]]))
    Array([[0., 0., 2.]], dtype=float32)
    """

    activation: Any
    activity_regularizer: Any = None

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "Activation")
        if not shape or shape[-1] is None or len(shape) < 2:
            return shape
        return (*shape[:-1], activated_width(self.activation, shape[-1], "Activation"))

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        return activate(self.activation, x, -1), {}
