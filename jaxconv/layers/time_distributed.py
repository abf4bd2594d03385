"""TimeDistributed: one layer at each step of a sequence, with the steps laid out as more samples.

Knows the layer inside by its contract alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract.at_inference import Affine
from jaxconv.contract.layer import LEAF, Effects, Params, Shape, as_shape, layers
from jaxconv.contract.masks import as_mask
from jaxconv.contract.measures import Window
from jaxconv.errors import explain
from jaxconv.layers.wrapper import Wrapper

Array = jax.Array


@layers.register()
@dataclasses.dataclass(frozen=True)
class TimeDistributed(Wrapper):
    """Apply a layer to each step of a sequence: to the frames of a film, each an image, with the same weights.

    The steps join the batch, so all of them are one call of the layer inside. Differs deliberately from Keras 3, and
    is as in tf.keras: in training, a batch normalization inside takes the statistics of all steps together, where
    Keras takes those of one step after the other; the activity regularizer of the layer inside counts, where Keras
    forgets it.

    A mask (batch, time) goes on unchanged, as in Keras. Of masked steps nothing counts in the statistics and penalties
    of a layer inside that works on each entry alone (normalization, dense, activation); a convolution or a model inside
    is not told of them. A mask of more axes is one for the layer inside, too: the steps of its output are masked as it
    says, and a step of which nothing is real is masked where it says nothing.

    Args:
        layer: the layer, or a model, of one input and one output.

    Shapes:
        (batch, time, ...) -> (batch, time, ...): what the layer makes of (batch, ...), at each step.

    Params:
        layer: the params of the layer inside; absent where it has none.

    Raises:
        TypeError: something that is no layer, or one of several inputs.
        ValueError: a model of several outputs; an input of less than three axes; the errors of the layer inside.

    >>> layer = TimeDistributed(jaxconv.Conv2D(4, 3))
    >>> params, apply_fn = layer.init(jax.random.key(0), (None, 10, 8, 8, 3))
    >>> apply_fn(params, jnp.ones((2, 10, 8, 8, 3))).shape
    (2, 10, 6, 6, 4)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer.output_structure != LEAF:
            raise ValueError(f"TimeDistributed: {self.layer.label} has several outputs; wrap a layer of one")

    def _step(self, input_shape: Any) -> Any:
        """Give the shape of the input at one step."""
        shape = as_shape(input_shape, "TimeDistributed")
        if len(shape) < 3:
            raise ValueError(
                f"TimeDistributed: input of shape {shape} has rank {len(shape)}; this layer needs (batch, time, ...) "
                "of rank 3 at least"
            )
        with explain("TimeDistributed, at each step"):
            return self.layer.read_shape((shape[0], *shape[2:]))

    def output_shape(self, input_shape: Any) -> Shape:
        step = self._step(input_shape)
        with explain("TimeDistributed, at each step"):
            batch, *rest = self.layer.output_shape(step)
        return (batch, as_shape(input_shape, "TimeDistributed")[1], *rest)

    def init_params(self, key: Any, input_shape: Shape) -> Params:
        inside = self.layer.init_params(key, self._step(input_shape))
        return {"layer": inside} if inside else {}

    def _check_names(self, params: Any) -> None:
        if params != {}:  # of a layer without weights
            super()._check_names(params)

    # -- masks

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [tuple(range(rank - 1))]

    def read_mask(self, mask: Any, shape: Any) -> Any:
        return None if mask is None else as_mask(mask, shape, self.mask_layouts(len(shape)), self.label, least=2)

    def _inside(self, mask: Any) -> Any:
        """Give the part of a mask that the layer inside is told: of steps alone, where it works on each entry alone."""
        by_step = mask is not None and mask.ndim == 2
        told = self.layer.keeps_mask and getattr(self.layer, "rank", 0) != 1
        return None if mask is None or (by_step and not told) else mask.reshape(-1, *mask.shape[2:])

    # -- what is computed

    def forward(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any = None) -> tuple[Array, Effects]:
        self._check_names(params)
        with explain(f"{self.label}: the input is no array of numbers"):
            x = jnp.asarray(x)
        self.output_shape(x.shape)
        mask = self.read_mask(mask, x.shape)
        batch, time = x.shape[:2]
        with explain(f"{self.label}, at each step"):
            steps = x.reshape(batch * time, *x.shape[2:])
            own = params.get("layer", {})
            y, effects = self.layer.forward(own, steps, train=train, key=key, mask=self._inside(mask))
        fixed = {"layer": effects.fixed} if params else {}
        penalty = effects.penalty * jnp.asarray(time, effects.penalty.dtype)  # it was divided by batch and time
        y = y.reshape(batch, time, *y.shape[1:])
        return y, Effects(fixed, penalty, self._outside(mask, effects.mask))

    def _outside(self, mask: Any, inside: Any) -> Any:
        """Give the output's mask from the input's and that of the layer inside."""
        if mask is None or mask.ndim == 2:
            return mask
        if inside is None:
            return mask.any(tuple(range(2, mask.ndim)))
        return inside.reshape(*mask.shape[:2], *inside.shape[1:])

    # -- what it says of itself

    def multiply_adds(self, input_shape: Any) -> int | None:
        time, one = input_shape[1], self.layer.multiply_adds(self._step(input_shape))
        return None if None in (time, one) else time * one

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        """Give the windows of the layer inside, one axis further; each step sees itself."""
        found = self.layer.windows(self._step(input_shape))
        if found is None:
            return (Window(), *(None,) * (len(self.output_shape(input_shape)) - 2))
        further = (one and (one if one.axis is None else one._replace(axis=one.axis + 1)) for one in found)
        return (Window(), *further)

    def at_inference(self, params: Params) -> tuple[Any, Params]:
        inside, own = self.layer.at_inference(params.get("layer", {}))
        return (None, {}) if inside is None else self._around(inside, own)

    def _around(self, inside: Any, own: Params) -> tuple[Any, Params]:
        return dataclasses.replace(self, layer=inside), {"layer": own} if own else {}

    def as_affine(self, params: Params) -> Affine | None:
        found = self.layer.as_affine(params.get("layer", {}))
        return found and found._replace(axis=found.axis + (found.axis > 0))

    def absorb_after(self, params: Params, affine: Affine) -> tuple[Any, Params] | None:
        return self._absorbed(self.layer.absorb_after, params, affine)

    def absorb_before(self, params: Params, affine: Affine) -> tuple[Any, Params] | None:
        return self._absorbed(self.layer.absorb_before, params, affine)

    def _absorbed(self, absorb: Callable, params: Params, affine: Affine) -> tuple[Any, Params] | None:
        if affine.axis in (0, 1):
            return None  # a scale of each step
        found = absorb(params.get("layer", {}), affine._replace(axis=affine.axis - (affine.axis > 0)))
        return found and self._around(*found)
