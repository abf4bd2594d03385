"""What a layer may say of its size: the multiplications it does, and which steps of its input an output step sees.

Static integers, batch left out; knows no arrays. How measures add up along a graph stands in ``inspect``.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple


class Window(NamedTuple):
    """Which steps of an axis the steps of an output axis see: step 0 sees ``low`` to ``high``, both included.

    low, high: in input steps, relative to input step 0; the widest where it differs from step to step, so
        that behind an interpolation a field may count one step too many.
    stride: input steps from one output step's window to the next one's; below 1 where the axis gets longer.
    axis: which axis of the input, counted after the batch; None for the axis in the same place.
    """

    low: int = 0
    high: int = 0
    stride: Fraction = Fraction(1)
    axis: int | None = None


class Measured:
    """The part of the contract that :mod:`jaxconv.inspect` works with."""

    keeps_mask: ClassVar[bool]
    leaves: Any

    def multiply_adds(self, input_shape: Any) -> int | None:
        """Count the products of a kernel's entries with inputs, for one example; None where that is not known.

        Scales, biases, activations and pooling count as nothing, as is usual; taps that meet padding count.
        """
        return None if any("kernel" in leaf for leaf in self.leaves) else 0

    def windows(self, input_shape: Any) -> tuple[Window | None, ...] | None:
        """Give, for each axis of the output after the batch, what it sees; None for an axis (or all) that sees all.

        A layer that works on each step alone, and therefore keeps masks, sees of each axis the same place.
        """
        return (Window(),) * (len(input_shape) - 1) if self.keeps_mask else None


def placed(data_format: str | None, spatial: Iterable[Window]) -> tuple[Window | None, ...]:
    """Give the windows of all axes for those of the spatial ones: a channel sees all channels.

    >>> placed("channels_first", [Window(-1, 1)])[0] is None
    True
    """
    return (*spatial, None) if data_format == "channels_last" else (None, *spatial)
