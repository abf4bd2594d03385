"""TimeDistributed: one layer applied to each step of a sequence."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv.contract import LEAF, POINTWISE, Effects, Params, Shape, Window, as_shape, layers, register
from jaxconv.contract.masks import broadcast_mask, fill_masked
from jaxconv.contract.shapes import as_array
from jaxconv.errors import explain
from jaxconv.layers.sharding import gather_axes
from jaxconv.layers.wrapper import Wrapper


@register(layers)
class TimeDistributed(Wrapper):
    """Apply a layer with the same weights to each step of a sequence, such as the frames of a video.

    Time is merged into the batch, so that the layer inside is called once. Differs deliberately from Keras 3, and
    agrees with tf.keras: in training, a batch normalization inside computes statistics over all steps together, in
    Keras for each step in sequence; the activity regularizer of the layer inside counts, in Keras it does not.

    A mask (batch, time) is passed on unchanged, as in Keras. Masked steps do not count in statistics and penalties of a
    layer inside that works on single entries (normalization, dense, activation); a convolution or a model inside gets
    no mask. A mask with more axes is a mask for the layer inside as well: its output mask is the mask of the output; if
    it has none, a step is masked when all its entries are.

    Args:
        layer: a layer, or a model, with one input and one output.

    Shapes: (batch, time, ...) -> (batch, time, ...): the layer's output shape for (batch, ...), with time.

    Params: layer: the params of the layer inside; absent if it has none.

    Raises:
        TypeError: an argument that is not a layer, or a layer with several inputs.
        ValueError: a model with several outputs; an input of fewer than three axes; the errors of the layer inside.

    >>> layer = TimeDistributed(jaxconv.Conv2D(4, 3))
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 10, 8, 8, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 8, 8, 3))).shape
    (2, 10, 6, 6, 4)
    """

    time_is_axis_1: ClassVar[bool] = True
    output_values: ClassVar[str | None] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer.output_structure != LEAF:
            raise ValueError(f"TimeDistributed: {self.layer.label} has several outputs; wrap a layer with one output")

    def _step(self, input_shape: Any) -> Any:
        """Return the shape of one step of the input."""
        shape = as_shape(input_shape, "TimeDistributed")
        if len(shape) < 3:
            what = f"input of shape {shape} has rank {len(shape)}"
            raise ValueError(f"TimeDistributed: {what}; this layer needs (batch, time, ...) of rank 3 at least")
        with explain("TimeDistributed, at each step"):
            return self.layer.read_shape((shape[0], *shape[2:]))

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        inside = self.layer.init_params(key, self._step(input_shape))
        return {"layer": inside} if inside else {}

    def _check_own_names(self, params: Any) -> None:
        if params != {}:  # a layer without weights has no entry
            super()._check_own_names(params)

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [tuple(range(rank - 1))]  # time is axis 1, and the channels of the layer inside are last

    def _inner_mask(self, mask: Any) -> Any:
        """Return the mask for the layer inside: one boolean for each of its samples, or None if it needs more."""
        if mask is None or (mask.ndim == 2 and not _takes_sample_mask(self.layer)):
            return None
        return mask.reshape(-1, *mask.shape[2:])

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        with explain(f"{self.label}: the input is not an array of numbers"):
            x = as_array(x, self.layer.input_dtype(jnp.int32))
        self.output_shape(x.shape)
        mask = self.read_mask(mask, x.shape)
        batch, time = x.shape[:2]
        if mask is not None:
            x = fill_masked(x, broadcast_mask(mask, x.shape, self.mask_layouts(x.ndim)))
        with explain(f"{self.label}, at each step"):
            steps = gather_axes(x, [1]).reshape(batch * time, *x.shape[2:])
            inside = params.get("layer", {})
            y, effects = self.layer.forward(inside, steps, train=train, key=key, mask=self._inner_mask(mask))
        fixed = {"layer": effects.fixed} if params else {}
        penalty = effects.penalty * jnp.asarray(time, effects.penalty.dtype)  # it was divided by batch * time
        y = y.reshape(batch, time, *y.shape[1:])
        return y, Effects(fixed, penalty, self._outer_mask(mask, effects.mask))

    def _outer_mask(self, mask: Any, inside: Any) -> Any:
        """Return the output's mask from the input's mask and the output mask of the layer inside."""
        if mask is None or mask.ndim == 2:
            return mask
        if inside is None:
            return mask.any(tuple(range(2, mask.ndim)))
        return inside.reshape(*mask.shape[:2], *inside.shape[1:])

    def multiply_adds(self, input_shape: Any) -> int | None:
        # once for each step
        time, one = input_shape[1], self.layer.multiply_adds(self._step(input_shape))
        return None if None in (time, one) else time * one

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        # time is pointwise; the windows of the layer inside follow, with their axes shifted by one
        step = self._step(input_shape)
        with explain("TimeDistributed, at each step"):
            self.layer.output_shape(step)
            inside = self.layer.windows(step)
        return (POINTWISE, *(w if w.axis is None else dataclasses.replace(w, axis=w.axis + 1) for w in inside))


def _takes_sample_mask(layer: Any) -> bool:
    """Return whether a layer takes a mask (batch,); a layer over time needs one with its own steps."""
    inside = layer.children.values()
    return layer.graph is None and layer.least_mask_axes == 1 and all(map(_takes_sample_mask, inside))
