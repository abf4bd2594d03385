"""Human-readable forms of a layer: the summary, text and HTML representations, a drawing of the graph."""

import dataclasses
import html as escaping
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxconv.contract.receptive_field import Field, Fields, format_fields, propagate
from jaxconv.contract.weights import param_shapes
from jaxconv.windows import Window

WIDTH, BOX, ROW, SIDE = 180, 24, 44, 38  # drawing: size of a box, distance between rows, room for lines on the left
LINES = 40  # maximum of a repr: what fits on a screen
COLUMNS = ["layer", "kind", "output", "trainable", "fixed", "multiply-adds", "receptive field"]


class Row(NamedTuple):
    """One call of one layer.

    name: the layer's name after those of its containers, "encoder/conv1d"; empty for the entire model.
    kind: the name of its class.
    output: its output shape, or structure of shapes.
    trainable, fixed: number of weights; 0 at a second call of a shared layer.
    multiply_adds: for one example, or None if the number is unknown.
    fields: the receptive fields of the axes of its (first) output, without the batch; None for the channels.
    depth: number of containers around it. A container's row precedes those of its layers, and includes their counts.
    """

    name: str
    kind: str
    output: Any
    trainable: int
    fixed: int
    multiply_adds: int | None
    fields: Fields
    depth: int = 0


class Table(list):
    """A list of rows: the first for the entire model, then one for each of its layers. ``print`` shows a table."""

    def __init__(self, rows: Sequence[Any], label: str):
        super().__init__(rows)
        self.label = label

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.label}: {len(self)} rows>"

    def __str__(self) -> str:
        return "\n".join(aligned(self.cells()))

    def cells(self) -> list[list[str]]:
        """Return the cells as text: the header, the rows, the totals."""
        raise NotImplementedError


class Summary(Table):
    """A list of rows: the first for the entire model, then one for each call. ``print(summary)`` shows a table."""

    def __init__(self, rows: Sequence[Row], label: str, input_shape: Any):
        super().__init__(rows, label)
        self.input_shape = input_shape

    def cells(self) -> list[list[str]]:
        """Return the cells as text: the header, the input, a line for each call, the totals."""
        total, *rows = self
        lines = [COLUMNS, ["(input)", "", format_shapes(self.input_shape), "", "", "", ""]]
        for row in rows or [total._replace(name=self.label, depth=1)]:
            name = "  " * (row.depth - 1) + row.name.rpartition("/")[2]
            lines.append([name, row.kind, format_shapes(row.output), *_numbers(row), format_fields(row.fields)])
        return [*lines, ["total", "", "", *_numbers(total), ""]]


def summary(layer: Any, input_shape: Any = None) -> Summary:
    """Return one row for the entire model, with an empty name, and one for each call of each layer in it.

    ``input_shape`` is batch first, or a structure of shapes for several inputs. Lengths may be None. It may be omitted
    if the layer knows its input shape. Raises ValueError if the layer does not accept this input.
    """
    shape = layer.known_input_shape if input_shape is None else input_shape
    if shape is None:
        raise ValueError(f"{layer.label}: summary needs an input shape; give one like (None, 128, 16)")
    shape = layer.read_shape(shape)
    params = param_shapes(layer, shape)
    shapes = layer.flat_inputs(shape)
    inputs: list[Fields] = [tuple(Field(axis=axis) for axis in range(len(one) - 1)) for one in shapes]
    calls: list[_Call] = []
    rows, _ = _rows("", layer, shape, inputs, params, 0, calls)
    channels = _channel_axes(calls, list(map(len, shapes)))
    kept = [tuple(None if field and field.axis in channels else field for field in row.fields) for row in rows]
    return Summary([row._replace(fields=own) for row, own in zip(rows, kept, strict=True)], layer.label, shape)


class _Call(NamedTuple):
    """A call of a layer that is not a container. rank: that of its (first) input. fields: those of each input."""

    layer: Any
    rank: int
    windows: Sequence[Window]
    fields: Sequence[Fields]


def _channel_axes(calls: Sequence[_Call], ranks: Sequence[int]) -> set[int]:
    """Return the axes of the model's input that are channels to its layers, counted after the batch.

    Some layers have a data format or an axis that names the channels; if none does, the channels are the last of two or
    more axes. An axis along which a layer moves a window is not a channel axis.
    """
    channels: set[int] = set()
    spatial: set[int] = set()
    for layer, rank, windows, inputs in calls:
        ways = layer.mask_layouts(rank)
        named = set(range(1, rank)).difference(ways[0]) if len(ways) == 1 and rank > 2 else set()
        moved = {
            1 + (position if window.axis is None else window.axis)
            for position, window in enumerate(windows)
            if not window.aligned and not window.reads_all
        }
        for axis, field in (pair for fields in inputs for pair in enumerate(fields, 1)):
            if field is not None and (axis in moved or len(named) == 1):
                (channels if axis in named - moved else spatial).add(field.axis)
    return (channels or {rank - 2 for rank in ranks if rank > 2}) - spatial


def _rows(
    name: str, layer: Any, shape: Any, inputs: list[Fields], params: Any, depth: int, calls: list[_Call]
) -> tuple[list[Row], list[Fields]]:
    """Return the rows of one call and the fields of its outputs. Appends the calls inside to ``calls``."""
    output = layer.output_shape(shape)
    parts = [layer.select(params, fixed=fixed) for fixed in (False, True)]
    trainable, fixed = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
    kind, multiply_adds = type(layer).__name__, layer.multiply_adds(shape)
    if layer.graph is None:
        first = shape[0] if isinstance(shape, list) else shape
        windows = layer.windows(shape)
        calls.append(_Call(layer, len(first), windows, inputs))
        own = propagate(windows, inputs, first[1:])
        return [Row(name, kind, output, trainable, fixed, multiply_adds, own, depth)], [own]
    inside: list[Row] = []
    values, shapes, seen = list(inputs), layer.flat_inputs(shape), set()
    for _, call, given in layer.graph.steps(shapes):
        child = layer.children[call.name]
        weights = {} if call.name in seen else params.get(call.name, {})
        seen.add(call.name)
        path = f"{name}/{call.name}" if name else call.name
        rows, fields = _rows(path, child, given, [values[index] for index in call.inputs], weights, depth + 1, calls)
        inside += rows
        values += fields
        shapes += child.output_structure.flatten_up_to(child.output_shape(given))
    outputs = [values[index] for index in layer.graph.outputs]
    row = Row(name, kind, output, trainable, fixed, multiply_adds, outputs[0] if outputs else (), depth)
    return [row, *inside], outputs


# -- text


def format_shapes(shapes: Any) -> str:
    """Format a shape, or a structure of shapes, for a reader.

    >>> format_shapes((None, 150, 1)), format_shapes([(None, None, 4), (8, 2)])
    ('(batch, 150, 1)', '(batch, None, 4), (8, 2)')
    """
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name} {format_shapes(shape)}" for name, shape in shapes.items())
    if isinstance(shapes, list):
        return ", ".join(map(format_shapes, shapes))
    first = ["batch" if size is None else str(size) for size in shapes[:1]]
    sizes = first + [str(size) for size in shapes[1:]]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _numbers(row: Row) -> list[str]:
    return ["-" if n is None else f"{n:,}" for n in (row.trainable, row.fixed, row.multiply_adds)]


def aligned(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table of a header, rows and totals: three columns of words, then columns of numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(words + numbers).rstrip())
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def changed_options(layer: Any) -> dict[str, Any]:
    """Return the options that differ from their defaults, in the order of the fields, without layers inside."""
    options = {}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name, None)
        inside = layer.graph is not None and field.name in ("layers", "branches", "merge", "shortcut", "graph")
        if field.init and field.compare and not inside and not _is_default(layer, field, value):
            options[field.name] = value
    return options


def _is_default(layer: Any, field: dataclasses.Field, value: Any) -> bool:
    if field.default is dataclasses.MISSING:
        return False
    try:  # the default in its canonical form: 1 is (1, 1) in two dimensions
        same = type(value)(field.default) == value if isinstance(value, tuple) and field.default else None
    except TypeError:
        same = None
    rank = getattr(layer, "rank", 0)
    written = [field.default, (field.default,) * rank] + ["channels_last"] * (field.name == "data_format")
    names = {getattr(value, "__name__", None), type(value).__name__}
    by_name = isinstance(field.default, str) and (field.default.replace("_", "") in {str(n).lower() for n in names})
    linear = field.default is None and getattr(value, "__name__", "") == "linear"
    return bool(same) or any(type(one) is type(value) and one == value for one in written) or by_name or linear


def header(layer: Any) -> str:
    """Describe a layer in one line: its class, and the options that differ from their defaults.

    >>> header(jaxconv.Conv1D(8, 3, padding="same", activation="relu"))
    "Conv1D(filters=8, kernel_size=(3,), padding='same', activation=relu)"
    """
    options = [f"{name}={getattr(v, '__name__', None) or repr(v)}" for name, v in changed_options(layer).items()]
    return f"{type(layer).__name__}({', '.join(options)})"


def text(layer: Any) -> str:
    """Return the repr of a layer: one line, or a line for each layer of a container, at most ``LINES`` lines."""
    lines = _tree(layer, "")
    if len(lines) > LINES:
        lines = [*lines[: LINES - 2], f"  ... {len(lines) - LINES + 1} more lines; see summary()", lines[-1]]
    return "\n".join(lines)


def _tree(layer: Any, indent: str) -> list[str]:
    if layer.graph is None or not layer.children:
        return [indent + header(layer)]
    own = header(layer)[:-1]
    if layer.input_shape is None and layer.known_input_shape is not None:
        own += f"{'' if own.endswith('(') else ', '}inputs {format_shapes(layer.known_input_shape)}"
    lines = [f"{indent}{own}" + (";" if not own.endswith("(") else "")]
    for name, child in layer.children.items():
        first, *rest = _tree(child, indent + "  ")
        lines += [f"{indent}  {name}: {first.strip()}", *rest]
    return [*lines, f"{indent})"]


# -- notebooks


def pretty(layer: Any, printer: Any, cycle: bool) -> None:
    """Write the layer to a pretty printer of IPython or hypothesis."""
    for index, line in enumerate(repr(layer).splitlines()):
        if index:
            printer.break_()
        printer.text(line)


def html(layer: Any) -> str:
    """Return the HTML of a layer for a notebook: a summary if its input shape is known, and a drawing of the graph."""
    shape = layer.known_input_shape
    body = f"<code>{escaping.escape(header(layer))}</code>"
    if layer.graph is not None:
        body += _table(layer, shape) + drawing(layer)
    return f'<div style="max-height: 40em; overflow: auto">{body}</div>'


def _table(layer: Any, shape: Any) -> str:
    if shape is None:
        rows = [["layer", "options"], *([name, header(child)] for name, child in layer.children.items())]
    else:
        rows = summary(layer, shape).cells()
    tags = ["th", *["td"] * (len(rows) - 1)]
    head, *rest = ["".join(f"<{t}>{escaping.escape(c)}</{t}>" for c in row) for t, row in zip(tags, rows, strict=True)]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in rest)}</tbody></table>"


def place_calls(layer: Any) -> tuple[list[tuple[int, int, str]], list[tuple[int, int]]]:
    """Return the boxes (left, top, name) of a container's inputs and calls, and the lines (box, box) between them.

    A call is placed one row below the lowest box that it takes an input from.
    """
    count = layer.graph.input_count
    named = [source.name for source in getattr(layer, "sources", ())] or [None] * count
    boxes = [(name or f"input {index}" if count > 1 else "input", 0) for index, name in enumerate(named)]
    source, lines = list(range(len(boxes))), []  # value -> box; (box, box)
    for call in layer.graph.calls:
        from_boxes = [source[index] for index in call.inputs]
        boxes.append((call.name, 1 + max((boxes[box][1] for box in from_boxes), default=0)))
        lines += [(box, len(boxes) - 1) for box in from_boxes]
        source += [len(boxes) - 1] * layer.children[call.name].output_structure.num_leaves
    columns: dict[int, int] = {}
    places = []
    for name, row in boxes:
        column = columns[row] = columns.get(row, -1) + 1
        places.append((SIDE + 6 + column * (WIDTH + 14), 6 + row * ROW, name))
    return places, lines


def route(start: tuple[int, int, str], end: tuple[int, int, str]) -> list[tuple[int, int]]:
    """Return the points of a line from a box down to another: two of a straight line, or four of a Bézier curve."""
    (x1, y1, _), (x2, y2, _) = start, end
    if y2 - y1 <= ROW:
        return [(x1 + WIDTH // 2, y1 + BOX), (x2 + WIDTH // 2, y2)]
    middle = y2 + BOX // 2
    if x1 > x2:  # past the boxes between, on their right
        corner = (x1 + WIDTH // 2, middle)
        return [(x1 + WIDTH // 2, y1 + BOX), corner, corner, (x2 + WIDTH, middle)]
    return [(x1, y1 + BOX // 2), (x1 - SIDE, y1 + BOX // 2), (x2 - SIDE, middle), (x2, middle)]


def drawing(layer: Any) -> str:
    """Draw the calls of a container as SVG, inputs at the top: a box for each call, a line for each value."""
    places, lines = place_calls(layer)
    parts = []
    for start, end in lines:
        (first, *points) = (f"{x} {y}" for x, y in route(places[start], places[end]))
        line = f"M{first} {'C' if len(points) > 1 else 'L'}{' '.join(points)}"
        parts.append(f'<path d="{line}" stroke="#888" fill="none"/>')
    for x, y, name in places:
        label = escaping.escape(name if len(name) < 28 else name[:26] + "…")
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{BOX}" rx="4" fill="#eef3fa" stroke="#3b6fb6"/>')
        parts.append(f'<text x="{x + WIDTH // 2}" y="{y + 16}" text-anchor="middle" font-size="11">{label}</text>')
    size = f'width="{max(x for x, _, _ in places) + WIDTH + 14}" height="{max(y for _, y, _ in places) + 34}"'
    return f'<svg {size} xmlns="http://www.w3.org/2000/svg" font-family="sans-serif">{"".join(parts)}</svg>'


def treescope(layer: Any, path: Any, subtree_renderer: Any) -> Any:
    """Render a layer for treescope, which must be installed."""
    from treescope import repr_lib

    inside = {name: child for name, child in layer.children.items()} if layer.graph is not None else {}
    return repr_lib.render_object_constructor(
        object_type=type(layer),
        attributes={**changed_options(layer), **inside},
        path=path,
        subtree_renderer=subtree_renderer,
        roundtrippable=False,
    )
