"""The window of an axis: the inputs that each output reads, and the lengths, padding and delays that follow from it.

Every layer declares one :class:`Window` for each axis of its output. Lengths are in steps; an unknown length is
``None`` and stays ``None``.
"""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

AxisPadding = str | tuple[int, int]  # "valid", "same", "causal", or (before, after); negative numbers crop


class Reach(NamedTuple):
    """The inputs that an output reads: output ``t`` reads ``low + t * step`` to ``high + t * step``, inclusive.

    For a transposed window, the range has the width of the widest output; some of the inputs in it may be skipped. The
    ends are rounded down; because the outputs differ in phase, the ends of one output can be ``dilation + 1`` inputs
    away.
    """

    low: int
    high: int
    step: Fraction


class StreamPlan(NamedTuple):
    """The requirements for running a window step by step. All lengths are in input steps, except ``delay``.

    keep: the number of earlier inputs (sliding) or unfinished outputs (transposed) that the state stores.
    delay: the number of initial outputs that are not part of the result, in output steps.
    block: the number of inputs that must arrive together to give a whole number of outputs.
    ratio: the number of outputs per input.
    """

    keep: int
    delay: int
    block: int
    ratio: Fraction


@dataclasses.dataclass(frozen=True)
class Window:
    """The relation between an axis of the output and the axis of the input that it reads.

    * Sliding: output ``t`` reads the inputs ``t * stride + j * dilation - before`` for ``0 <= j < size``. A crop or a
      padding is a window of size 1; without options the window is pointwise: output ``t`` reads input ``t``.
    * Transposed: input ``i`` adds to the outputs ``i * stride + j * dilation - before``, as in a transposed
      convolution. Upsampling by a factor is a transposed window whose stride is the factor.
    * Whole: every output reads all inputs, as an output channel of a convolution does. See :func:`whole`.

    Args:
        size: number of taps.
        stride: input steps from one output to the next; output steps from one input to the next if transposed.
        dilation: distance between adjacent taps.
        padding: "valid", "same", "causal" or (before, after). Negative numbers crop. For a transposed window, the
            number of steps cut off.
        mode: the values of the padding: "zeros", "reflect", "replicate", "circular"; "renormalize" omits the taps
            outside the input and scales the others so that the weights still sum to one.
        transposed: whether inputs add to outputs, instead of outputs reading inputs.
        output_padding: for a transposed window; see :meth:`output_length`.
        axis: the input axis, counted after the batch; None means the axis at the same position.
        reads_all: whether every output reads the whole axis, regardless of size, stride, dilation and padding.
        length: with ``reads_all``, the output length, or None if it is unknown.
        in_place: with ``reads_all``, whether step ``t`` of the output corresponds to step ``t`` of the input, as in a
            softmax over time.

    >>> Window(3, stride=2, padding="same").output_length(10)
    5
    >>> Window(4, stride=2, padding="same", transposed=True).output_length(5)
    10
    """

    size: int = 1
    stride: int = 1
    dilation: int = 1
    padding: AxisPadding = (0, 0)
    mode: str = "zeros"
    transposed: bool = False
    output_padding: int | None = None
    axis: int | None = None
    reads_all: bool = False
    length: int | None = None
    in_place: bool = False

    @property
    def extent(self) -> int:
        """Return the number of steps from the first to the last tap, inclusive: the effective kernel size."""
        return (self.size - 1) * self.dilation + 1

    @property
    def pointwise(self) -> bool:
        """Return whether output ``t`` reads input ``t`` and nothing else."""
        plain = self.size == self.stride == 1 and self.padding in ("valid", "same", "causal", (0, 0))
        return plain and not self.reads_all and not self.output_padding

    @property
    def aligned(self) -> bool:
        """Return whether step ``t`` of the output corresponds to step ``t`` of the input, and lengths are equal."""
        return self.pointwise or self.in_place

    @property
    def is_shift_equivariant(self) -> bool:
        """Return whether shifting a sequence within a longer input of zeros only shifts its outputs.

        With a stride, the outputs depend on where the sequence starts; with other modes, on where its padding begins.
        """
        return self.transposed or (self.stride == 1 and (self.mode == "zeros" or self.pads() == (0, 0)))

    @property
    def tail(self) -> int:
        """Return the output length of a transposed window minus ``(length - 1) * stride``."""
        more = self.output_padding
        if not isinstance(self.padding, str):
            return self.extent - sum(self.padding) + (more or 0)
        if self.padding == "valid":
            return max(self.extent, self.stride) if more is None else self.extent + more
        return self.stride if more is None else self.extent % 2 + more

    def pads(self, length: Any = None) -> tuple[int, int]:
        """Return the padding (before, after) of an input of this length, distributed as in Keras.

        "same" puts an odd step after the input. An unknown length is assumed to be divisible by the stride. For a
        transposed window, return the numbers of steps that are cut off the full output of ``(length - 1) * stride +
        extent`` steps; a negative second number means that zeros are appended.
        """
        if self.transposed:
            before = self.padding[0] if not isinstance(self.padding, str) else 0
            if self.padding == "same":
                before = max(self.extent - self.tail, 0) // 2
            return before, self.extent - self.tail - before
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "valid":
            return 0, 0
        if self.padding == "causal":
            return self.extent - 1, 0
        # with stride 1 the total does not depend on the length, which may then be symbolic
        known = self.stride > 1 and length is not None
        last = (-(-length // self.stride) - 1) * self.stride - length + self.stride if known else 0
        total = _at_least_zero(self.extent - self.stride + last)
        return total // 2, total - total // 2

    def output_length(self, length: Any, where: str = "window") -> Any:
        """Return the output length for an input of this length.

        Sliding: ``floor((length + pads - extent) / stride) + 1``. Transposed, from ``full = (length - 1) * stride +
        extent``: "valid" gives ``full``, at least ``length * stride``; "same" gives ``length * stride``; a pair cuts
        exactly that much off. With ``output_padding`` the length is ``full + output_padding`` for "valid" and pairs,
        and ``(length - 1) * stride + extent % 2 + output_padding`` for "same". Raises ValueError, which names the
        shortest valid input, if the result would be empty.
        """
        if self.reads_all:
            return length if self.in_place else self.length
        if self.pointwise or length is None:
            return length
        if self.transposed:
            shortest = max(1, -(-(1 - self.tail) // self.stride) + 1)
            if isinstance(length, int) and length < shortest:
                reason = f"leaves no output ({self.describe()})"
                raise ValueError(f"{where}: input of length {length} {reason}; the shortest valid input is {shortest}")
            return (length - 1) * self.stride + self.tail
        before, after = self.pads(length)
        if isinstance(length, int):
            self._check(length, before, after, where)
        return (length + before + after - self.extent) // self.stride + 1

    def _check(self, length: int, before: int, after: int, where: str) -> None:
        lacking = self.extent - before - after
        shortest = 1 if self.padding == "same" else max(lacking, 1)
        if self.size == 1 and lacking <= 1 and before >= 0 and after >= 0:
            shortest = 0 if isinstance(self.padding, tuple) else shortest  # a layer that only pads accepts empty inputs
        if length < shortest:
            reason = (
                f"is shorter than the effective window {self.extent} ({self.describe()})"
                if before >= 0 <= after
                else f"is used up by cropping {(-before, -after)}"
            )
            raise ValueError(f"{where}: input of length {length} {reason}; the shortest valid input is {shortest}")
        width = max(before, after)
        if self.mode == "reflect" and width >= length:
            reason = f"is too short for padding mode 'reflect' by {width}"
            raise ValueError(f"{where}: input of length {length} {reason}; the shortest valid input is {width + 1}")

    def describe(self) -> str:
        """Format the options for a message."""
        text = f"size {self.size}, "
        text += f"stride {self.stride}, " if self.transposed or self.stride > 1 else ""
        text += f"dilation {self.dilation}, padding {self.padding!r}"
        return text + (f", output padding {self.output_padding}" if self.transposed else "")

    def reach(self, length: Any = None) -> Reach | None:
        """Return the range of inputs that an output reads, or None if each output reads the whole axis."""
        if self.reads_all:
            return None
        before, _ = self.pads(length)
        if not self.transposed:
            return Reach(-before, self.extent - 1 - before, Fraction(self.stride))
        # every (stride / step)th tap meets an input, and the inputs that these taps meet are dilation / step apart
        step = math.gcd(self.stride, self.dilation)
        taps, last = -(-self.size * step // self.stride), before // self.stride
        return Reach(last - (taps - 1) * self.dilation // step, last, Fraction(1, self.stride))

    def stream(self, delay: int = 0) -> StreamPlan:
        """Return the plan for running the window step by step, if its input is delayed by ``delay`` steps.

        A sliding window keeps ``max(extent - stride, 0) + e`` earlier inputs, with the smallest ``e >= 0`` that makes
        ``delay + keep - before`` a nonnegative multiple of the stride; divided by the stride, it is the output's delay.
        A transposed window keeps the ``max(extent - stride, 0)`` outputs to which later inputs still add; its delay
        includes the outputs that the padding cuts off at the start. For "same" with a stride, the length is assumed to
        be divisible by the stride. Raises ValueError if each output reads the whole axis, or if the padding consists of
        values of the input.

        >>> Window(3, padding="same").stream(), Window(4, 4, padding="same").stream().delay
        (StreamPlan(keep=2, delay=1, block=1, ratio=Fraction(1, 1)), 0)
        """
        if self.reads_all:
            raise ValueError("Window.stream: each output reads the whole axis, which cannot run step by step")
        if self.mode != "zeros" and not self.pointwise:
            reason = f"padding mode {self.mode!r} reads later steps at the start"
            raise ValueError(f"Window.stream: {reason}, and cannot run step by step")
        before, _ = self.pads()
        keep = max(self.extent - self.stride, 0)
        if self.transposed:
            return StreamPlan(keep, delay * self.stride + before, 1, Fraction(self.stride))
        shortest = max(keep, before - delay)
        keep = shortest + (before - delay - shortest) % self.stride
        return StreamPlan(keep, (delay + keep - before) // self.stride, self.stride, Fraction(1, self.stride))


POINTWISE = Window()
MIXED = Window(reads_all=True, in_place=True)  # each step reads all, as in a softmax or normalization over time


def whole(length: int | None) -> Window:
    """Return the window of an axis of ``length`` outputs, each of which reads the whole axis.

    It also represents an axis that reads several axes (a flattened one) or none (a new one).

    Args:
        length: the number of outputs; None if it is unknown.

    >>> whole(8).output_length(3), MIXED.output_length(3)
    (8, 3)
    """
    return Window(reads_all=True, length=length)


def output_lengths(windows: Sequence[Window], lengths: Sequence[Any], where: str) -> tuple[Any, ...]:
    """Return the length of each output axis for inputs of these lengths. The axes are those after the batch.

    Raises ValueError if an axis is too short; the message counts the axes from the batch, which is axis 0.
    """
    out = []
    for position, window in enumerate(windows):
        axis = position if window.axis is None else window.axis
        if window.reads_all and not window.in_place:
            out.append(window.length)
            continue
        prefix = f"{where}: axis {axis + 1}" if len(lengths) > 2 else where
        out.append(window.output_length(lengths[axis], prefix))
    return tuple(out)


def _at_least_zero(value: Any) -> Any:
    """Return ``max(value, 0)``, also for a symbolic dimension."""
    if isinstance(value, int):
        return max(value, 0)
    from jax import core  # symbolic dimensions compare only through this function

    return core.max_dim(value, 0)
