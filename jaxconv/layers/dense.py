"""Dense: a matrix product over the last axis."""

import dataclasses
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import geometry as geo
from jaxconv.contract.at_inference import Affine, cast, wide
from jaxconv.contract.layer import Layer, Params, Shape, Weight, as_shape, layers
from jaxconv.contract.measures import Window
from jaxconv.layers.activation_axis import activate, activated_width, is_linear

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """Multiply the last axis by a matrix: ``activation(x @ kernel + bias)``.

    Args:
        units: number of output channels. The other arguments are those of :class:`~jaxconv.Conv1D`.

    Shapes:
        (batch, ..., channels) -> (batch, ..., units).

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

    keeps_mask: ClassVar[bool] = True
    keras_only: ClassVar[dict[str, tuple]] = {
        "quantization_config": (None,),
        "lora_rank": (None,),
        "lora_alpha": (None,),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(units=geo.as_size(self.units, "units", "Dense"))
        activated_width(self.activation, self.units, "Dense")

    @property
    def leaves(self) -> dict[str, str]:
        return {"kernel": "kernel", "bias": "bias"} if self.use_bias else {"kernel": "kernel"}

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (0,) if leaf == "kernel" else ()

    def output_shape(self, input_shape: Any) -> Shape:
        shape = as_shape(input_shape, "Dense")
        if len(shape) < 2 or shape[-1] == 0:
            raise ValueError(f"Dense: input of shape {shape} has no channels; this layer needs (batch, ..., channels)")
        return (*shape[:-1], activated_width(self.activation, self.units, "Dense"))

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        if input_shape[-1] is None:
            raise ValueError(
                f"Dense: the channel count in input shape {input_shape} is None; the kernel's shape depends on it, "
                "so give a number"
            )
        kernel = Weight((input_shape[-1], self.units), self.kernel_initializer)
        bias = Weight((self.units,), self.bias_initializer)
        return {"kernel": kernel, "bias": bias} if self.use_bias else {"kernel": kernel}

    def call(self, params: Params, x: Array, *, train: bool, key: Any) -> tuple[Array, Params]:
        kernel = params["kernel"].astype(x.dtype)
        y = jnp.matmul(x, kernel)
        if self.use_bias:
            y = y + params["bias"].astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return activate(self.activation, y, -1), {}

    def multiply_adds(self, input_shape: Any) -> int | None:
        if None in input_shape[1:]:
            return None
        return math.prod(input_shape[1:-1]) * math.prod(self.weights(input_shape)["kernel"].shape)

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        return (*(Window() for _ in input_shape[1:-1]), None)

    def absorb_after(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        if affine.axis != -1 or not is_linear(self.activation):
            return None
        own = wide(params)
        leaves = {"kernel": own["kernel"] * affine.scale}
        leaves["bias"] = affine.scale * own.get("bias", np.zeros(1)) + affine.shift
        return dataclasses.replace(self, use_bias=True), cast(leaves, params)

    def absorb_before(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        if affine.axis != -1:
            return None
        own = wide(params)
        leaves = {"kernel": affine.scale[:, None] * own["kernel"]}
        leaves["bias"] = affine.shift @ own["kernel"] + own.get("bias", np.zeros(1))
        return dataclasses.replace(self, use_bias=True), cast(leaves, params)
