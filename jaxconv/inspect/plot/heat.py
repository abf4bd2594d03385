"""Heat maps over a signal or an image, such as attributions for a target."""

from typing import Any

import numpy as np

from jaxconv.inspect.plot.style import INK, canvas, colour_bar, plain, signed_colours, style

_ROWS = 16  # the largest number of channels for which a signal is drawn, one below the other


def heat(values: Any, x: Any = None, ax: Any = None) -> Any:
    """Draw values over the signal or the image that they belong to, and return the figure.

    Positive values are blue, negative values orange, 0 is white and NaN grey; the scale ends at the largest absolute
    value. A signal is drawn as a line over bands of colour: one band, or one for each channel if ``values`` has
    channels. An image is drawn in grey under the colours (with one channel that is mostly dark, as a negative); values
    of several channels are added.

    Args:
        values: real numbers with the axes of ``x``, or without the channels. They may be coarser than ``x``, such as a
            class activation map: each value then covers its share of ``x``.
        x: one signal (steps, channels) or one image (height, width, channels), without the batch, channels last.
            Without it, ``values`` with one axis are drawn as a signal and others as an image.
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: the shapes do not fit each other, or have a batch.

    >>> figure = jaxconv.inspect.plot.heat([0.0, 0.5, -1.0], [[1.0], [2.0], [3.0]])
    >>> figure.savefig("heat.png")
    """
    values = np.asarray(values, np.float64)
    given = None if x is None else np.asarray(x, np.float64)
    _check(values, given)
    if given is None and values.ndim == 1:
        given, values = values[:, None], values[:, None]
    if given is not None and given.ndim == 2:
        return _heat_signal(_fit(values if values.ndim == 2 else values[:, None], given.shape[:1]), given, ax)
    values = values.sum(-1) if values.ndim == 3 else values
    return _heat_image(values if given is None else _fit(values, given.shape[:2]), given, ax)


def heats(values: dict[str, Any], x: dict[str, Any], title: str = "") -> Any:
    """Draw the values of each input of a model in its own panel with its name, and return the figure with a title."""
    # inputs (batch, features) are drawn without x
    shown = {name: array[0] if array.ndim > 2 else None for name, array in x.items()}
    heights = [2.6 if array.ndim < 4 else 3.5 for array in x.values()]
    panels: Any = [None]
    if len(x) > 1:
        figure, _ = canvas(None, 6.4, sum(heights))
        figure.clear()
        panels = figure.subplots(len(x), 1, height_ratios=heights)
    for name, ax in zip(x, panels, strict=True):
        figure = heat(values[name][0], shown[name], ax=ax)
        ax = figure.axes[0] if ax is None else ax
        ax.set_title(name, fontsize=10)
        if shown[name] is None:
            ax.set_xlabel("feature")
    figure.suptitle(title, fontsize=10)
    return figure


def _check(values: np.ndarray, x: np.ndarray | None) -> None:
    if x is None:
        if values.ndim not in (1, 2, 3) or 0 in values.shape:
            raise ValueError(f"plot.heat: values has shape {values.shape}; without x it has one to three axes")
        return
    if x.ndim not in (2, 3) or 0 in x.shape:
        allowed = "one signal (steps, channels) or one image (height, width, channels), without the batch"
        raise ValueError(f"plot.heat: x has shape {x.shape}; give {allowed}")
    channels = values.shape[-1:] if values.ndim == x.ndim else x.shape[-1:]
    coarser = all(1 <= size <= full for size, full in zip(values.shape, x.shape[:-1], strict=False))
    if values.ndim not in (x.ndim, x.ndim - 1) or channels not in (x.shape[-1:], (1,)) or not coarser:
        allowed = "give values in the shape of x, or in that without the channels, or coarser"
        raise ValueError(f"plot.heat: values has shape {values.shape}, x has {x.shape}; {allowed}")


def _fit(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return coarse values, repeated to this shape of the leading axes."""
    for axis, size in enumerate(shape):
        values = values.take(np.arange(size) * values.shape[axis] // size, axis)
    return values


def _heat_signal(values: np.ndarray, x: np.ndarray, ax: Any) -> Any:
    steps, channels = x.shape
    rows = values.shape[1]
    figure, ax = canvas(ax, 6.4, 2.6 if rows == 1 else min(1.4 + 0.45 * rows, 7.0))
    colours, norm = signed_colours(values)
    low, high = np.nanmin(x), np.nanmax(x)
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    extent = (-0.5, steps - 0.5, low, high) if rows == 1 else (-0.5, steps - 0.5, rows - 0.5, -0.5)
    ax.imshow(values.T, cmap=colours, norm=norm, aspect="auto", extent=extent, interpolation="nearest")
    for channel in range(channels if channels <= _ROWS or rows == 1 else 0):
        line = x[:, channel] if rows == 1 else channel + 0.5 - (x[:, channel] - low) / (high - low)
        _outlined(ax, np.arange(steps), line)
    colour_bar(figure, ax, colours, norm)
    style(ax, x="step", y="" if rows == 1 else "channel")
    for axis in (ax.xaxis, ax.yaxis) if rows > 1 else (ax.xaxis,):
        axis.get_major_locator().set_params(integer=True)
    return figure


def _outlined(ax: Any, at: np.ndarray, line: np.ndarray) -> None:
    """Draw a dark line with a white rim, which is visible on light and on dark colours."""
    from matplotlib.patheffects import Normal, Stroke

    rim = [Stroke(linewidth=3.0, foreground="white"), Normal()]
    ax.plot(at, line, color=INK, linewidth=1.3, path_effects=rim, marker="." if len(at) == 1 else None)


def _heat_image(values: np.ndarray, x: np.ndarray | None, ax: Any) -> Any:
    height, width = values.shape
    figure, ax = canvas(ax, 4.2, float(np.clip(3.5 * height / width, 1.6, 5.0)))
    colours, norm = signed_colours(values)
    shown = colours(norm(np.ma.masked_invalid(values)))[..., :3]
    if x is not None:
        shown = shown * (0.72 + 0.28 * _grey(x))[..., None]
    ax.imshow(shown, interpolation="nearest")
    colour_bar(figure, ax, colours, norm)
    plain(ax)
    return figure


def _grey(x: np.ndarray) -> np.ndarray:
    """Return the brightness of an image in 0..1, or its negative for one channel that is mostly dark."""
    grey = x @ np.array([0.299, 0.587, 0.114]) if x.shape[-1] == 3 else x.mean(-1)
    low, high = np.nanmin(grey), np.nanmax(grey)
    grey = np.nan_to_num((grey - low) / (high - low) if high > low else np.ones_like(grey))
    return 1 - grey if x.shape[-1] == 1 and np.median(grey) < 0.5 else grey
