"""The receptive field of an inner layer: theoretical, from the windows, and effective, from gradients."""

import collections
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.inspect.calls import takes_integers
from jaxconv.inspect.observing import channel_axis, observe
from jaxconv.registry import nearest


class ReceptiveField(NamedTuple):
    """The part of the model's input that one unit of a layer reads, for each axis except batch and channels.

    unit: the unit's position in the layer's output along these axes; None along an axis that the output does not have.
    first, last: the first and last input step that the unit reads; steps below 0 and beyond the end are padding.
    size: the number of these steps.
    gradient: the effective field, on the positions of the input: the mean over inputs of the absolute gradient, summed
        over channels. None if not requested.
    deviation: the standard deviation of the position, with the effective field as its distribution. None if not
        requested.
    """

    unit: tuple[int | None, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]
    size: tuple[int, ...]
    gradient: Array | None = None
    deviation: tuple[float, ...] | None = None


def receptive_field(
    layer: Layer | Apply, params: Params, shape: Any, at: str = "", effective: bool = True
) -> ReceptiveField:
    """Return the part of the model's input that the central unit of a layer inside the model reads.

    The theoretical field follows from the windows of the layers. It is the whole axis if a layer reads everything
    (global pooling, flattening), or if branches with different strides are merged. The effective field is the gradient
    of the unit, summed over its channels, with respect to the input; deep networks use only the middle of their
    theoretical field.

    Args:
        layer: a model with one input, or its ``apply_fn``.
        params: used only by the effective field.
        shape: the shape of the input, batch first, with all lengths; or the input at which the gradient is computed.
            For a shape, the gradient is the mean over 16 inputs of standard normal noise.
        at: the path of the layer, as in ``observe``; "" is the model's output.
        effective: whether to compute the gradient.

    Raises:
        ValueError: an unknown layer, unknown lengths, several inputs. TypeError: an integer input, if ``effective``.

    Source: Luo et al. 2016, arXiv:1701.04128.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(1, 3, kernel_initializer="ones")] * 10)
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 41, 1))
    >>> field = receptive_field(apply_fn, params, (None, 41, 1))
    >>> field.size, field.first, field.gradient.shape, round(field.deviation[0], 3)
    ((21,), (10,), (41,), 2.582)
    """
    layer = as_layer(layer, "receptive_field(layer, params, shape)", params)
    given = layer.read_shape(shape)
    if isinstance(given, list | dict) or None in given[1:]:
        raise ValueError(f"receptive_field: input of shape {given}; give one input with all its lengths")
    rows = _rows(layer, given)
    if at not in rows:
        raise ValueError(f"receptive_field: {layer.label} has no layer {at!r}; {nearest(at, filter(None, rows))}")
    channels = channel_axis(layer, rows, len(given)) if len(given) > 2 else None
    axes = [axis for axis in range(1, len(given)) if axis != channels]
    fields = {field.axis + 1: (position, field) for position, field in enumerate(rows[at].fields, 1) if field}
    index = {position: rows[at].output[position] // 2 for position, _ in fields.values()}

    def reads(axis: int) -> tuple[int, int]:
        if axis not in fields:
            return 0, given[axis] - 1
        position, field = fields[axis]
        start = index[position] * field.stride
        return math.floor(field.low + start), math.ceil(field.high + start)

    unit = tuple(index[fields[axis][0]] if axis in fields else None for axis in axes)
    first, last = (tuple(reads(axis)[end] for axis in axes) for end in (0, 1))
    theory = ReceptiveField(unit, first, last, tuple(b - a + 1 for a, b in zip(first, last, strict=True)))
    if not effective:
        return theory
    gradient = jnp.abs(_gradient(layer, params, shape, given, at, index))
    gradient = jnp.mean(gradient if channels is None else jnp.sum(gradient, channels), 0)
    return theory._replace(gradient=gradient, deviation=_deviation(np.asarray(gradient, np.float64)))


def _rows(layer: Layer, shape: Any) -> dict[str, Any]:
    """Return the rows of a model's summary by the paths of ``observe``, which count the calls of a shared layer."""
    first, *rest = layer.summary(shape, print_fn=None)
    calls: collections.Counter[str] = collections.Counter()
    rows, parents = {"": first}, [""]
    for row in rest:
        del parents[row.depth :]
        path = "/".join(filter(None, [parents[-1], row.name.rpartition("/")[2]]))
        calls[path] += 1
        parents.append(path if calls[path] == 1 else f"{path}#{calls[path]}")
        rows[parents[-1]] = row
    return rows


def _gradient(layer: Layer, params: Params, shape: Any, given: Any, at: str, index: dict[int, int]) -> Array:
    """Return the gradient, with respect to inputs, of the sum over one unit's channels."""
    if isinstance(shape, np.ndarray | jax.Array):
        x = jnp.asarray(shape)
    else:
        x = jax.random.normal(jax.random.key(0), (16, *given[1:]), layer.policy.compute)
    dtype = jnp.int32 if takes_integers(layer) else x.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        what = f"receptive_field: the input has type {np.dtype(dtype)}, which has no gradient"
        raise TypeError(f"{what}; give real numbers, the part after the embedding, or effective=False")

    def score(x: Array) -> Array:
        value = observe(layer, params, x, [at])[at]
        return jnp.sum(value[tuple(index.get(axis, slice(None)) for axis in range(value.ndim))])

    return jax.grad(score)(x)


def _deviation(weights: np.ndarray) -> tuple[float, ...]:
    """Return the standard deviation of the position along each axis, or 0 if all weights are 0."""
    found = []
    for axis in range(weights.ndim):
        share = weights.sum(tuple(other for other in range(weights.ndim) if other != axis))
        share = share / (share.sum() or 1)
        steps = np.arange(len(share))
        found.append(float(np.sqrt(share @ (steps - share @ steps) ** 2)))
    return tuple(found)
