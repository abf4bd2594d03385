"""Sequence masks: True at each real step. How one is read, laid along an input, and moved under a sliding window.

A sample's own sequence runs from its first to its last real step; a step between them may be masked too (a hole).
Knows arrays and static sizes, no layer.
"""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv import geometry as geo
from jaxconv.errors import explain

Array = jax.Array
Axes = tuple[int, ...]


def layouts(rank: int, channels: int | None = None) -> list[Axes]:
    """Give the axes of an input that a mask may lie along: all but the channels; for both data formats if None.

    >>> layouts(3), layouts(3, 1)
    ([(0, 1), (0, 2)], [(0, 2)])
    """
    places = [rank - 1] + [1] * (rank > 2) if channels is None else [channels]
    return [tuple(axis for axis in range(rank) if axis != place) for place in places]


def fitting(mask: tuple, shape: tuple, ways: Sequence[Axes], broadcast: bool = False) -> Axes | None:
    """Give the axes that a mask's axes are: those of the first layout that fits, or None."""
    for axes in ways:
        sizes = zip(mask, axes, strict=False)
        if 0 < len(mask) <= len(axes) and all(n == shape[a] or (broadcast and n == 1) for n, a in sizes):
            return axes[: len(mask)]
    return None


def as_mask(
    mask: Any, shape: tuple, ways: Sequence[Axes], where: str, *, least: int = 1, broadcast: bool = False
) -> Array:
    """Read a mask for an input of ``shape``: booleans, or numbers, of which those that are not 0 stand for True.

    Args:
        mask, shape, ways: see :func:`fitting`.
        where: the layer, for messages.
        least: how many axes it must have.
        broadcast: whether a size of 1 stands for any.

    Raises:
        TypeError: no array of booleans or real numbers.
        ValueError: a shape that fits the input in none of the ways, with one that would.
    """
    with explain(f"{where}: the mask is no array of booleans"):
        mask = jnp.asarray(mask)
        if jnp.issubdtype(mask.dtype, jnp.complexfloating):
            raise TypeError(f"it has type {mask.dtype}")
    if mask.ndim < least or fitting(mask.shape, shape, ways, broadcast) is None:
        legal = sorted({tuple(shape[a] for a in axes[: max(mask.ndim, least)]) for axes in ways}, key=repr)
        raise ValueError(
            f"{where}: mask of shape {mask.shape} does not fit input of shape {shape}; "
            f"give one of shape {' or '.join(map(str, legal))}, True at each real step"
        )
    return mask.astype(bool)


def lay(mask: Array, shape: tuple, ways: Sequence[Axes]) -> Array:
    """Lay a mask along an input of ``shape``: its axes where they belong, size 1 elsewhere."""
    axes = fitting(mask.shape, shape, ways) or fitting(mask.shape, shape, ways, broadcast=True)
    assert axes is not None  # as_mask has checked it
    return lax.broadcast_in_dim(mask, [mask.shape[axes.index(a)] if a in axes else 1 for a in range(len(shape))], axes)


def hide(x: Array, mask: Array, ways: Sequence[Axes], value: float = 0) -> Array:
    """Put a value that contributes nothing at the masked steps of an input."""
    return jnp.where(lay(mask, x.shape, ways), x, jnp.asarray(value, x.dtype))


def ends(where: str) -> None:
    """Warn that a layer cannot pass a mask on, and give the mask that is left: none."""
    warnings.warn(
        f"{where}: the mask ends here: this layer cannot say which steps of its output are real, and later layers see "
        "no mask",
        stacklevel=4,
    )


# -- the sequences in a batch


class Span(NamedTuple):
    """Where each sample's own sequence lies. start: its first step. length: its steps, 0 where there is none."""

    start: Array
    length: Array


def span(mask: Array) -> Span:
    """Find each sample's own sequence, for a mask (batch, time).

    >>> span(jnp.array([[False, True, False, True, False], [False] * 5]))
    Span(start=Array([1, 0], dtype=int32), length=Array([3, 0], dtype=int32))
    """
    there = mask.any(1)
    start, behind = (jnp.argmax(m, axis=1).astype(jnp.int32) for m in (mask, mask[:, ::-1]))
    length = jnp.asarray(mask.shape[1], jnp.int32) - start - behind
    return Span(start, jnp.where(there, length, 0))


def stretch(first: Array, count: Array, length: Any) -> Array:
    """Give the mask (batch, length) of ``count`` steps from ``first`` on."""
    step = jnp.arange(length, dtype=jnp.int32)[None]
    return (step >= first[:, None]) & (step < (first + count)[:, None])


# -- windows over them


class Windows(NamedTuple):
    """A window that slides along time.

    size: in taps. stride: steps of input for one of output. rate: distance of taps. padding: a name or (before, after).
    mode: what stands in the padding.
    """

    size: int
    stride: int
    rate: int
    padding: Any
    mode: str = "zeros"

    @property
    def in_place(self) -> bool:
        """Whether a sequence alone and one inside a batch lie alike: masked steps need to be hidden, and no more."""
        return self.stride == 1 and self.mode == "zeros"

    def _pads(self, length: Any) -> tuple[int, int]:
        return geo.pads((self.padding,), (length,), (self.size,), (self.stride,), (self.rate,))[0]

    def _pads_of(self, length: Array) -> tuple[Array, Array]:
        """Give the padding (before, after) of sequences of these lengths, as ``geometry.pads`` does for a known one."""
        if self.padding != "same":
            before, after = self._pads(None)
            return jnp.full_like(length, before), jnp.full_like(length, after)
        total = jnp.maximum(geo.dilate(self.size, self.rate) - self.stride + -length % self.stride, 0)
        return total // 2, total - total // 2

    def _count(self, length: Array) -> Array:
        """Give how many steps come of sequences of these lengths; none where one alone would be refused."""
        before, after = self._pads_of(length)
        count = (length + before + after - geo.dilate(self.size, self.rate)) // self.stride + 1
        least = jnp.maximum(before, after) if self.mode == "reflect" else jnp.zeros_like(length)
        return jnp.where(length > least, jnp.maximum(count, 0), 0)

    def _sources(self, mask: Array) -> tuple[Array, Array]:
        """Give, for each place of the padded input, the step that stands there, and whether it is of the sequence."""
        start, length = (value[:, None] for value in span(mask))
        places = mask.shape[1] + sum(self._pads(mask.shape[1]))
        own = jnp.arange(places, dtype=jnp.int32)[None] + start % self.stride - self._pads_of(length)[0] - start
        most = jnp.maximum(length, 1)
        if self.mode == "circular":
            own = own % most
        elif self.mode == "replicate":
            own = jnp.clip(own, 0, most - 1)
        elif self.mode == "reflect":
            period = jnp.maximum(2 * (most - 1), 1)
            own = jnp.minimum(own % period, -own % period)
        return jnp.clip(start + own, 0, mask.shape[1] - 1), (own >= 0) & (own < length)

    def place(self, x: Array, mask: Array, axis: int, value: float = 0) -> Array:
        """Lay each sample's sequence out behind its own padding, as it would lie alone.

        A "valid" window over the result gives the outputs of the sequence alone, from step ``start // stride`` on.

        Args:
            x: the input, with time at ``axis``.
            mask: (batch, time).
            axis: 1 or 2, of three.
            value: what stands at masked steps.
        """
        index, within = self._sources(mask)
        there = within & jnp.take_along_axis(mask, index, 1, mode="clip")
        other = 3 - axis
        x = jnp.take_along_axis(x, jnp.expand_dims(index, other), axis, mode="clip")
        return jnp.where(jnp.expand_dims(there, other), x, jnp.asarray(value, x.dtype))

    def output_mask(self, mask: Array) -> Array:
        """Give the mask of the output: the steps that come of the sequence alone, but for those that see holes only."""
        index, within = self._sources(mask)
        kind = jnp.where(within, 1 + jnp.take_along_axis(mask, index, 1, mode="clip").astype(jnp.int32), 0)  # 1: a hole
        sees = lax.reduce_window(
            kind, jnp.int32(0), lax.max, (1, self.size), (1, self.stride), "VALID", window_dilation=(1, self.rate)
        )
        start, length = span(mask)
        return stretch(start // self.stride, self._count(length), sees.shape[1]) & (sees != 1)


class Maskable:
    """What a layer says about masks, before it says more: masked steps need no care, and the mask goes on or ends."""

    keeps_mask: ClassVar[bool]

    @property
    def label(self) -> str:
        raise NotImplementedError

    def call(self, params: Any, x: Array, *, train: bool, key: Any) -> tuple[Array, Any]:
        raise NotImplementedError

    def call_masked(self, params: Any, x: Array, mask: Any, *, train: bool, key: Any) -> tuple[Array, Any]:
        """Compute what ``call`` does with masked steps left out. Where steps do not meet, that is the same."""
        return self.call(params, x, train=train, key=key)

    def output_mask(self, x: Array, mask: Any) -> Any:
        """Give the output's mask from the input and its mask, which may be None."""
        return mask if mask is None or self.keeps_mask else ends(self.label)

    def hidden(self, x: Array, mask: Any) -> Array:
        """Give an input over one axis with zeros at its masked steps; over several axes a mask has none to hide."""
        return hide(x, mask, self.mask_layouts(3)) if getattr(self, "rank", 0) == 1 else x

    def mask_layouts(self, rank: int) -> list[tuple[int, ...]]:
        """Give the axes of an input or output of this rank that a mask may lie along, the likeliest first."""
        places: dict[Any, int] = {"channels_last": rank - 1, "channels_first": 1}
        return layouts(rank, places.get(getattr(self, "data_format", None)))

    def read_mask(self, mask: Any, shape: Any) -> Any:
        """Read the mask of an input of this shape. Raises ValueError for one of the wrong length."""
        least = 2 if getattr(self, "rank", 0) == 1 else 1  # a layer over one axis needs to know its steps
        return None if mask is None else as_mask(mask, shape, self.mask_layouts(len(shape)), self.label, least=least)
