"""Frequency responses of one-dimensional kernels: magnitude against frequency."""

from typing import Any

import numpy as np

from jaxconv.inspect.plot.style import INK, LINES, canvas, colour_bar, colours_for, style


def response(spectrum: Any, ax: Any = None) -> Any:
    """Draw the magnitude of frequency responses against the frequency, and return the figure.

    Up to six responses are drawn as lines, more as an image that is darker where the magnitude is larger: it has a row
    for each filter, which is divided into rows for the input channels.

    Args:
        spectrum: the result of ``inspect.spectrum``: frequencies (n,) in cycles per step, and magnitudes (n,),
            (n, filters) or (n, input channels, filters).
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: ``spectrum`` is not such a pair.

    >>> figure = jaxconv.inspect.plot.response(jaxconv.inspect.spectrum([0.5, 0.5]))
    >>> figure.axes[0].get_xlabel()
    'frequency (cycles per step)'
    """
    frequencies, magnitudes = _read(spectrum)
    magnitudes = magnitudes.reshape(len(frequencies), -1, magnitudes.shape[-1] if magnitudes.ndim > 1 else 1)
    channels, filters = magnitudes.shape[1:]
    lines = channels * filters <= len(LINES)
    figure, ax = canvas(ax, 6.0, 3.4 if lines else float(np.clip(1.4 + 0.14 * channels * filters, 2.2, 6.0)))
    if lines:
        _draw_lines(ax, frequencies, magnitudes)
    else:
        rows = magnitudes.transpose(2, 1, 0).reshape(-1, len(frequencies))
        colours, norm = colours_for(rows)
        half = (frequencies[1] - frequencies[0]) / 2
        extent = (frequencies[0] - half, frequencies[-1] + half, filters - 0.5, -0.5)
        ax.imshow(rows, cmap=colours, norm=norm, aspect="auto", extent=extent, interpolation="nearest")
        colour_bar(figure, ax, colours, norm)
        ax.set_title(f"magnitude, {channels} input channel{'s' * (channels > 1)}", fontsize=10, color=INK)
        ax.yaxis.get_major_locator().set_params(integer=True)
    style(ax, x="frequency (cycles per step)", y="magnitude" if lines else "filter", grid=lines)
    return figure


def _read(spectrum: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = [np.asarray(part, np.float64) for part in spectrum] if isinstance(spectrum, tuple) else []
    shapes = [part.shape for part in parts]
    if len(parts) != 2 or parts[0].ndim != 1 or shapes[0][0] < 2 or shapes[1][:1] != shapes[0] or 0 in shapes[1]:
        given = f"arrays of shapes {shapes}" if parts else f"{type(spectrum).__name__}"
        allowed = "the result of inspect.spectrum, frequencies (n,) and magnitudes (n, ...)"
        raise ValueError(f"plot.response: spectrum is {given}; give {allowed}")
    return parts[0], parts[1]


def _draw_lines(ax: Any, frequencies: np.ndarray, magnitudes: np.ndarray) -> None:
    channels, filters = magnitudes.shape[1:]
    for index, colour in zip(range(channels * filters), LINES, strict=False):
        one, channel = divmod(index, channels)
        names = [f"filter {one}"] * (filters > 1) + [f"channel {channel}"] * (channels > 1)
        line = magnitudes[:, channel, one]
        ax.plot(frequencies, line, color=colour, linewidth=1.6, label=", ".join(names) or None)
    ax.set_xlim(frequencies[0], frequencies[-1])
    ax.set_ylim(bottom=0)
    if channels * filters > 1:
        ax.legend(frameon=False, fontsize=9)
