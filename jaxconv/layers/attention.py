"""MultiHeadAttention: each step of a query is a weighted mean of the steps of a value.

The input is a list of arrays: query, value, and optionally key and attention mask.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from jax import Array

from jaxconv import geometry as geo
from jaxconv.contract import MIXED, POINTWISE, Effects, Layer, Params, Shape, Weight, Window, layers, register, whole
from jaxconv.contract.masks import broadcast_mask
from jaxconv.dtypes import promote
from jaxconv.layers.merge import Merge
from jaxconv.layers.options import as_axis, as_fraction, as_seed, input_axes
from jaxconv.layers.sharding import broadcast_like, gather_axes

GOVERNED = [f"{leaf}_{what}" for leaf in ("kernel", "bias") for what in ("initializer", "regularizer", "constraint")]


@dataclasses.dataclass(frozen=True)
class Projection(Layer):
    """Multiply the last ``reads`` axes by a matrix with output axes ``units``: Keras's EinsumDense inside attention.

    >>> Projection((2, 4)).output_shape((None, 10, 3))
    (None, 10, 2, 4)
    """

    units: tuple[int, ...]
    reads: int = 1
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None

    def filter_axes(self, leaf: str) -> tuple[int, ...]:
        return tuple(range(self.reads)) if leaf == "kernel" else ()

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        return (*(POINTWISE,) * (len(input_shape) - 1 - self.reads), *map(whole, self.units))

    def weights(self, input_shape: Shape) -> dict[str, Weight]:
        sizes = input_shape[-self.reads :]
        if None in sizes or not self.units:  # those of the output, if the query is unknown
            what = f"the channel count in input shape {input_shape} is None"
            raise ValueError(f"MultiHeadAttention: {what}; the kernels' shapes depend on it, so give a number")
        kernel = Weight((*sizes, *self.units), self.kernel_initializer)  # type: ignore[arg-type]
        return {"kernel": kernel} | ({"bias": Weight(self.units, self.bias_initializer)} if self.use_bias else {})

    def call(self, params: Params, x: Array, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        y = jnp.tensordot(x, params["kernel"].astype(x.dtype), self.reads)
        if self.use_bias:
            bias = params["bias"].astype(y.dtype)
            y = y + broadcast_like(bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape), y)
        return y if self.activation is None else self.activation(y), Effects()


@register(layers)
class MultiHeadAttention(Merge):
    """Attend from each step of a query to the steps of a value, as in a transformer.

    Each head projects query, key and value; the softmax of ``query @ key / sqrt(key_dim)`` over the steps weights the
    values; the heads together are projected to the output. Keras's layer, called on a list: ``layer([query, value])``,
    ``[query, value, key]`` or ``[query, value, key, attention_mask]``. If the key is omitted, the value is used. The
    attention mask is (batch, query steps, value steps), or has an axis of heads after the batch; 0 hides a value from a
    query.

    As in Keras, the masks of value and key hide steps; that of the query is the output's mask. The heads of a query
    that sees no value are the mean of all values; with dropout, or an input of more than three axes, 0. Differs
    deliberately: ``use_causal_mask`` is an option, not an argument of a call; ``output_shape`` is called
    ``output_size``, because each layer has a method of that name; the scores are not returned.

    Args:
        num_heads: number of heads.
        key_dim, value_dim: channels of each head: of query and key, and of the value; ``value_dim=None`` means
            ``key_dim``.
        dropout: fraction of the weights dropped in training.
        use_bias: whether the projections have biases.
        output_size: channels of the output, or the sizes of several axes; None means the query's channels.
        attention_axes: axes to attend over, counted with the batch; None means all between batch and channels. Along
            the others, query and value must have the same sizes.
        sliding_window: hides values that are this many steps away or more; None hides none.
        flash_attention: accepted without effect, because XLA chooses the kernel. True raises ValueError.
        kernel_*, bias_*, activity_regularizer: those of each projection, as in :class:`~jaxconv.Conv1D`.
        use_gate: whether to multiply the heads by a sigmoid of a further projection of the query.
        seed: folded into the caller's key; None leaves the key unchanged.
        use_causal_mask: whether to hide values of later steps than the query's.

    Shapes:
        [(batch, ..., channels), (batch, ..., channels)] -> the query's shape, with ``output_size`` for its channels.

    Params:
        query, key, gate: kernel (channels, num_heads, key_dim), bias (num_heads, key_dim); the gate with ``use_gate``
            and ``value_dim``. value: the same with ``value_dim``. attention_output: kernel (num_heads, value_dim,
            output_size), bias (output_size,).

    Raises:
        ValueError: inputs that do not match (the message names both shapes); an option that is not valid; training
            without a key.
        TypeError: an input that is not a list.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; the gate: https://arxiv.org/abs/2505.06708

    >>> params, apply_fn = MultiHeadAttention(2, 4).init(jax.random.key(0), [(None, 10, 3), (None, 7, 5)])
    >>> apply_fn(params, [jnp.ones((2, 10, 3)), jnp.ones((2, 7, 5))]).shape
    (2, 10, 3)
    """

    num_heads: int
    key_dim: int
    value_dim: Any = None
    dropout: float = 0.0
    use_bias: bool = True
    output_size: Any = None
    attention_axes: Any = None
    sliding_window: int | None = None
    flash_attention: Any = None
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    activity_regularizer: Any = None
    kernel_constraint: Any = None
    bias_constraint: Any = None
    use_gate: bool = False
    seed: int | None = None
    use_causal_mask: bool = dataclasses.field(default=False, kw_only=True)

    input_names: ClassVar[tuple[str, ...]] = ("query", "value", "key", "attention_mask")
    call_options: ClassVar[tuple[str, ...]] = ("use_causal_mask",)
    beyond_keras: ClassVar[frozenset[str]] = frozenset({"flash_attention", "use_causal_mask"})
    checks: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("num_heads", "key_dim"), geo.as_size),
        "dropout": as_fraction,
        "seed": as_seed,
    }
    leaves: ClassVar[dict[str, str]] = {}  # those of the projections
    keras_folders: ClassVar[dict[str, str]] = {  # Keras's names of the layers inside in its files
        "query": "query_dense",
        "key": "key_dense",
        "gate": "_gate_dense",
        "value": "value_dense",
        "attention_output": "output_dense",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        size, axes, where = self.output_size, self.attention_axes, "MultiHeadAttention"
        if size is not None:
            sizes = size if isinstance(size, list | tuple) else [size]
            size = tuple(geo.as_size(n, "output_size", where) for n in sizes) or None
        if axes is not None:
            axes = as_axis(axes if isinstance(axes, list | tuple) else [axes], "attention_axes", where)
        width = geo.as_size(self.key_dim if self.value_dim is None else self.value_dim, "value_dim", where)
        self._set(value_dim=width, output_size=size, attention_axes=axes)
        if self.sliding_window is not None:
            self._set(sliding_window=geo.as_size(self.sliding_window, "sliding_window", where))
        if self.flash_attention not in (None, False):
            raise ValueError(f"{where}: flash_attention={self.flash_attention!r} is not possible with XLA; give None")

    # -- the layers inside

    def _inside(self, width: int | None) -> dict[str, Layer]:
        """Return the projections in Keras's order, for a query of this many channels."""
        shared = (*GOVERNED, "activity_regularizer", "use_bias", "trainable", "dtype")
        options: dict[str, Any] = {name: getattr(self, name) for name in shared}
        of_key, of_value = (self.num_heads, self.key_dim), (self.num_heads, self.value_dim)
        inside: dict[str, Layer] = {name: Projection(of_key, **options) for name in ("query", "key")}
        if self.use_gate:
            inside["gate"] = Projection(of_value, activation="sigmoid", **options)
        sizes = self.output_size or (() if width is None else (width,))
        inside["value"] = Projection(of_value, **options)
        return inside | {"attention_output": Projection(sizes, reads=2, **options)}

    @property
    def children(self) -> dict[str, Layer]:
        return self._inside(None)

    @property
    def needs_key(self) -> bool:  # type: ignore[override]
        return self.dropout > 0

    def _projected_shapes(self, shapes: list[Shape]) -> dict[str, Shape]:
        """Return the input shape of each projection."""
        query, value = shapes[0], shapes[1]
        found = dict(query=query, key=shapes[2] if len(shapes) > 2 else value, gate=query, value=value)
        return found | {"attention_output": (*query[:-1], self.num_heads, self.value_dim)}

    def init_params(self, key: Any, input_shape: Any) -> Params:
        shapes, inside = self._projected_shapes(input_shape), self._inside(input_shape[0][-1])
        pairs = zip(jax.random.split(key, len(inside)), inside.items(), strict=True)
        return {name: child.init_params(own, shapes[name]) for own, (name, child) in pairs}

    def multiply_adds(self, input_shape: Any) -> int | None:
        shapes: Any = self.read_shape(input_shape)
        if any(None in shape[1:] for shape in shapes):
            return None
        projected: Any = self._projected_shapes(shapes)
        pairs = math.prod(shapes[0][1:-1]) * math.prod(shapes[1][axis] for axis in self._axes(len(shapes[0])))
        inside: Any = self._inside(shapes[0][-1])
        counts = [math.prod((*projected[name][1:], *child.units)) for name, child in inside.items()]
        return pairs * self.num_heads * (self.key_dim + self.value_dim) + sum(counts)

    # -- shapes and masks

    def _axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of an input of this rank that are attended over, in the order of an attention mask's axes."""
        axes, found = self.attention_axes, tuple(range(1, rank - 1))
        if axes is not None:
            input_axes(axes, (None,) * rank, "MultiHeadAttention", what="attention_axes")
            found = tuple(axis % rank for axis in (axes if isinstance(axes, tuple) else (axes,)))
        if rank - 1 in found or not found:
            what = f"MultiHeadAttention: attention_axes={axes} of an input of rank {rank}"
            raise ValueError(f"{what}; expected 1 to {rank - 2}, which are between batch and channels")
        if len(found) > 1 and (self.use_causal_mask or self.sliding_window):
            what = "MultiHeadAttention: use_causal_mask and sliding_window need one axis of steps"
            raise ValueError(f"{what}; attention is over the axes {found}; give attention_axes")
        return found

    def merged_shape(self, shapes: list[Shape]) -> Shape:
        if not 2 <= len(shapes) <= 4:
            raise ValueError(f"MultiHeadAttention: takes {', '.join(self.input_names)}; got {len(shapes)} inputs")
        query, rank = shapes[0], len(shapes[0])
        if rank < 3:
            raise ValueError(f"MultiHeadAttention: query of shape {query}; this layer needs (batch, steps, channels)")
        axes = self._axes(rank)
        for index, shape in enumerate(shapes[:3]):
            if len(shape) != rank:
                raise self.mismatch(shapes, 0, index, f"ranks {rank} and {len(shape)} differ")
            if shape[-1] == 0 or (index and 0 in shape[1:]):
                raise ValueError(f"MultiHeadAttention: input {index} of shape {shape} has an axis of length 0")
            for axis in range(rank - 1):
                other = 1 if index == 2 and axis in axes else 0
                if axis in axes and index == 1:
                    continue
                if None not in (shape[axis], shapes[other][axis]) and shape[axis] != shapes[other][axis]:
                    reason = f"axis {axis} has {shapes[other][axis]} and {shape[axis]}"
                    raise self.mismatch(shapes, other, index, reason)
        if len(shapes) == 4:
            self._mask_sizes(shapes)
        batch = next((shape[0] for shape in shapes[:3] if shape[0] is not None), None)
        return (batch, *query[1:-1], *(self.output_size or query[-1:]))

    def _mask_sizes(self, shapes: list[Shape]) -> Shape:
        """Return the full shape of the attention mask, with an axis of heads. Raises ValueError if it does not fit."""
        query, value, _, mask = shapes
        axes = self._axes(len(query))
        steps = (*(query[axis] for axis in axes), *(value[axis] for axis in axes))
        full = (query[0], self.num_heads, *steps)
        given = mask if len(mask) == len(full) else (*mask[:1], 1, *mask[1:])
        fits = len(given) == len(full) and all(
            None in pair or pair[0] in (1, pair[1]) for pair in zip(given, full, strict=True)
        )
        if not fits:
            allowed = f"{(query[0], *steps)} or {full}, where a size may be 1"
            raise ValueError(
                f"MultiHeadAttention: attention_mask of shape {mask} does not fit query of shape {query} and value of "
                f"shape {value}; expected {allowed}"
            )
        return full

    def windows(self, input_shape: Any) -> tuple[Window, ...]:
        *steps, _ = range(1, len(input_shape[0]))
        axes, sizes = self._axes(len(input_shape[0])), self.output_size or input_shape[0][-1:]
        return (*(MIXED if axis in axes else POINTWISE for axis in steps), *map(whole, sizes))

    def output_mask(self, x: Any, mask: Any) -> Any:
        return None if mask is None else mask[0]

    def _activity_penalty(self, y: Any, mask: Any) -> Array:
        return jnp.zeros((), self.policy.penalty)  # that of the projections

    # -- the computation

    def call(self, params: Params, x: Any, *, train: bool, key: Any, mask: Any) -> tuple[Array, Effects]:
        masks = dict(zip(self.input_names, mask or (), strict=False))
        given = dict(zip(self.input_names, x, strict=False))
        given.setdefault("key", given["value"])
        inside, penalty, found = self._inside(x[0].shape[-1]), jnp.zeros((), self.policy.penalty), {}
        for name, child in list(inside.items())[:-1]:
            source = "query" if name == "gate" else name
            own = masks.get("value" if name == "key" and len(x) == 2 else source)
            y, effects = child.forward(params[name], given[source], train=train, key=None, mask=own)
            found[name], penalty = y, penalty + effects.penalty
        y = self._attend(found, self._visible(given, masks), train, key)
        y = y * found["gate"] if self.use_gate else y
        last, own = inside["attention_output"], params["attention_output"]
        y, effects = last.forward(own, y, train=train, key=None, mask=masks.get("query"))
        return y, Effects(penalty=penalty + effects.penalty)

    def _flat(self, y: Array, rank: int, whole: bool) -> Array:
        """Merge the axes that are attended over into one, after the others, in an array from an input of this rank.

        Args:
            whole: whether all steps are gathered on a mesh with Explicit axes, as those of key and value are.
        """
        axes = self._axes(rank)
        others = [axis for axis in range(rank - 1) if axis not in axes]
        y = gather_axes(y, {*others[1:], *(axes if whole or len(axes) > 1 else ())})
        y = y.transpose(*others, *axes, *range(rank - 1, y.ndim))
        count, end = len(others), y.shape[rank - 1 :]
        return y.reshape(math.prod(y.shape[:count]), math.prod(y.shape[count : rank - 1]), *end)

    def _visible(self, given: dict[str, Array], masks: dict[str, Any]) -> Array | None:
        """Return whether each query sees each value, (batch, heads, query steps, value steps), or None for all."""
        query, value, found = given["query"], given["value"], []
        for name in ("value", "key"):
            own = masks.get(name)
            if own is not None:
                shape = given[name].shape
                full = jnp.broadcast_to(broadcast_mask(own, shape, self.mask_layouts(len(shape))), shape).any(-1)
                found.append(self._flat(full, len(shape), True)[:, None, None, :])
        axes = self._axes(query.ndim)
        ahead = jnp.arange(query.shape[axes[0]])[:, None] - jnp.arange(value.shape[axes[0]])[None]
        if self.use_causal_mask:
            found.append((ahead >= 0)[None, None])
        if self.sliding_window is not None:
            found.append((abs(ahead) < self.sliding_window)[None, None])
        if "attention_mask" in given:
            own = given["attention_mask"] != 0
            wanted: Any = self._mask_sizes([query.shape, value.shape, value.shape, own.shape])
            own = own if own.ndim == len(wanted) else own[:, None]
            steps = math.prod(query.shape[axis] for axis in axes), math.prod(value.shape[axis] for axis in axes)
            own = jnp.broadcast_to(own, (*wanted[:1], own.shape[1], *wanted[2:])).reshape(wanted[0], -1, *steps)
            others = math.prod(n for axis, n in enumerate(query.shape[:-1]) if axis and axis not in axes)
            found.append(jnp.repeat(own, others, 0))
        return functools.reduce(jnp.logical_and, found) if found else None

    def _attend(self, projected: dict[str, Array], visible: Array | None, train: bool, key: Any) -> Array:
        """Return the heads' means of the value, in the shape of the query's heads."""
        shape = projected["query"].shape
        query = self._flat(projected["query"], len(shape) - 1, False)
        keys, value = (self._flat(projected[name], len(shape) - 1, True) for name in ("key", "value"))
        dtype, drops = promote(query.dtype, jnp.float32), train and self.dropout > 0
        scale = jnp.asarray(1 / math.sqrt(self.key_dim), dtype)
        scores = jnp.einsum("btnh,bsnh->bnts", query, keys, preferred_element_type=dtype) * scale
        if visible is not None:
            scores = jnp.where(visible, scores, jnp.asarray(jnp.finfo(dtype).min / 2, dtype))
        weights = jax.nn.softmax(scores, -1)
        if visible is not None and (self.dropout > 0 or len(shape) != 4):  # else a mean, as in Keras's fused kernel
            weights = jnp.where(visible, weights, jnp.zeros((), dtype))
        if drops:
            key = key if self.seed is None else jax.random.fold_in(key, self.seed)
            kept = jax.random.bernoulli(key, 1 - self.dropout, weights.shape)
            factor = 0 if self.dropout == 1 else 1 / (1 - self.dropout)
            weights = weights * jnp.where(kept, jnp.asarray(factor, dtype), jnp.zeros((), dtype))
        y = jnp.einsum("bnts,bsnv->btnv", weights.astype(value.dtype), value)
        rank, axes = len(shape) - 1, self._axes(len(shape) - 1)
        order = [*(axis for axis in range(rank - 1) if axis not in axes), *axes]
        y = y.reshape(*(shape[axis] for axis in order), *y.shape[-2:])
        return y.transpose(*(order.index(axis) for axis in range(rank - 1)), rank - 1, rank)

    # -- Keras's config, which calls the size of the output output_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {"output_shape" if name == "output_size" else name: value for name, value in config.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the layer from the result of ``get_config``, or from Keras's own config."""
        return super().from_config({"output_size" if k == "output_shape" else k: v for k, v in config.items()})
