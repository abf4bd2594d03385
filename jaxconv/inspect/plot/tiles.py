"""Feature maps and kernels: many small images or lines on one axes, from arrays with channels last."""

import math
from typing import Any

import numpy as np

from jaxconv.inspect.plot.style import GRID, INK, canvas, colour_bar, colours_for, plain, signed_colours, style

_MAX_TILES = 256  # the largest number of tiles in a picture


def features(values: Any, ax: Any = None) -> Any:
    """Draw the feature maps of one example, and return the figure.

    Each channel of a signal is a row, each channel of an image a tile. White is 0. If no value is negative, as after a
    ReLU, the colours go from white to blue; otherwise they are those of ``heat``.

    Args:
        values: (steps, channels) or (height, width, channels), without the batch: an entry of ``observe``. At most 256
            channels are drawn.
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: ``values`` has another number of axes.

    >>> figure = jaxconv.inspect.plot.features(jax.numpy.ones((8, 8, 5)))
    >>> figure.axes[0].get_title()
    '5 channels'
    """
    values = np.asarray(values, np.float64)
    if values.ndim not in (2, 3) or 0 in values.shape:
        allowed = "(steps, channels) or (height, width, channels), without the batch"
        raise ValueError(f"plot.features: values has shape {values.shape}; give {allowed}")
    channels = values.shape[-1]
    title = _count(channels, "channel")
    if values.ndim == 3:
        return _images(np.moveaxis(values, -1, 0)[:_MAX_TILES], None, title, ax)
    figure, ax = canvas(ax, 6.4, float(np.clip(1.2 + 0.14 * min(channels, _MAX_TILES), 1.9, 6.0)))
    colours, norm = colours_for(values)
    ax.imshow(values[:, :_MAX_TILES].T, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    ax.set_title(title, loc="center", fontsize=10, color=INK)
    colour_bar(figure, ax, colours, norm)
    style(ax, x="step", y="channel")
    ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def kernels(kernel: Any, ax: Any = None) -> Any:
    """Draw the kernel of a convolution, and return the figure: one tile for each filter.

    In one dimension, a filter with one input channel is a line, and others are images with a row for each channel. In
    two dimensions, a filter with one input channel is an image, and one with three is a colour image, grey at 0; with
    other numbers of channels, each filter is a column with a tile for each channel.

    Args:
        kernel: (size, input channels, filters) or (height, width, input channels, filters), as in ``params``. At most
            256 filters are drawn, or 32 with 16 input channels.
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: ``kernel`` has another number of axes.

    >>> params, _ = jaxconv.Conv1D(6, 9).init(jax.random.key(0), (None, 64, 1))
    >>> jaxconv.inspect.plot.kernels(params["kernel"]).axes[0].get_title()
    '6 filters of 9 taps'
    """
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim not in (3, 4) or 0 in kernel.shape:
        allowed = "(size, input channels, filters) or (height, width, input channels, filters)"
        raise ValueError(f"plot.kernels: the kernel has shape {kernel.shape}; give {allowed}")
    *size, inputs, filters = kernel.shape
    taps = f" of {' x '.join(map(str, size))} taps"
    if len(size) == 1 and inputs == 1:
        return _lines(kernel[:, 0].T[:_MAX_TILES], _count(filters, "filter") + taps, ax)
    if len(size) == 1:
        title = f"{_count(filters, 'filter')}{taps}, {_count(inputs, 'input channel')}"
        return _images(kernel.transpose(2, 1, 0)[:_MAX_TILES, :_MAX_TILES], None, title, ax)
    if inputs in (1, 3):
        tiles = kernel.transpose(3, 0, 1, 2)[:_MAX_TILES]
        return _images(tiles if inputs == 3 else tiles[..., 0], None, _count(filters, "filter") + taps, ax)
    title = f"{_count(filters, 'filter', 32)}{taps}, {_count(inputs, 'input channel', 16)}"
    tiles = kernel.transpose(2, 3, 0, 1)[:16, :32]
    return _images(tiles.reshape(-1, *size), tiles.shape[1], title, ax)


def _count(number: int, noun: str, most: int = _MAX_TILES) -> str:
    plural = f"{number} {noun}{'' if number == 1 else 's'}"
    return plural if number <= most else f"the first {most} of {plural}"


def _grid(count: int, aspect: float) -> int:
    """Return the number of columns of a grid of tiles that is about twice as wide as high and has few empty cells."""
    best = max(1.0, math.sqrt(2.0 * count / aspect))
    near = range(math.ceil(0.7 * best), max(math.ceil(1.4 * best), math.ceil(0.7 * best) + 1))
    return min(count, min(near, key=lambda columns: (-count % columns, abs(columns - best))))


def _images(tiles: np.ndarray, across: int | None, title: str, ax: Any) -> Any:
    """Draw tiles (count, height, width), or (count, height, width, 3) as colours, with a line around each."""
    from matplotlib.collections import PatchCollection  # after canvas has reported a missing matplotlib
    from matplotlib.patches import Rectangle

    count, height, width = tiles.shape[:3]
    columns = across or _grid(count, width / height)
    rows = math.ceil(count / columns)
    colours, norm = colours_for(tiles)
    wide = 6.0
    figure, ax = canvas(ax, wide, float(np.clip((wide - 0.8) * rows * height / (columns * width) + 0.4, 1.4, 6.5)))
    if tiles.ndim == 4:
        tiles = 0.5 + 0.5 * tiles / max(np.nanmax(np.abs(tiles)), 1e-30)
    board = np.full((rows * height, columns * width, *tiles.shape[3:]), 1.0 if tiles.ndim == 4 else np.nan)
    frames = []
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        board[top : top + height, left : left + width] = tile
        frames.append(Rectangle((left - 0.5, top - 0.5), width, height))
    ax.imshow(board, cmap=colours.with_extremes(bad="white"), norm=norm, interpolation="nearest")
    edge = ("white", 3.0) if tiles.ndim == 4 else ("#8a8f98", 0.8)  # no tile of colours is white
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor=edge[0], linewidth=edge[1]))
    if tiles.ndim == 3:
        colour_bar(figure, ax, colours, norm)
    plain(ax, frame=False)
    ax.set_title(title, fontsize=10, color=INK)
    return figure


def _lines(taps: np.ndarray, title: str, ax: Any) -> Any:
    """Draw taps (count, size) as lines in a grid, all with one scale, over a thin line at 0."""
    count, size = taps.shape
    columns = _grid(count, 1.6)
    rows = math.ceil(count / columns)
    figure, ax = canvas(ax, 6.0, float(np.clip(0.75 * rows + 0.4, 1.4, 6.5)))
    scale = max(np.nanmax(np.abs(taps)), 1e-30)
    place = (np.arange(size) - (size - 1) / 2) / max(size, 2) * 0.9
    for index, line in enumerate(taps):
        row, column = divmod(index, columns)
        ax.plot([column - 0.45, column + 0.45], [-row, -row], color=GRID, linewidth=1)
        colour = signed_colours(taps)[0](1.0)
        ax.plot(column + place, 0.42 * line / scale - row, color=colour, linewidth=1.3, marker="o", markersize=2.4)
    ax.set_xlim(-0.6, columns - 0.4)
    ax.set_ylim(0.5 - rows, 0.5)
    plain(ax, frame=False)
    ax.set_title(title, fontsize=10, color=INK)
    return figure
