"""The part of each value of a model that a change of a window of the input affects, in static sizes.

Uses only integer arithmetic on window declarations.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxconv.windows import Window


@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """The steps of one axis that change: for change ``k``, ``width`` steps from ``starts[k]``, all inside the axis.

    The width is that of the change that affects the most steps; the spans of the others contain unchanged steps.
    """

    starts: np.ndarray
    width: int

    def covers(self, length: int) -> bool:
        """Return whether the whole axis changes."""
        return self.width == length


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """The steps that are read to compute a span of a layer's output.

    reads: the steps of the input, for change ``k`` starting at ``reads.starts[k]``; those before step 0 and after the
    end are padding. span: the steps of the output. cut: the first of the computed steps that belongs to the span.
    """

    reads: Span
    span: Span
    cut: np.ndarray


def follow(window: Window, span: Span, length: int) -> Reading:
    """Return the changed steps of the output of a window with constant padding, or of a transposed window.

    Sliding: the outputs ``t`` with ``t * stride - before <= last`` and ``t * stride - before + extent > first``.
    Transposed: the outputs from ``first * stride - before`` to ``last * stride - before + extent - 1``.

    >>> reading = follow(Window(3, padding="same"), Span(np.array([0, 4, 9]), 1), 10)
    >>> reading.span.starts, reading.span.width, reading.reads.starts, reading.reads.width
    (array([0, 3, 7]), 3, array([-1,  2,  6]), 5)
    """
    total, before, stride, extent = window.output_length(length), window.pads(length)[0], window.stride, window.extent
    first, last = span.starts, span.starts + span.width - 1
    if window.transposed:
        low, high = first * stride - before, last * stride - before + extent - 1
    else:
        low, high = -((extent - 1 - first - before) // stride), (last + before) // stride
    low, high = np.clip(low, 0, total - 1), np.clip(high, 0, total - 1)
    width = max(1, int((high - low).max()) + 1)
    out = Span(np.minimum(low, total - width), width)
    if not window.transposed:
        reads = Span(out.starts * stride - before, (width - 1) * stride + extent)
        return Reading(reads, out, np.zeros_like(out.starts))
    start = -((extent - 1 - out.starts - before) // stride)
    stop = (out.starts + width - 1 + before) // stride + (extent < stride)  # if it holds, some outputs read nothing
    return Reading(Span(start, int((stop - start).max()) + 1), out, out.starts - start * stride + before)


def union(spans: Sequence[Span], length: int) -> Span:
    """Return a span that contains all of the given spans for each change.

    >>> both = union([Span(np.array([0, 5]), 2), Span(np.array([1, 3]), 4)], 9)
    >>> both.starts, both.width
    (array([0, 3]), 5)
    """
    start = np.min([span.starts for span in spans], 0)
    width = int((np.max([span.starts + span.width for span in spans], 0) - start).max())
    return Span(np.minimum(start, length - width), width)
