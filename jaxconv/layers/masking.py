"""Masking: derive a mask from a value that marks padding in the input."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import MIXED, POINTWISE, Effects, Layer, Params, Window, layers, register
from jaxconv.contract.masks import broadcast_mask
from jaxconv.layers.options import as_number


@register(layers)
class Masking(Layer):
    """Mask the steps at which every channel is ``mask_value``, and set them to zero.

    The mask is in ``effects.mask``, and later layers get it. A step that is masked already stays masked; in Keras this
    layer's mask replaces the other.

    Args:
        mask_value: the value of padding.

    Shapes: (batch, ..., channels), kept; the mask has this shape without channels.

    Raises:
        ValueError: a mask value that is not a finite number; an input without channels.

    >>> y, effects = Masking().apply_fn.forward({}, jnp.array([[[1.0, 0.0], [0.0, 0.0]]]))
    >>> effects.mask
    Array([[ True, False]], dtype=bool)
    """

    mask_value: float = 0.0

    min_rank: ClassVar[int] = 2
    checks: ClassVar[dict[str, Any]] = {"mask_value": as_number}
    output_values: ClassVar[str | None] = "input"

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [tuple(range(rank - 1))]  # channels are last, regardless of the data format

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (*(POINTWISE,) * (len(input_shape) - 2), MIXED)  # all channels of a step decide whether it is masked

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        return jnp.where(self._real(x)[..., None], x, jnp.zeros((), x.dtype)), Effects()

    def output_mask(self, x: Array, mask: Any) -> Array:
        # the values of the input determine which steps are unmasked
        real = self._real(x)
        return real if mask is None else real & broadcast_mask(mask, x.shape, self.mask_layouts(x.ndim))[..., 0]

    def _real(self, x: Array) -> Array:
        return (x != jnp.asarray(self.mask_value, x.dtype)).any(-1)
