"""Dense: a matrix product over the last axis."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register, whole
from jaxconv.layers.activation_axis import activate, activated_width
from jaxconv.layers.options import known_channels
from jaxconv.layers.sharding import broadcast_like


@register(layers)
class Dense(Layer):
    """Multiply the last axis by a matrix: ``activation(x @ kernel + bias)``.

    Args:
        units: number of output channels. The other arguments are those of :class:`~jaxconv.Conv1D`.

    Shapes: (batch, ..., channels) -> (batch, ..., units).

    Params:
        kernel: (channels, units), ``kernel_initializer``.
        bias: (units,), ``bias_initializer``; absent without ``use_bias``.

    Raises:
        ValueError: an input without a channel axis, or with another channel count than the params.

    >>> params, apply_fn = Dense(3, activation="softmax").init(jax.random.key(0), (None, 8))
    >>> apply_fn(params, jnp.ones((2, 8))).shape
    (2, 3)
    """

    units: int
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None

    min_rank: ClassVar[int] = 2
    checks: ClassVar[dict[str, Any]] = {"units": geo.as_size}
    keras_only: ClassVar[dict[str, tuple]] = dict.fromkeys(("quantization_config", "lora_rank", "lora_alpha"), (None,))
    output_values: ClassVar[str | None] = "activation"

    def __post_init__(self) -> None:
        super().__post_init__()
        activated_width(self.activation, self.units, "Dense")

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (0,) if leaf == "kernel" else ()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        if input_shape[-1] == 0:
            raise ValueError(f"Dense: input of shape {input_shape} has no channels; give at least 1")
        width = activated_width(self.activation, self.units, "Dense")
        return (*(POINTWISE,) * (len(input_shape) - 2), whole(width))

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        channels = known_channels(input_shape[-1], input_shape, "Dense")
        kernel = {"kernel": Weight((channels, self.units), self.kernel_initializer)}
        return kernel | ({"bias": Weight((self.units,), self.bias_initializer)} if self.use_bias else {})

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = jnp.matmul(x, params["kernel"].astype(x.dtype))
        if self.use_bias:
            y = y + broadcast_like(params["bias"].reshape((1,) * (y.ndim - 1) + (-1,)), y)
        return activate(self.activation, y, -1), Effects()
