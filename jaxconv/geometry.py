"""The shape arithmetic of convolutions: from layer options to static integers.

Lengths are integers or symbolic dimensions.
"""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from jaxconv.registry import nearest

Pairs = tuple[tuple[int, int], ...]
Padding = str | tuple[str | tuple[int, int], ...]  # for all axes, or for each axis


def as_sizes(value: Any, rank: int, what: str, where: str, minimum: int = 1) -> tuple[int, ...]:
    """Convert an integer (repeated) or an iterable of ``rank`` integers to a tuple of ``rank`` integers.

    Raises ValueError for a wrong number of items, or an item that is not an integer or is below ``minimum``; TypeError
    for a string.
    """
    allowed = f"an integer or {rank} integers, each" if rank > 1 else "an integer of"
    allowed += f" at least {minimum}"
    if isinstance(value, str):
        raise TypeError(f"{where}: {what} is the string {value!r}; give {allowed}")
    items = list(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else [value] * rank
    try:
        sizes = tuple(operator.index(item) for item in items)
    except TypeError:
        raise ValueError(f"{where}: {what}={value!r} does not consist of integers; give {allowed}") from None
    if len(sizes) != rank or min(sizes, default=minimum) < minimum:
        raise ValueError(f"{where}: {what}={value!r} is not valid; give {allowed}")
    return sizes


def as_size(value: Any, what: str, where: str) -> int:
    """Convert to a positive integer. Raises TypeError for a string, ValueError for any other invalid value."""
    if isinstance(value, str):
        raise TypeError(f"{where}: {what} is the string {value!r}; give a positive integer")
    try:
        size = operator.index(value)
    except TypeError:
        raise ValueError(f"{where}: {what}={value!r} is not an integer; give a positive integer") from None
    if size < 1:
        raise ValueError(f"{where}: {what}={size} is not positive; the smallest valid value is 1")
    return size


def as_padding(padding: Any, rank: int, where: str, causal: bool) -> Padding:
    """Convert padding to canonical form: a name for all axes, or for each axis a name or a pair ``(before, after)``.

    ``padding`` is a name, or ``rank`` items, each a name or a pair; in one dimension, a single pair is valid too. With
    ``causal``, the name "causal" is valid in one dimension, and for a single axis in any number of dimensions. Raises
    ValueError for an unknown name, a wrong number of items or a negative pad; TypeError if ``padding`` is neither a
    string nor iterable.
    """
    names = ["valid", "same"] + ["causal"] * causal
    whole = names if rank == 1 else names[:2]
    kinds = "a name" if whole == names else "a name, 'causal'"
    allowed = f"{', '.join(map(repr, whole))}; or {rank} item(s), each {kinds} or a pair (before, after), both >= 0"
    if isinstance(padding, str):
        if padding.lower() == "causal" and rank > 1 and causal:
            one = ("causal", *("same",) * (rank - 1))
            what = f"padding 'causal' exists in one dimension only, this has {rank}"
            raise ValueError(f"{where}: {what}; name it for one axis, as in {one}")
        return _as_name(padding, whole, where)
    if not isinstance(padding, Iterable):
        raise TypeError(f"{where}: cannot read padding={padding!r}; expected {allowed}")
    items = list(padding)
    if rank == 1 and len(items) == 2 and not any(isinstance(item, Iterable) for item in items):
        items = [items]
    if len(items) != rank or not all(isinstance(item, Iterable) for item in items):
        raise ValueError(f"{where}: padding={padding!r} does not fit {rank} spatial dimension(s); expected {allowed}")
    each = tuple(
        _as_name(item, names, where)
        if isinstance(item, str)
        else as_sizes(item, 2, f"padding={padding!r}, axis {axis}", where, 0)
        for axis, item in enumerate(items)
    )
    alike = isinstance(each[0], str) and len(set(each)) == 1 and (rank == 1 or each[0] != "causal")
    return each[0] if alike else each  # type: ignore[return-value]


def _as_name(padding: str, names: Sequence[str], where: str) -> str:
    if padding.lower() not in names:
        raise ValueError(f"{where}: unknown padding {padding!r}; {nearest(padding, names)}, or explicit pairs")
    return padding.lower()


def each_axis(padding: Padding, rank: int) -> tuple[str | tuple[int, int], ...]:
    """Return the padding of each axis."""
    return (padding,) * rank if isinstance(padding, str) else padding


def dilate(length: int, rate: int) -> int:
    """Return the length of a kernel or an input after dilation by ``rate``."""
    return (length - 1) * rate + 1 if length else 0


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One convolution as static integers: the options of the three bilinear maps.

    With ``x`` dilated by ``lhs_dilation`` and padded, ``y[o] = sum_j x[o * stride + j * rhs_dilation] w[j]`` on each
    axis. The arrays determine the batch size and the numbers of channels.

    Args:
        x_lengths, w_lengths: spatial lengths of input and kernel.
        strides, lhs_dilation, rhs_dilation: steps, at least 1, one for each spatial axis.
        padding: (before, after) for each axis; negative values crop.
        groups: number of channel groups.
        x_dims, w_dims, y_dims: positions of the axes, as in ``jax.lax.ConvDimensionNumbers``: those of (batch, channel,
            *spatial) for x and y, of (filters, channels of a group, *spatial) for w.
    """

    x_lengths: tuple[int, ...]
    w_lengths: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pairs
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    groups: int
    x_dims: tuple[int, ...]
    w_dims: tuple[int, ...]
    y_dims: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Return the number of spatial axes."""
        return len(self.strides)

    @property
    def y_lengths(self) -> tuple[int, ...]:
        """Return the spatial lengths of the output; 0 if the kernel does not fit. Symbolic lengths always fit it."""
        each = self.x_lengths, self.lhs_dilation, self.padding, self.w_lengths, self.rhs_dilation
        room = [dilate(n, b) + sum(p) - dilate(k, d) for n, b, p, k, d in zip(*each, strict=True)]
        return tuple(0 if isinstance(r, int) and r < 0 else r // s + 1 for r, s in zip(room, self.strides, strict=True))
