"""Receptive fields: the steps of a model's input that one step of an inner value depends on, axis by axis."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from jaxconv.windows import Reach, Window


class Field(NamedTuple):
    """The steps of one axis of the model's input that one axis of a value reads: step 0 reads ``low`` to ``high``.

    stride: input steps from the field of one step to that of the next. axis: the input's axis, counted after the batch.
    """

    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    stride: Fraction = Fraction(1)
    axis: int = 0

    @property
    def size(self) -> int:
        """Return the number of input steps that a step reads; if it differs from step to step, the largest."""
        return math.ceil(self.high - self.low) + 1

    def through(self, reach: Reach) -> "Field":
        """Return the field of an axis that reads this one."""
        low, high = self.low + reach.low * self.stride, self.high + reach.high * self.stride
        return Field(low, high, self.stride * reach.step, self.axis)


# one for each axis after the batch; None for an axis that reads all steps, or for which too little is known
Fields = tuple[Field | None, ...]


def propagate(windows: Sequence[Window], inputs: Sequence[Fields], lengths: Sequence[int | None]) -> Fields:
    """Return the fields of a layer's output from those of its inputs: the union over the inputs.

    The windows are the same for all its inputs; a padding rule may depend on the lengths.

    >>> (field, _) = propagate((Window(3, 2, padding="same"), Window(reads_all=True)), [(Field(), None)], (9, 4))
    >>> field.size, field.stride
    (3, Fraction(2, 1))
    """
    axes = [position if window.axis is None else window.axis for position, window in enumerate(windows)]
    pairs = zip(axes, windows, strict=True)
    return tuple(union([_compose(one, axis, window, lengths) for one in inputs]) for axis, window in pairs)


def _compose(fields: Fields, axis: int, window: Window, lengths: Sequence[int | None]) -> Field | None:
    field = fields[axis] if axis < len(fields) else None
    reach = None if field is None else window.reach(lengths[axis])
    return None if field is None or reach is None else field.through(reach)


def union(fields: Sequence[Field | None]) -> Field | None:
    """Return the union of the fields of several branches, or None if their strides or axes differ."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({(field.stride, field.axis) for field in known}) != 1:
        return None
    return Field(min(field.low for field in known), max(field.high for field in known), known[0].stride, known[0].axis)


def format_fields(fields: Fields) -> str:
    """Format the sizes of the axes that read a part of the input; "-" if there are none.

    >>> format_fields((Field(), Field(Fraction(0), Fraction(4)), None))
    '1 x 5'
    """
    return " x ".join(str(field.size) for field in fields if field is not None) or "-"
