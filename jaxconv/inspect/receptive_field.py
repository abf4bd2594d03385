"""Receptive fields: which steps of a model's input one step of a value inside it sees, axis by axis.

Knows windows, and how they add up from layer to layer; no layers.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple


class Field(NamedTuple):
    """What the steps of one axis see of one axis of the model's input: step 0 sees ``low`` to ``high``.

    stride: input steps from one step's field to the next one's.
    """

    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    stride: Fraction = Fraction(1)

    @property
    def size(self) -> int:
        """Give how many input steps a step sees; where the number differs from step to step, the largest."""
        return math.ceil(self.high - self.low) + 1


Fields = tuple[Field | None, ...]  # of the axes after the batch; None for an axis that sees all, or of which too little
# is known


def through(windows: Sequence[Any] | None, inputs: Sequence[Fields], rank: int) -> Fields:
    """Give the fields of a layer's output from those of its inputs: what is seen of any of them.

    Args:
        windows: what the layer says of its axes, the same for all its inputs.
        inputs: the fields of its inputs. rank: axes of the output, after the batch.

    >>> from jaxconv.contract.measures import Window
    >>> (field, _) = through((Window(-1, 1, Fraction(2)), None), [(Field(), None)], 2)
    >>> field.size, field.stride
    (3, Fraction(2, 1))
    """
    if windows is None:
        return (None,) * rank
    seen = []
    for axis, window in enumerate(windows):
        fields = (
            [None] if window is None else [_at(one, axis if window.axis is None else window.axis) for one in inputs]
        )
        seen.append(_joined([None if field is None else _next(field, window) for field in fields]))
    return tuple(seen)


def _at(fields: Fields, axis: int) -> Field | None:
    return fields[axis] if axis < len(fields) else None


def _next(field: Field, window: Any) -> Field:
    low, high = (field.low + window.low * field.stride, field.high + window.high * field.stride)
    return Field(low, high, field.stride * window.stride)


def _joined(fields: Sequence[Field | None]) -> Field | None:
    """Give what is seen of any of several branches; unknown where they go through the input at different speeds."""
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({field.stride for field in known}) != 1:
        return None
    return Field(min(field.low for field in known), max(field.high for field in known), known[0].stride)


def written(fields: Fields) -> str:
    """Write the sizes for people, of the axes that see a part of the input; "-" where none does.

    >>> written((Field(), Field(Fraction(0), Fraction(4)), None))
    '1 x 5'
    """
    return " x ".join(str(field.size) for field in fields if field is not None) or "-"
