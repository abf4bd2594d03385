"""The bar chart of the speed ratios."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.inspect.plot.style import GREY, INK, canvas, style

STYLES = {
    "lax": ("jax.lax", "#9aa3af"),
    "torch": ("PyTorch", "#e07b39"),
    "flax": ("Flax", "#3b6fb6"),
    "equinox": ("Equinox", "#2a9d6f"),
    "haiku": ("Haiku", "#8a6bb8"),
    "keras": ("Keras on JAX", "#c24d5c"),
    "sequence_layers": ("sequence-layers", "#b59a2f"),
    "jaxconv": ("jaxconv", "#3d4249"),
}
_BAR = 0.8


def draw_chart(
    bars: Mapping[str, Mapping[str, Mapping[str, float]]], path: str | Path, *, who: str, caption: str = ""
) -> None:
    """Save a chart with a panel for each mode and a group of bars for each row, on a logarithmic axis.

    bars: mode -> name of the row -> library -> how many times as fast ``who`` (a library, or other words) is. path: the
    file; its suffix determines the format. caption: text below the chart.
    """
    libraries = list(dict.fromkeys(name for rows in bars.values() for row in rows.values() for name in row))
    names = list(dict.fromkeys(name for rows in bars.values() for name in rows))
    height = 1.5 + len(names) * max(0.14 * len(libraries) + 0.08, 0.26)
    width = 5.4 * len(bars) + 1.6
    figure, first = canvas(None, width, height, panels=len(bars))
    for axes, (mode, rows) in zip(figure.axes, bars.items(), strict=True):
        _panel(axes, mode, {name: rows.get(name, {}) for name in names}, libraries)
        axes.tick_params(which="both", length=0, labelleft=axes is first)
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=9)
    title = f"How many times as fast {STYLES.get(who, (who,))[0]} is as ..."
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    if caption:
        lines = textwrap.fill(caption, int(17 * width))  # 17 characters of this size per inch
        figure.supxlabel(lines, x=0.01, ha="left", fontsize=7.5, color=GREY)
    figure.savefig(path, dpi=140)


def _panel(axes: Any, mode: str, rows: Mapping[str, Mapping[str, float]], libraries: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    thickness = _BAR / len(libraries)
    for number, library in enumerate(libraries):
        positions = [i - _BAR / 2 + (number + 0.5) * thickness for i in range(len(rows))]
        values = [row.get(library, float("nan")) for row in rows.values()]
        label, colour = STYLES[library]
        # bars start at 1: right is faster, left is slower
        ends = [value - 1 for value in values]
        bars = axes.barh(positions, ends, thickness * 0.9, left=1.0, color=colour, label=label, zorder=2)
        texts = [f"{value:#.2g}" if value < 10 else f"{value:.0f}" for value in values]
        axes.bar_label(bars, texts, padding=3, fontsize=6.5, color=INK)
    axes.set_xscale("log")
    every = [value for row in rows.values() for value in row.values()]
    axes.set_xlim(min([0.6, *(value / 2 for value in every)]), max([2.0, *(value * 1.6 for value in every)]))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color=INK, linewidth=1.0, zorder=3)
    axes.set_title(mode, loc="left", fontsize=10, color=INK)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    style(axes, grid=True)
    axes.grid(False, axis="y")
