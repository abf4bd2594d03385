"""The graph of a model: a box for each call of a layer, an arrow for each value.

The positions are computed by ``contract.display``, like those of the drawing in a notebook.
"""

from typing import Any

from jaxconv.contract import as_layer
from jaxconv.contract.display import BOX, WIDTH, format_shapes, place_calls, route
from jaxconv.inspect.plot.style import GREY, INK, LINES, canvas


def graph(model: Any, input_shape: Any = None, ax: Any = None) -> Any:
    """Draw the layers of a model from top to bottom, with their output shapes, and return the figure.

    Args:
        model: a layer with layers inside, or its ``apply_fn``.
        input_shape: batch first; may be left out if the model knows its own. Without either, shapes are not shown.
        ax: the matplotlib axes to draw on; by default those of a new figure, whose height fits the depth of the model.

    Raises:
        ValueError: the layer has no layers inside.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3), jaxconv.ReLU()])
    >>> figure = jaxconv.inspect.plot.graph(model, (None, 16, 1))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['input', '(batch, 16, 1)', 'conv1d', '(batch, 14, 4)', 're_lu', '(batch, 14, 4)']
    """
    model = as_layer(model, "plot.graph(model)")
    if model.graph is None:
        raise ValueError(f"plot.graph: {model.label} has no layers inside; give a Sequential or a Model")
    places, arrows = place_calls(model)
    shapes = _shapes(model, model.known_input_shape if input_shape is None else input_shape)
    wide, deep = max(x for x, _, _ in places) + WIDTH, max(y for _, y, _ in places) + BOX
    figure, ax = canvas(ax, max(wide / 72, 2.8), max(deep / 68, 1.2))
    for start, end in arrows:
        _arrow(ax, route(places[start], places[end]))
    for index, (x, y, name) in enumerate(places):
        _box(ax, x, y, name, shapes[index] if shapes else "")
    ax.set_xlim(0, wide + 6)
    ax.set_ylim(deep + 6, 0)
    ax.set_axis_off()
    return figure


def _shapes(model: Any, input_shape: Any) -> list[str]:
    """Return the output shape of each box as text, or an empty list if the input shape is not known."""
    if input_shape is None:
        return []
    shape = model.read_shape(input_shape)
    return [format_shapes(one) for one in [*model.flat_inputs(shape), *model.shapes(shape)]]


def _arrow(ax: Any, points: list[tuple[int, int]]) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    codes = [Path.MOVETO, *([Path.LINETO] if len(points) == 2 else [Path.CURVE4] * 3)]
    look: dict[str, Any] = {"color": GREY, "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 1}
    head = "-|>,head_width=2,head_length=4"
    ax.add_patch(FancyArrowPatch(path=Path(points, codes), arrowstyle=head, **look))


def _box(ax: Any, x: int, y: int, name: str, shape: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    look: dict[str, Any] = {"facecolor": "#eef3fa", "edgecolor": LINES[0], "linewidth": 1}
    ax.add_patch(FancyBboxPatch((x, y), WIDTH, BOX, "round,pad=0,rounding_size=4", **look))
    name = name if len(name) < 28 else f"{name[:26]}…"
    ax.text(x + WIDTH / 2, y + BOX * (0.36 if shape else 0.52), name, ha="center", va="center", fontsize=9, color=INK)
    if shape:
        ax.text(x + WIDTH / 2, y + BOX * 0.76, shape, ha="center", va="center", fontsize=7, color=GREY)
