"""Keras 3's layout of weights: the groups of ``model.weights.h5``, and the leaves of params in each."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxconv.contract import Layer
from jaxconv.models.container import Container, base_name
from jaxconv.registry import snake_case

Leaf = tuple[str, ...]


class Group(NamedTuple):
    """One layer's group in the weights file.

    path: the group, like ``layers/conv1d_1/vars``. Keras numbers the layers of each class, regardless of their names.
    name: the layer's name, or None if it has none.
    leaves: the paths in params of the datasets ``0``, ``1``, ...
    """

    path: str
    name: str | None
    leaves: tuple[Leaf, ...]


def groups(layer: Layer, path: str = "", name: str | None = None, params_path: Leaf = ()) -> Iterator[Group]:
    """Yield the groups of a layer and of all layers in it, containers first.

    path: the parent group. name: the layer's name in it. params_path: the path of its params.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3, name="first"), jaxconv.Conv1D(2, 1, use_bias=False)])
    >>> for group in groups(model): print(group.path, group.leaves)
    vars ()
    layers/conv1d/vars (('first', 'kernel'), ('first', 'bias'))
    layers/conv1d_1/vars (('conv1d', 'kernel'),)
    """
    own, cell = tuple((*params_path, *leaf) for leaf in layer.keras_variables), getattr(layer, "keras_group", "")
    yield Group(f"{path}vars", name or layer.name, () if cell else own)
    if cell:  # the cell of a recurrent layer, which is a layer of its own in Keras
        yield Group(f"{path}{cell}vars", f"{base_name(layer)}_{cell.rstrip('/')}", own)
    count: dict[str, int] = {}
    for key, child in layer.children.items():
        if isinstance(layer, Container):
            below = f"{path}layers/{numbered_name(base_name(child), count)}/"
        else:  # the attribute of a wrapper
            below = f"{path}{getattr(layer, 'keras_folders', {}).get(key, snake_case(key))}/"
        yield from groups(child, below, key, (*params_path, key))


def numbered_name(base: str, count: dict[str, int]) -> str:
    """Return ``base``, ``base_1``, ``base_2``, ... in turn, and update ``count`` in place."""
    number = count.get(base, 0)
    count[base] = number + 1
    return f"{base}_{number}" if number else base
