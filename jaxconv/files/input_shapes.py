"""Inference of a layer's input shape from the shapes of its weights."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract import Layer, Params, Shape


def output_shape_of(layer: Layer, shape: Any) -> Any:
    """Return the shape of the output, or None if that of the input does not determine it."""
    try:
        return layer.output_shape(shape)
    except (ValueError, TypeError):
        return None


def fitting_shape(layer: Layer, params: Params) -> Shape | None:
    """Return the least specific input shape for which a layer has weights of these shapes, or None.

    >>> params, _ = jaxconv.Conv1D(8, 3, groups=2).init(jax.random.key(0), (None, 10, 4))
    >>> fitting_shape(jaxconv.Conv1D(8, 3, groups=2), params)
    (None, None, 4)
    """
    return next((shape for shape in _candidates(layer, jax.tree.leaves(params)) if fits(layer, params, shape)), None)


def fits(layer: Layer, params: Params, shape: Any) -> bool:
    """Return whether a layer has weights of these shapes for an input of this shape."""
    try:
        layer.output_shape(shape)
        made = jax.eval_shape(lambda: layer.init_params(jax.random.key(0), shape))
    except (ValueError, TypeError):
        return False
    return jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


def misfit(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Return the first weight whose shape no input gives, and the shape it needs, or None if all are possible.

    The weights are computed for inputs of each rank, with each axis doubled in turn. A size that does not change is a
    constant of the layer; one that grows with an axis determines the size of that axis, on which all weights must
    agree. "?" represents a size that depends on the input and that no other weight determines.

    >>> misfit(jaxconv.Conv1D(8, 3), {"kernel": (4, 2, 8), "bias": (8,)})
    ('kernel', '(3, 2, 8)')
    """
    found = [_misfit(layer, shapes, rank) for rank in range(1, 6)]
    known = [one for one in found if one is not _UNKNOWN]
    return None if not known or None in known else known[0]


_UNKNOWN = ("", "")  # the layer accepts no input of this rank


def _misfit(layer: Layer, shapes: Mapping[str, tuple[int, ...]], rank: int) -> tuple[str, str] | None:
    long, longer = 2**7 * 3**2 * 5 * 7, 2**8 * 3**2 * 5 * 7  # divisible by every common number of groups

    def weight_shapes(*sizes: int) -> dict[str, tuple[int, ...]]:
        layer.output_shape((None, *sizes))
        return {name: weight.shape for name, weight in layer.weights((None, *sizes)).items()}

    try:
        base = weight_shapes(*(long,) * rank)
        doubled = [weight_shapes(*(longer if axis == one else long for axis in range(rank))) for one in range(rank)]
    except Exception:  # a custom layer may raise anything
        return _UNKNOWN
    inputs: dict[int, Fraction] = {}  # the sizes of axes, from the weights
    for name, shape in base.items():
        stored = shapes.get(name, ())
        needed: list[int | None] = []
        for place, size in enumerate(shape):
            axes = [axis for axis in range(rank) if doubled[axis][name][place] != size]
            if len(axes) == 1 and doubled[axes[0]][name][place] == 2 * size and len(stored) == len(shape):
                share = Fraction(size, long)
                needed.append(int(inputs.setdefault(axes[0], stored[place] / share) * share))
            else:
                needed.append(None if axes else size)
        if len(stored) != len(shape) or any(n not in (None, own) for n, own in zip(needed, stored, strict=True)):
            return name, str(tuple(needed)).replace("None", "?")
    return None


def _candidates(layer: Layer, leaves: Sequence[Any]) -> Iterator[Shape]:
    sizes = {size for leaf in leaves for size in leaf.shape}
    sizes |= {size * getattr(layer, "groups", 1) for size in sizes}
    products = {a * b for a, b in itertools.product(sizes, repeat=2) if a * b < 2**20}
    for channels in (*sorted(sizes), *sorted(products - sizes)):
        for rank in range(5):
            yield (None, *(None,) * rank, channels)
            yield (None, channels, *(None,) * rank)
    for leaf in leaves:
        yield (None, *leaf.shape)
