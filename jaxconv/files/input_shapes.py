"""Which input a layer takes, as far as it is known: what the caller says, what the layer says, what its weights tell.

Knows layers and models by their contract alone.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract import Layer, Params, Shape
from jaxconv.models import Model, Sequential


def input_shape_of(layer: Layer, given: Any = None) -> Any:
    """Give the shape of a layer's input, batch first: the given one, or what the layer says; None if neither.

    Raises:
        ValueError or TypeError: a given one that the layer does not read.

    >>> input_shape_of(jaxconv.Sequential([jaxconv.Conv1D(4, 3, input_shape=(10, 2))]))
    (None, 10, 2)
    """
    if given is not None:
        return layer.read_shape(given)
    if isinstance(layer, Model):
        return layer.read_shape(layer.structure.unflatten(source.shape for source in layer.sources))
    first: Any = layer
    while first.input_shape is None and isinstance(first, Sequential) and first.layers:
        first = first.layers[0]
    return None if first.input_shape is None else (None, *first.input_shape)


def output_shape_of(layer: Layer, shape: Any) -> Any:
    """Give the output's shape, or None where the input's does not say it."""
    try:
        return layer.output_shape(shape)
    except (ValueError, TypeError):
        return None


def fitting_shape(layer: Layer, params: Params) -> Shape | None:
    """Give an input shape, as unknown as it may be, for which a layer would have weights of these shapes.

    None where there is none that can be seen from the weights alone.

    >>> params, _ = jaxconv.Conv1D(8, 3, groups=2).init(jax.random.key(0), (None, 10, 4))
    >>> fitting_shape(jaxconv.Conv1D(8, 3, groups=2), params)
    (None, None, 4)
    """
    return next((shape for shape in _candidates(layer, jax.tree.leaves(params)) if fits(layer, params, shape)), None)


def fits(layer: Layer, params: Params, shape: Any) -> bool:
    """Tell whether a layer would have weights of these shapes for an input of this one."""
    try:
        layer.output_shape(shape)
        made = jax.eval_shape(lambda: layer.init_params(jax.random.key(0), shape))
    except (ValueError, TypeError):
        return False
    return jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


def misfit(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Give the first of a layer's own weights that has, for no input, the shape it is said to have; None where all may.

    Weights are asked of the layer for inputs of each rank, one axis after the other made longer. A size that does not
    change is the layer's own; one that grows with an axis tells the size of that axis, which all weights must agree on.

    Returns:
        (name, the shape that it needs: "?" where the input decides and nothing tells).

    >>> misfit(jaxconv.Conv1D(8, 3), {"kernel": (4, 2, 8), "bias": (8,)})
    ('kernel', '(3, 2, 8)')
    """
    found = [_misfit(layer, shapes, rank) for rank in range(1, 6)]
    told = [one for one in found if one is not _REFUSED]
    return None if not told or None in told else told[0]


_REFUSED = ("", "")  # the layer takes no input of this rank


def _misfit(layer: Layer, shapes: Mapping[str, tuple[int, ...]], rank: int) -> tuple[str, str] | None:
    long, longer = 2**7 * 3**2 * 5 * 7, 2**8 * 3**2 * 5 * 7  # whatever divides channels divides these

    def asked(*sizes: int) -> dict[str, tuple[int, ...]]:
        layer.output_shape((None, *sizes))
        return {name: weight.shape for name, weight in layer.weights((None, *sizes)).items()}

    try:
        base = asked(*(long,) * rank)
        each = [asked(*(longer if axis == one else long for axis in range(rank))) for one in range(rank)]
    except Exception:  # a layer of the user's own may raise anything
        return _REFUSED
    inputs: dict[int, Fraction] = {}  # the sizes of axes that weights have told
    for name, shape in base.items():
        held = shapes.get(name, ())
        needed: list[int | None] = []
        for place, size in enumerate(shape):
            axes = [axis for axis in range(rank) if each[axis][name][place] != size]
            if len(axes) == 1 and each[axes[0]][name][place] == 2 * size and len(held) == len(shape):  # in proportion
                share = Fraction(size, long)
                needed.append(int(inputs.setdefault(axes[0], held[place] / share) * share))
            else:
                needed.append(None if axes else size)
        if len(held) != len(shape) or any(n not in (None, own) for n, own in zip(needed, held, strict=True)):
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
