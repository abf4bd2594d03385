"""Embedding: one row of a table for each integer of the input."""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxconv import geometry as geo
from jaxconv.contract import POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register, whole
from jaxconv.contract.masks import broadcast_mask
from jaxconv.dtypes import widen
from jaxconv.layers.sharding import explicit_sharding


@register(layers)
class Embedding(Layer):
    """Look each id up in a table: ``embeddings[id]``.

    Integer input stays integer, regardless of the dtype policy; other input is truncated to int32. A negative id counts
    from the end, and the row of an id outside ``-input_dim`` to ``input_dim - 1`` is NaN, because compiled code cannot
    raise. All of this is as in Keras on JAX. In place of Keras's ``weights`` pass an array as
    ``embeddings_initializer``.

    Args:
        input_dim: number of ids; valid ids are 0 to input_dim - 1.
        output_dim: length of each row.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in every layer; ``axis="filter"`` in a
            constraint means the norm of each row.
        mask_zero: whether the id 0 is padding: if so, ``effects.mask`` marks it, and later layers get this mask.
        activity_regularizer: penalty on the output, divided by the batch size.

    Shapes: (batch, ...) -> (batch, ..., output_dim).

    Params: embeddings: (input_dim, output_dim), ``embeddings_initializer``.

    Raises:
        ValueError: sizes that are not positive.

    >>> params, apply_fn = Embedding(100, 8).init(jax.random.key(0), (None, 5))
    >>> apply_fn(params, jnp.array([[0, 7, 99, 3, 3]])).shape
    (1, 5, 8)
    """

    input_dim: int
    output_dim: int
    embeddings_initializer: Any = "uniform"
    embeddings_regularizer: Any = None
    embeddings_constraint: Any = None
    mask_zero: bool = False
    activity_regularizer: Any = dataclasses.field(default=None, kw_only=True)

    min_rank: ClassVar[int] = 1
    checks: ClassVar[dict[str, Any]] = {"input_dim": geo.as_size, "output_dim": geo.as_size}
    keras_only: ClassVar[dict[str, tuple]] = dict.fromkeys(
        ("weights", "input_length", "lora_rank", "lora_alpha", "quantization_config"), (None,)
    )

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return (1,)

    def input_dtype(self, given: Any) -> Any:
        return given if given in (jnp.int32, jnp.int64) else jnp.int32

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (*(POINTWISE,) * (len(input_shape) - 1), whole(self.output_dim))

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        return {"embeddings": Weight((self.input_dim, self.output_dim), self.embeddings_initializer)}

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        table = widen(jnp.asarray(params["embeddings"]))  # its gradient is a sum over all uses of a row
        rows = table.at[x].get(mode="fill", out_sharding=explicit_sharding(x, table))
        return rows.astype(self.policy.compute), Effects()

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        return [tuple(range(rank))]  # the input has no channels

    def output_mask(self, x: Array, mask: Any) -> Any:
        # with mask_zero the values of the input determine which steps are unmasked
        if not self.mask_zero:
            return mask
        real = x != 0
        return real if mask is None else real & broadcast_mask(mask, x.shape, self.mask_layouts(x.ndim))
