"""The plot of learning curves: loss and metrics against the epoch, from the rows of ``metrics.csv``.

Knows column names (``loss``, ``val_loss``, ...) and matplotlib; nothing about models or run folders.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.files.atomic import replacing
from jaxconv.progress import format_number

_TRAIN, _VALIDATION, _TEST, _GRID = "#3b6fb6", "#e07b39", "#2a9d6f", "#d9dce1"
_NOT_PLOTTED = {"epoch", "seconds", "learning_rate"}


def draw_curves(
    rows: Sequence[Mapping[str, float]],
    path: str | Path,
    *,
    title: str = "",
    test: Mapping[str, float] | None = None,
    best_epoch: int | None = None,
) -> None:
    """Draw one panel per metric, with training and validation, and save the picture.

    Args:
        rows: one mapping per epoch: ``epoch`` (counted from 1), ``loss``, metrics, and the same with the prefix
            ``val_``.
        path: the file; its suffix determines the format.
        title: the title, usually the name of the run.
        test: metrics of the test set, marked at the right end of each panel.
        best_epoch: the epoch of the saved weights, marked by a thin line.

    Raises:
        FileError: the picture cannot be written.
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the plot of learning curves needs matplotlib; install it with: pip install 'jaxconv[train]'"
        ) from error
    names = metric_names(rows)
    figure = Figure(figsize=(5.2 * max(len(names), 1), 3.9), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)  # draws in memory: no window and no global pyplot state
    for axes, name in zip(figure.subplots(1, max(len(names), 1), squeeze=False)[0], names, strict=False):
        _draw_panel(axes, rows, name, (test or {}).get(name), best_epoch)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    with replacing(path) as handle:
        figure.savefig(handle, format=Path(path).suffix[1:] or "png")


def metric_names(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of the training metrics in the rows: ``loss``, then the others in their order.

    >>> metric_names([{"epoch": 1, "loss": 0.5, "accuracy": 0.7, "val_loss": 0.6, "seconds": 2.0}])
    ['loss', 'accuracy']
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [key for key in keys if key not in _NOT_PLOTTED and not key.startswith("val_")]


def _draw_panel(
    axes: Any, rows: Sequence[Mapping[str, float]], name: str, test: float | None, best: int | None
) -> None:
    curves = [
        (label, colour, points)
        for label, colour, key in (("train", _TRAIN, name), ("validation", _VALIDATION, f"val_{name}"))
        if (points := [(row["epoch"], row[key]) for row in rows if _finite(row.get(key))])
    ]
    for label, colour, points in curves:
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=colour, linewidth=1.6, label=label, marker="o" if len(points) == 1 else None)
    if best is not None and len(rows) > 1:
        axes.axvline(
            best, color="#8a8f98", linewidth=0.8, linestyle=(0, (2, 2)), label=f"saved (epoch {best})", zorder=1
        )
    if test is not None and _finite(test):
        last = max((row["epoch"] for row in rows), default=1) if best is None else best
        label = f"test {format_number(test)}"
        axes.plot([last], [test], "D", color=_TEST, markersize=6, label=label, clip_on=False, zorder=5)
    heights = [value for _, _, points in curves for _, value in points]
    heights += [test] if test is not None and _finite(test) else []
    if name == "loss" and heights and min(heights) > 0 and max(heights) / min(heights) > 30:
        axes.set_yscale("log")  # on a linear axis a loss that falls by orders of magnitude looks like 0
        axes.yaxis.set_major_formatter("{x:g}")
    if len(rows) == 1:
        axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
    _style(axes, name)


def _style(axes: Any, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.set_title(name.replace("_", " "), loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors="#4a4f57")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#a7abb3")
    axes.margins(x=0.02)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
