"""Where Keras 3 keeps each weight: the groups of ``model.weights.h5``, and the leaves of params that belong in them.

Knows layers by their contract alone, and nothing of HDF5.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxconv.contract import Layer
from jaxconv.models.container import Container, base_name
from jaxconv.registry import snake_case

Leaf = tuple[str, ...]


class Group(NamedTuple):
    """One layer's group in the weights file.

    path: the group: ``layers/conv1d_1/vars``. Keras counts classes, whatever the layers are called.
    name: what the layer is called; None where it has no name of its own.
    leaves: the paths in params of the datasets ``0``, ``1``, ...
    """

    path: str
    name: str | None
    leaves: tuple[Leaf, ...]


def groups(layer: Layer, path: str = "", name: str | None = None, inside: Leaf = ()) -> Iterator[Group]:
    """Give the groups of a layer and of all layers in it, containers first.

    Args:
        layer: the model; a layer alone stands in none of Keras's files.
        path: the group above. name: what the layer is called there. inside: where its params are.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3, name="first"), jaxconv.Conv1D(2, 1, use_bias=False)])
    >>> for group in groups(model): print(group.path, group.leaves)
    vars ()
    layers/conv1d/vars (('first', 'kernel'), ('first', 'bias'))
    layers/conv1d_1/vars (('conv1d', 'kernel'),)
    """
    yield Group(f"{path}vars", name or layer.name, tuple((*inside, *leaf) for leaf in layer.variables))
    count: dict[str, int] = {}
    for key, child in layer.children.items():
        if isinstance(layer, Container):
            base = base_name(child)
            number = count[base] = count.get(base, -1) + 1
            below = f"{path}layers/{base}_{number}/" if number else f"{path}layers/{base}/"
        else:  # a wrapper: its attribute
            below = f"{path}{snake_case(key)}/"
        yield from groups(child, below, key, (*inside, key))


def pick(params: Mapping[str, Any], leaf: Leaf) -> Any:
    """Give the array at a path in params; None where there is none."""
    value: Any = params
    for key in leaf:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
