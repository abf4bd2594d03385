"""The loss surface along two random directions in the space of weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.inspect.plot.style import INK, POSITIVE, canvas, style


def loss_surface(
    loss: Callable[[Any], Any], params: Any, key: Any, *, span: float = 1.0, points: int = 21, ax: Any = None
) -> Any:
    """Draw contours of the loss on a plane through ``params``, with a mark at ``params``, and return the figure.

    The plane is spanned by two random directions. Each is scaled, filter by filter (the last axis of a kernel), to the
    norms of the weights. Leaves with fewer than two axes (biases, normalizations) do not change. So a step of 1 is as
    large as the weights themselves in every layer, and surfaces of different networks can be compared.

    Args:
        loss: a function of ``params`` that returns a real scalar and can be compiled.
        params: a pytree of arrays.
        key: the PRNG key of the directions.
        span: the distance from ``params`` to each side of the plane; 1 is the norm of the weights.
        points: the number of grid points on each axis.
        ax: the matplotlib axes to draw on; by default those of a new figure.

    Raises:
        ValueError: there are fewer than two points, or no leaf with two axes.

    Source: Li et al., "Visualizing the loss landscape of neural nets", 2018, https://arxiv.org/abs/1712.09913.

    >>> figure = jaxconv.inspect.plot.loss_surface(
    ...     lambda w: (w**2).sum(), jax.numpy.eye(3), jax.random.key(0), points=5
    ... )
    >>> figure.axes[0].get_xlabel()
    'first direction'
    """
    if points < 2:
        raise ValueError(f"plot.loss_surface: points={points} is not valid; expected at least 2")
    figure, ax = canvas(ax, 4.6, 3.8)
    places = jnp.linspace(-span, span, points)
    first, second = (_direction(params, one) for one in jax.random.split(key))

    @jax.jit
    def surface(params: Any, first: Any, second: Any) -> Any:
        def at(place: Any) -> Any:
            def move(w: Any, *directions: Any) -> Any:
                moved = sum(step.astype(d.dtype) * d for step, d in zip(place, directions, strict=True))
                return w + moved.astype(w.dtype)

            return loss(jax.tree.map(move, params, first, second))

        grid = jnp.stack(jnp.meshgrid(places, places), -1).reshape(-1, 2)
        return jax.lax.map(at, grid).reshape(points, points)

    _contours(ax, np.asarray(places), np.asarray(surface(params, first, second), np.float64))
    ax.plot([0], [0], marker="x", color=INK, markersize=8, markeredgewidth=2)
    ax.set_aspect("equal")
    style(ax, x="first direction", y="second direction")
    ax.locator_params(nbins=4)
    return figure


def _direction(params: Any, key: Any) -> Any:
    """Return a random direction with the norms of the filters; 0 for leaves with fewer than two axes."""
    leaves, structure = jax.tree.flatten(params)
    if not any(jnp.ndim(leaf) > 1 and jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError("plot.loss_surface: params has no float array of two or more axes, such as a kernel")
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [_filters(leaf, one) for leaf, one in zip(leaves, keys, strict=True)])


def _filters(leaf: Any, key: Any) -> Any:
    if leaf.ndim < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros(leaf.shape)
    drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
    axes = tuple(range(leaf.ndim - 1))
    norm, own = (jnp.sqrt((one**2).sum(axes, keepdims=True)) for one in (drawn, leaf))
    return drawn * own / norm


def _contours(ax: Any, places: np.ndarray, heights: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("unsigned", ["#ffffff", *POSITIVE])
    low, high = heights[np.isfinite(heights)].min(), heights[np.isfinite(heights)].max()
    if low >= 0 and high > 10 * low:  # otherwise most of the picture would have one colour
        levels = np.geomspace(max(low, high / 1000), high, 12)
    else:
        levels = np.linspace(low, high if high > low else low + 1, 12)
    shown = np.clip(np.nan_to_num(heights, nan=high), levels[0], levels[-1])
    ax.contourf(places, places, shown, levels=levels, colors=[colours(share) for share in np.linspace(0, 0.75, 11)])
    lines = ax.contour(places, places, shown, levels=levels, colors=INK, linewidths=0.6)
    ax.clabel(lines, levels[1:-1:2], fmt="%.3g", fontsize=8)
