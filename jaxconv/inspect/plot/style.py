"""The style of pictures: sizes, colours, colour maps, and the axes to draw on."""

from typing import Any

import numpy as np

from jaxconv.errors import require

INK, GREY, GRID = "#22262b", "#6a7078", "#d9dce1"
# blue and orange differ for every kind of colour blindness, and in greyscale, because blue is darker
NEGATIVE, POSITIVE = ("#d9720f", "#f0a95c", "#fadfc0"), ("#bcd5ec", "#4f8fc7", "#0c3f7d")
LINES = ("#0c3f7d", "#d9720f", "#5aa0a0", "#8c4a9e", "#8a8f98", "#b8a21a")  # differ in lightness as well


def canvas(ax: Any, width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """Return (figure, first axes): those of ``ax``, or of a new figure of this size in inches with panels in a row."""
    if ax is not None:
        return ax.figure, ax
    require("matplotlib.figure", "jaxconv.inspect.plot", "matplotlib")
    from jaxconv.picture import Picture

    figure = Picture(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0, 0]


def signed_colours(values: np.ndarray) -> tuple[Any, Any]:
    """Return (colour map, norm) for signed values: orange below 0, white at 0, blue above; symmetric around 0."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("signed", [*NEGATIVE, "#ffffff", *POSITIVE], N=255)
    finite = np.abs(values[np.isfinite(values)])
    largest = finite.max() if finite.size and finite.max() > 0 else 1.0
    return colours.with_extremes(bad="#9a9a9a"), Normalize(-largest, largest)


def colours_for(values: np.ndarray) -> tuple[Any, Any]:
    """Return (colour map, norm): the signed one if any value is negative, otherwise one that grows darker from 0."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours, norm = signed_colours(values)
    if (values < 0).any():
        return colours, norm
    return LinearSegmentedColormap.from_list("unsigned", ["#ffffff", *POSITIVE]), Normalize(0, norm.vmax)


def colour_bar(figure: Any, ax: Any, colours: Any, norm: Any) -> None:
    """Add a narrow colour bar with a tick at each end and at 0."""
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm, colours), ax=ax, fraction=0.05, pad=0.02, aspect=24)
    bar.set_ticks(sorted({norm.vmin, 0.0, norm.vmax}))
    bar.ax.yaxis.set_major_formatter("{x:.2g}")
    bar.ax.tick_params(length=0, labelsize=9, colors=GREY)
    bar.outline.set_visible(False)


def style(ax: Any, *, x: str = "", y: str = "", grid: bool = False) -> None:
    """Label the axes, and draw light lines and no frame at the top and right."""
    ax.set_xlabel(x, fontsize=10, color=INK)
    ax.set_ylabel(y, fontsize=10, color=INK)
    ax.tick_params(length=3, labelsize=9, colors=GREY)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#a7abb3")
    if grid:
        ax.grid(True, color=GRID, linewidth=0.7)
        ax.set_axisbelow(True)


def plain(ax: Any, frame: bool = True) -> None:
    """Remove the ticks, and draw a light frame or none, as for an image."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color("#c5c9d0")
        spine.set_visible(frame)
