"""The receptive field of a unit: the part of the input that it can read, and the part that it uses."""

from typing import Any

import numpy as np

from jaxconv.inspect.plot.style import GREY, INK, LINES, canvas, colour_bar, colours_for, plain, style

_EFFECTIVE, _THEORETICAL = LINES[:2]


def receptive_field(field: Any, ax: Any = None) -> Any:
    """Draw the effective receptive field inside the theoretical one, and return the figure.

    The effective field is a curve over a signal, and an image over an image, darker where the gradient is larger. The
    theoretical field is marked by dashed orange lines; it may reach beyond the input, into the padding.

    Args:
        field: the result of ``inspect.receptive_field`` with ``effective=True``, for a signal or an image.
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: the field has no gradient, or does not have one or two axes.

    >>> params, apply_fn = jaxconv.Conv1D(4, 5).init(jax.random.key(0), (None, 21, 1))
    >>> field = jaxconv.inspect.receptive_field(apply_fn, params, (None, 21, 1))
    >>> jaxconv.inspect.plot.receptive_field(field).axes[0].get_title()
    'theoretical: 5 steps'
    """
    if field.gradient is None:
        raise ValueError("plot.receptive_field: the field has no gradient; compute it with effective=True")
    gradient = np.asarray(field.gradient, np.float64)
    if gradient.ndim not in (1, 2) or 0 in gradient.shape:
        allowed = "give the field of a signal (steps,) or an image (height, width)"
        raise ValueError(f"plot.receptive_field: the gradient has shape {gradient.shape}; {allowed}")
    edges = [(a - 0.5, b + 0.5) for a, b in zip(field.first, field.last, strict=True)]
    figure, ax = _draw_curve(gradient, edges[0], ax) if gradient.ndim == 1 else _draw_image(gradient, edges, ax)
    size = " x ".join(map(str, field.size))
    ax.set_title(f"theoretical: {size} {'steps' if gradient.ndim == 1 else 'pixels'}", fontsize=10, color=INK)
    return figure


def _draw_curve(gradient: np.ndarray, edges: tuple[float, float], ax: Any) -> tuple[Any, Any]:
    figure, ax = canvas(ax, 6.4, 2.8)
    steps = np.arange(len(gradient))
    marker = "o" if len(steps) == 1 else None
    ax.fill_between(steps, gradient, color=_EFFECTIVE, alpha=0.15, linewidth=0)
    ax.plot(steps, gradient, color=_EFFECTIVE, linewidth=1.6, marker=marker, label="effective")
    for edge, label in zip(edges, ("theoretical", None), strict=True):
        ax.axvline(edge, color=_THEORETICAL, linewidth=1.4, linestyle=(0, (4, 2)), label=label)
    margin = 0.02 * len(steps)
    ax.set_xlim(min(edges[0], -0.5) - margin, max(edges[1], len(steps) - 0.5) + margin)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9)
    style(ax, x="step", y="mean |gradient|")
    return figure, ax


def _draw_image(gradient: np.ndarray, edges: list[tuple[float, float]], ax: Any) -> tuple[Any, Any]:
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = edges
    height, width = gradient.shape
    low, high = (min(top, -0.5), min(left, -0.5)), (max(bottom, height - 0.5), max(right, width - 0.5))
    margin = 0.02 * max(high[0] - low[0], high[1] - low[1])
    aspect = (high[0] - low[0]) / (high[1] - low[1])
    figure, ax = canvas(ax, 4.6, float(np.clip(3.6 * aspect + 0.3, 1.9, 5.5)))
    colours, norm = colours_for(gradient)
    ax.imshow(gradient, cmap=colours, norm=norm, interpolation="nearest")
    ax.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=GREY, linewidth=0.8))
    look: dict[str, Any] = {"edgecolor": _THEORETICAL, "linewidth": 1.6, "linestyle": (0, (4, 2))}
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **look))
    ax.set_xlim(low[1] - margin, high[1] + margin)
    ax.set_ylim(high[0] + margin, low[0] - margin)
    colour_bar(figure, ax, colours, norm)
    plain(ax, frame=False)
    return figure, ax
