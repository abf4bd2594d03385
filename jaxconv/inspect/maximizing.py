"""Activation maximization: an input that maximizes the activation of a unit inside a model."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxconv.contract import Params, as_layer, as_shape
from jaxconv.contract.apply import check_key
from jaxconv.inspect.calls import takes_integers
from jaxconv.inspect.observing import observe
from jaxconv.inspect.occlusion import formats, spatial_axes


class Maximized(NamedTuple):
    """The result of ``maximize``.

    x: the input, with a batch of one. history: (steps,), the activation at each step.
    """

    x: Array
    history: Array


def maximize(
    layer: Any, params: Params, at: str, unit: int | Sequence[int], key: Any, *, shape: Any = None, steps: int = 512,
    learning_rate: float = 0.05, jitter: int | None = None, smoothness: float = 0.1,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Maximized:  # fmt: skip
    """Find an input that maximizes the activation of a unit: a signal, an image or a volume.

    Adam maximizes ``activation - smoothness * roughness``, where roughness is the mean squared difference of
    neighbouring entries. The input is parametrized by its Fourier coefficients, divided by their frequency, as in
    lucid, and a sigmoid maps it into ``bounds``. At each step it is shifted by up to ``jitter`` steps, so that the
    result does not depend on the grid of a stride.

    Differs from lucid: the shift is circular, without a grey border; images are neither scaled nor rotated, and
    colours are not decorrelated; the size is that of the model's input; lucid has no roughness by default.

    Args:
        layer: a layer or its ``apply_fn``.
        params: the params of the layer.
        at: the path of a layer inside, as in ``observe``; "" for the output of the model.
        unit: a channel, whose mean over all positions is maximized; or an index of the output, without batch, such as
            (step, channel).
        key: a JAX PRNG key for the start and the shifts; the same key gives the same result.
        shape: the shape of the input, batch first; None if the model knows it.
        steps: the number of steps of Adam.
        learning_rate: the learning rate of Adam.
        jitter: the largest shift along each spatial axis; None means a sixteenth of its length.
        smoothness: the weight of the roughness.
        bounds: the smallest and the largest entry; None for no bounds.

    Returns:
        A ``Maximized``: ``x``, the input with a batch of one, and ``history``, the activation at each step.

    Raises:
        ValueError: a path or a unit that is not in the model; an input of unknown size; ``steps`` or ``bounds`` out of
            range.
        TypeError: a model that takes integers; a key that is not a PRNG key.

    Source: Erhan et al. 2009; Olah et al. 2017, doi:10.23915/distill.00007, and its code, lucid.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 5, name="filters"), jaxconv.GlobalMaxPooling1D()])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 32, 1))
    >>> x, history = maximize(model, params, "filters", 2, jax.random.key(1), shape=(1, 32, 1), steps=20)
    >>> x.shape, bool(history[-1] > history[0])
    ((1, 32, 1), True)
    """
    layer = as_layer(layer, "maximize(layer, params, at, unit, key)", params)
    check_key(key, "maximize")
    shape = layer.known_input_shape if shape is None else shape
    if shape is None:
        raise ValueError("maximize: the size of the input is unknown; give shape=(1, length, channels)")
    shape = (1, *as_shape(shape, "maximize")[1:])
    if None in shape or len(shape) < 2:
        raise ValueError(f"maximize: the input shape {shape} has an unknown size; give numbers in shape")
    if takes_integers(layer):
        raise TypeError("maximize: the model takes integers, which have no gradient; give its part after the embedding")
    if steps < 1:
        raise ValueError(f"maximize: steps={steps} is not valid; expected an integer of at least 1")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"maximize: bounds={bounds} is not valid; expected (smallest, largest), such as (0.0, 1.0)")
    axes = tuple(spatial_axes(layer, len(shape)))
    shift = tuple(shape[axis] // 16 if jitter is None else jitter for axis in axes)
    value = jax.eval_shape(lambda params, x: observe(layer, params, x, [at])[at], params, jnp.zeros(shape))
    index = _index(value, unit, next(formats(layer), None))
    settings = (shape, axes, shift, steps, None if bounds is None else tuple(map(float, bounds)))
    return _ascend(layer, at, index, settings, params, key, learning_rate, smoothness)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _ascend(
    layer: Any, at: str, index: tuple, settings: tuple, params: Any, key: Any, learning_rate: Any, smoothness: Any
) -> Maximized:
    shape, axes, shift, steps, bounds = settings
    scale, place = _spectrum_scale(shape, axes), tuple(slice(None) if n is None else n for n in index)
    draws, start = jax.random.split(key)
    waves = 0.01 * jax.random.normal(start, (2, *scale.shape))

    def image(waves: Array) -> Array:
        x = jnp.fft.irfftn(lax.complex(waves[0] * scale, waves[1] * scale), [shape[axis] for axis in axes], axes)
        return x if bounds is None else bounds[0] + (bounds[1] - bounds[0]) * jax.nn.sigmoid(x)

    def loss(waves: Array, key: Any) -> tuple[Array, Array]:
        x = image(waves)
        rough = sum(jnp.mean(jnp.square(jnp.diff(x, axis=axis))) for axis in axes if shape[axis] > 1)
        for axis, most in zip(axes, shift, strict=True):
            key, own = jax.random.split(key)
            x = jnp.roll(x, jax.random.randint(own, (), -most, most + 1), axis)
        activation = jnp.mean(observe(layer, params, x, [at])[at][place].astype(jnp.float32))
        return smoothness * rough - activation, activation

    adam = optax.adam(learning_rate)

    def step(state: tuple, key: Any) -> tuple[tuple, Array]:
        waves, moments = state
        gradient, activation = jax.grad(loss, has_aux=True)(waves, key)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, moments = adam.update(gradient, moments)
        return (optax.apply_updates(waves, updates), moments), activation

    (waves, _), history = lax.scan(step, (waves, adam.init(waves)), jax.random.split(draws, steps))
    return Maximized(image(waves), history)


def _spectrum_scale(shape: tuple, axes: tuple[int, ...]) -> np.ndarray:
    """Return the factor of each Fourier coefficient: one over its frequency, which balances all scales."""
    each = [np.fft.fftfreq(shape[axis]) for axis in axes[:-1]] + [np.fft.rfftfreq(shape[axes[-1]])]
    radius = np.sqrt(sum(np.square(grid) for grid in np.meshgrid(*each, indexing="ij")))
    sizes = [shape[axis] for axis in axes]
    scale = np.sqrt(np.prod(sizes)) / np.maximum(radius, 1 / max(sizes))
    full = [scale.shape[axes.index(axis)] if axis in axes else n for axis, n in enumerate(shape)]
    return np.broadcast_to(np.expand_dims(scale, [a for a in range(len(shape)) if a not in axes]), full).astype("f4")


def _index(value: Any, unit: int | Sequence[int], data_format: Any) -> tuple:
    """Return the index of a unit in the output of its layer, with None for an entire axis.

    Raises ValueError for a unit that is out of range.
    """
    if not hasattr(value, "shape"):
        raise ValueError("maximize: the layer has several outputs; give the path of a layer with one output")
    sizes = value.shape[1:]
    if isinstance(unit, int | np.integer):
        axis = 0 if data_format == "channels_first" else len(sizes) - 1
        place: list[int | None] = [None] * len(sizes)
        place[axis] = int(unit)
    else:
        axis, place = None, [int(n) for n in unit]
    fits = len(place) == len(sizes)
    if not fits or any(n is not None and not -m <= n < m for n, m in zip(place, sizes, strict=True)):
        what = f"{sizes[axis]} channels" if axis is not None and sizes else f"an output of shape {sizes}, without batch"
        raise ValueError(f"maximize: unit={unit} is out of range: the layer has {what}")
    return (None, *place)
