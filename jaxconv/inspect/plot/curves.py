"""Learning curves: loss and metrics against the epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxconv.inspect.plot.style import LINES, canvas, style
from jaxconv.progress import format_number

_TRAIN, _VALIDATION = LINES[:2]
_TEST, _SAVED = "#2a9d6f", "#8a8f98"
_NOT_PLOTTED = {"epoch", "seconds", "learning_rate"}


def curves(
    rows: Any,
    ax: Any = None,
    *,
    metric: str | None = None,
    test: Mapping[str, float] | None = None,
    best_epoch: int | None = None,
) -> Any:
    """Draw loss and metrics of training and validation against the epoch, and return the figure.

    The axis of a loss is logarithmic if its largest value is more than 30 times its smallest one.

    Args:
        rows: the result of ``fit``, or a list with one mapping per epoch, such as its ``history``: ``epoch`` (counted
            from 1), ``loss``, metrics, and the same with the prefix ``val_``.
        ax: the matplotlib axes to draw on; by default those of a new figure, with a panel for each metric.
        metric: the only metric to draw; by default all metrics, or with ``ax`` the loss.
        test: metrics of the test set, marked by a diamond.
        best_epoch: the epoch of the saved weights, marked by a thin line; by default that of the result of ``fit``.

    Raises:
        TypeError: the rows are not mappings.
        ValueError: there are no rows, or no row has this metric.

    >>> figure = jaxconv.inspect.plot.curves([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 1.5}])
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['loss']
    """
    if hasattr(rows, "history"):
        best_epoch = getattr(rows, "best_epoch", None) if best_epoch is None else best_epoch
        rows = rows.history
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        got = f"plot.curves: the rows are a {type(rows).__name__}"
        raise TypeError(f"{got}; give the result of fit, or a list with one dict per epoch")
    names = metric_names(rows)
    if not names or metric not in (None, *names):
        raise ValueError(f"plot.curves: the {len(rows)} rows have no metric {metric or 'loss'!r}; they have {names}")
    chosen = [metric or names[0]] if metric or ax is not None else names
    figure, first = canvas(ax, 5.2 * len(chosen), 3.5, panels=len(chosen))
    for axes, name in zip([first] if ax is not None else figure.axes, chosen, strict=True):
        _draw_panel(axes, rows, name, (test or {}).get(name), best_epoch)
    return figure


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
        axes.axvline(best, color=_SAVED, linewidth=0.8, linestyle=(0, (2, 2)), label=f"saved (epoch {best})", zorder=1)
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
    _decorate(axes, name)


def _decorate(axes: Any, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    style(axes, x="epoch", grid=True)
    axes.set_title(name.replace("_", " "), loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
