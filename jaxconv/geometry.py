"""The shape arithmetic of convolutions: options become static integers here, once, for every caller.

Knows sizes only: no arrays, no params. Lengths are in steps; an unknown length is ``None`` and stays ``None``.
"""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from jaxconv.registry import nearest

Pairs = tuple[tuple[int, int], ...]
Padding = str | Pairs


def as_sizes(value: Any, rank: int, what: str, where: str, minimum: int = 1) -> tuple[int, ...]:
    """Give ``rank`` integers from an integer (repeated) or an iterable of ``rank`` integers.

    Raises:
        ValueError: wrong count, not a whole number, or below ``minimum``.
        TypeError: a string.
    """
    many = f"an integer or {rank} integers, each" if rank > 1 else "one integer"
    legal = f"{many} at least {minimum}"
    if isinstance(value, str):
        raise TypeError(f"{where}: {what} is the string {value!r}; give {legal}")
    items = list(value) if isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0 else [value] * rank
    try:
        sizes = tuple(operator.index(item) for item in items)
    except TypeError:
        raise ValueError(f"{where}: {what}={value!r} is not whole numbers; give {legal}") from None
    if len(sizes) != rank or min(sizes, default=minimum) < minimum:
        raise ValueError(f"{where}: {what}={value!r} is not legal; give {legal}")
    return sizes


def as_size(value: Any, what: str, where: str) -> int:
    """Give one positive integer. Raises ValueError or TypeError for anything else."""
    if isinstance(value, str):
        raise TypeError(f"{where}: {what} is the string {value!r}; give a positive integer")
    try:
        size = operator.index(value)
    except TypeError:
        raise ValueError(f"{where}: {what}={value!r} is not a whole number; give a positive integer") from None
    if size < 1:
        raise ValueError(f"{where}: {what}={size} is not positive; the smallest legal value is 1")
    return size


def as_padding(padding: Any, rank: int, where: str, causal: bool) -> Padding:
    """Give the canonical padding: a lower-case name, or one ``(before, after)`` pair for each spatial axis.

    In one dimension a single pair ``(before, after)`` stands for itself.

    Raises:
        ValueError: an unknown name, ``"causal"`` where ``causal`` is False, a wrong count, a negative pad.
        TypeError: neither a string nor pairs.
    """
    names = ["valid", "same"] + ["causal"] * causal
    legal = f"{', '.join(map(repr, names))} or {rank} pair(s) (before, after) of non-negative integers"
    if isinstance(padding, str):
        if padding.lower() in names:
            return padding.lower()
        if padding.lower() == "causal":
            raise ValueError(f"{where}: padding 'causal' exists in one dimension only, this has {rank}; legal: {legal}")
        raise ValueError(f"{where}: unknown padding {padding!r}; {nearest(padding, names)}, or explicit pairs")
    if not isinstance(padding, Iterable):
        raise TypeError(f"{where}: cannot read padding={padding!r}; legal: {legal}")
    items = list(padding)
    if rank == 1 and len(items) == 2 and not any(isinstance(item, Iterable) for item in items):
        items = [items]
    if len(items) != rank or not all(isinstance(item, Iterable) and not isinstance(item, str) for item in items):
        raise ValueError(f"{where}: padding={padding!r} does not fit {rank} spatial dimension(s); legal: {legal}")
    low, high = zip(
        *(as_sizes(item, 2, f"padding={padding!r}, axis {i}", where, 0) for i, item in enumerate(items)), strict=True
    )
    return tuple(zip(low, high, strict=True))


def dilate(length: int, rate: int) -> int:
    """Give the extent of ``length`` points that lie ``rate`` apart: the effective kernel, the stretched input."""
    return (length - 1) * rate + 1 if length else 0


def pads(
    padding: Padding,
    lengths: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Give the zeros (before, after) on each axis that a canonical padding means, as Keras places them.

    ``"same"`` puts the odd zero after. An unknown length counts as one that the stride divides; use the result for
    nothing that depends on it.
    """
    if not isinstance(padding, str):
        return padding
    pairs = []
    for length, k, stride, rate in zip(lengths, kernel, strides, dilation, strict=True):
        extent = dilate(k, rate)
        if padding == "valid":
            pairs.append((0, 0))
        elif padding == "causal":
            pairs.append((extent - 1, 0))
        else:
            # with stride 1 the total does not depend on the length, which may then be symbolic
            over = (
                extent - stride
                if stride == 1 or length is None
                else (-(-length // stride) - 1) * stride + extent - length
            )
            total = max(over, 0)
            pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def output_lengths(
    padding: Padding,
    lengths: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    where: str,
    names: Sequence[str] = ("kernel_size", "dilation_rate"),
) -> tuple[int | None, ...]:
    """Give the output length of each axis: ``floor((length + pads - effective kernel) / stride) + 1``.

    Raises:
        ValueError: where the result would be empty, naming the shortest legal input.
    """
    if padding == "same":
        shortest = [1] * len(kernel)
    else:
        zeros = pads(padding, lengths, kernel, strides, dilation)
        shortest = [max(dilate(k, d) - sum(p), 1) for k, d, p in zip(kernel, dilation, zeros, strict=True)]
    out: list[int | None] = []
    for axis, (length, least, stride) in enumerate(zip(lengths, shortest, strides, strict=True)):
        if isinstance(length, int) and length < least:
            spatial = f" on spatial axis {axis}" if len(kernel) > 1 else ""
            sizes = ", ".join(f"{name}={size[axis]}" for name, size in zip(names, (kernel, dilation), strict=False))
            raise ValueError(
                f"{where}: input of length {length}{spatial} is shorter than the effective kernel "
                f"{dilate(kernel[axis], dilation[axis])} ({sizes}, padding={padding!r}); "
                f"the shortest legal input is {least}"
            )
        if length is None:
            out.append(None)
        elif padding in ("same", "causal"):
            out.append(-(-length // stride))
        else:
            out.append(
                (length - least + (least - (dilate(kernel[axis], dilation[axis]) - sum(zeros[axis])))) // stride + 1
            )
    return tuple(out)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One convolution as static integers: everything that the three bilinear maps share, and nothing else.

    With ``x`` stretched by ``lhs_dilation`` and padded, ``y[o] = sum_j x[o * stride + j * rhs_dilation] w[j]`` on each
    axis. Batch and channel counts are not here: they come with the arrays.

    Args:
        x_lengths, w_lengths: spatial lengths of input and kernel.
        strides, lhs_dilation, rhs_dilation: steps, at least 1, one for each spatial axis.
        padding: (before, after) for each axis; negative values crop.
        groups: number of channel groups.
        x_dims, w_dims, y_dims: where the axes are, as in ``jax.lax.ConvDimensionNumbers``: (batch, channel, *spatial)
            for x and y, (filters, channels of a group, *spatial) for w.
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
        """Give the number of spatial axes."""
        return len(self.strides)

    @property
    def y_lengths(self) -> tuple[int, ...]:
        """Give the output's spatial lengths; 0 where the kernel does not fit."""
        room = [
            dilate(n, b) + sum(p) - dilate(k, d)
            for n, b, p, k, d in zip(
                self.x_lengths, self.lhs_dilation, self.padding, self.w_lengths, self.rhs_dilation, strict=True
            )
        ]
        return tuple(r // s + 1 if r >= 0 else 0 for r, s in zip(room, self.strides, strict=True))
