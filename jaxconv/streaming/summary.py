"""Human-readable summary of a stream: a row for each call with its delay, its state and its work."""

from typing import Any, NamedTuple

from jaxconv.contract.display import Table, format_shapes
from jaxconv.streaming.plan import Plan

COLUMNS = ["layer", "kind", "output", "block", "delay", "flush", "receptive field", "state bytes", "multiply-adds"]


class StreamRow(NamedTuple):
    """One call of one layer in a stream.

    name: the layer's, after those of the containers around it, with "#1" at its second call; empty for the whole.
    kind: its class. output: the shape of its output, with None for batch and time.
    block: the number of input steps of the stream after which its output has whole steps. delay: the number of its
    first steps that are invalid; negative if padding gives steps before the first input. flush: the number of steps of
    the stream's input that flush its last steps. receptive_field: the input steps that one of its steps reads, or None
    for all until now. state_bytes: the size of its state for one row. multiply_adds: those for one block of the stream,
    for one row, or None if they are not known.
    """

    name: str
    kind: str
    output: Any
    block: int
    delay: int
    flush: int
    receptive_field: int | None
    state_bytes: int
    multiply_adds: int | None


class StreamSummary(Table):
    """The rows of a stream: the first for the whole, then one for each call. ``print(summary)`` shows a table."""

    def cells(self) -> list[list[str]]:
        total, *rows = self
        lines = [[row.name or self.label, row.kind, format_shapes(row.output), *_numbers(row)] for row in rows]
        return [COLUMNS, *lines, ["total", "", "", *_numbers(total)]]


def _numbers(row: StreamRow) -> list[str]:
    return ["-" if n is None else f"{n:,}" for n in row[3:]]


def summarize(layer: Any, plan: Plan) -> StreamSummary:
    """Return the rows of the plan of a model. With several outputs, the whole has the largest delay and field."""
    rows = []
    for step in plan.steps:
        signal, field = step.choice.signal, step.choice.signal.field
        kind, output = type(step.choice.operation.layer).__name__, signal.array_shape(None, None)
        block, flush, size = signal.rate.denominator, plan.flush([signal]), None if field is None else field.size
        work = step.multiply_adds(plan.block)
        rows.append(StreamRow(step.key, kind, output, block, signal.delay, flush, size, step.state_bytes(), work))
    fields = [signal.field for signal in plan.results]
    counts = [row.multiply_adds for row in rows]
    total = StreamRow(
        "",
        type(layer).__name__,
        layer.output_structure.unflatten(signal.array_shape(None, None) for signal in plan.results),
        plan.block,
        max(signal.delay for signal in plan.results),
        plan.flush(plan.results),
        None if None in fields else max(field.size for field in fields if field is not None),
        sum(row.state_bytes for row in rows) + 8,  # two counters
        None if None in counts else sum(count or 0 for count in counts),
    )
    return StreamSummary([total, *rows], layer.label)
