"""The static properties of a value inside a stream: its time axis, rate, delay and length."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import jax.numpy as jnp

from jaxconv.contract.receptive_field import Field


@dataclasses.dataclass(frozen=True)
class Lengths:
    """The length of a value for an input of ``n`` steps: ``(n * factor + offset) // divisor`` for each window in turn.

    A result below one means that neither this window nor a later one has an output.

    >>> Lengths(((1, -2, 1), (1, 1, 2)))(9), Lengths(((1, -2, 1),))(2)
    (4, 0)
    """

    windows: tuple[tuple[int, int, int], ...] = ()

    def then(self, factor: int, offset: int, divisor: int) -> "Lengths":
        """Return the lengths after one more window."""
        if (factor, offset, divisor) == (1, 0, 1):
            return self
        return Lengths((*self.windows, (factor, offset, divisor)))

    @property
    def period(self) -> int:
        """Return a number of input steps of which every multiple gives each window a whole number of steps."""
        rate, period = Fraction(1), 1
        for factor, _, divisor in self.windows:
            rate = rate * factor / divisor
            period = math.lcm(period, rate.denominator)
        return period

    @property
    def least(self) -> int:
        """Return the smallest number of input steps for which there is an output."""
        count = 1
        for factor, offset, divisor in reversed(self.windows):
            count = max(1, -((offset - count * divisor) // factor))
        return count

    def __call__(self, count: Any) -> Any:
        """Return the length for ``count`` input steps: an integer, or an array of integers."""
        for factor, offset, divisor in self.windows:
            found = (count * factor + offset) // divisor
            if isinstance(count, int):
                count = max(found, 0) if count > 0 else 0
            else:
                count = jnp.where(count > 0, jnp.maximum(found, 0), 0)
        return count


ONE_STEP = Field()


@dataclasses.dataclass(frozen=True)
class Signal:
    """A value inside a stream.

    shape: batch first, as the layer that uses it expects it, with None along the streamed axis.
    axis: the streamed axis in ``shape``, or None if a layer has reduced it: the value then is one result for each
        step, of this shape, and the array has time at axis 1 in addition.
    length: its steps for the whole input shape that the user gave, or None if that is unknown.
    rate: its steps for each step of the stream's input. delay: the number of its first steps that are invalid.
    lengths: its number of valid steps. field: the input steps that one of its steps reads; None for all earlier ones.
    source: the name of the layer that computes it. padded: the first layer before it that pads or crops the time
        axis, so that a window of the signal is not what the network computes on only that window.
    masked: a layer before it that masks steps by their values.
    """

    shape: tuple
    axis: int | None
    length: int | None
    rate: Fraction = Fraction(1)
    delay: int = 0
    lengths: Lengths = Lengths()
    field: Field | None = ONE_STEP
    source: str = "the input"
    padded: str | None = None
    masked: str | None = None

    @property
    def time(self) -> int:
        """Return the axis of time in the array."""
        return 1 if self.axis is None else self.axis

    @property
    def on_time(self) -> int:
        """Return the smallest delay with which no step is computed before it is known that there is one."""
        return int((self.lengths.least - 1) * self.rate)

    def sized(self, steps: int | None) -> tuple:
        """Return ``shape`` with this many steps along the streamed axis."""
        return tuple(steps if axis == self.axis else size for axis, size in enumerate(self.shape))

    def array_shape(self, batch: int | None, steps: int | None) -> tuple:
        """Return the shape of an array with this many steps."""
        sizes = self.sized(steps) if self.axis is not None else (None, steps, *self.shape[1:])
        return (batch, *sizes[1:])
