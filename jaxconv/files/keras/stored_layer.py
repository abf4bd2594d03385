"""The layers of a model in the order of its file, and the leaves of params of each."""

from typing import NamedTuple

from jaxconv.contract import Layer
from jaxconv.files.hdf5 import Table
from jaxconv.files.keras.layout import Leaf, groups
from jaxconv.models.container import Container, base_name


class StoredLayer(NamedTuple):
    """A layer of a file, and the path of its params.

    name: its name in the file. base: its class in snake_case, by which Keras 3 numbers layers. layer: None after the
    layer where reading stops. path: the path of its params. layers: the layers of a model, in the file's order, or None
    for any other layer. below: the group, inside that of a wrapper, of the model that it wraps. shared_id: see
    ``keras.config.Entry``. replaced: whether it is a custom layer that replaces the file's.
    """

    name: str
    base: str
    layer: Layer | None
    path: Leaf
    layers: tuple["StoredLayer", ...] | None = None
    below: str = ""
    shared_id: int | None = None
    replaced: bool = False

    @property
    def is_skipped(self) -> bool:
        """Return whether its weights in the file are not read: it is not needed, or is custom and has no weights."""
        return self.layer is None or (self.replaced and not leaves_of(self))

    @property
    def is_normalization(self) -> bool:
        """Return whether the layer is a Normalization, whose weights in Keras are options here."""
        return self.layers is None and type(self.layer).__name__ == "Normalization"


class Match(NamedTuple):
    """The table of a leaf, and the layer that the leaf belongs to."""

    table: Table
    layer: Layer


def without_file(layer: Layer, name: str = "", path: Leaf = ()) -> StoredLayer:
    """Return the record of a layer that no config describes, with the order and names of its own children."""
    layers = None
    if isinstance(layer, Container):
        layers = tuple(without_file(child, key, (*path, key)) for key, child in layer.children.items())
    return StoredLayer(name or layer.label, base_name(layer), layer, path, layers)


def leaves_of(stored: StoredLayer) -> list[tuple[Leaf, Layer]]:
    """List the leaves of a layer and of the layers in it, each with its owner, in Keras's order."""
    if stored.layer is None:
        return []
    if stored.layers is not None:
        return [leaf for one in stored.layers for leaf in leaves_of(one)]
    found: dict[Leaf, Layer] = {}
    for group in groups(stored.layer, params_path=stored.path):
        for leaf in group.leaves:
            found.setdefault(leaf, owner_of(stored, leaf))
    return list(found.items())


def owner_of(stored: StoredLayer, leaf: Leaf) -> Layer:
    """Return the layer that a leaf belongs to: the stored one, or one that it wraps."""
    layer = stored.layer
    assert layer is not None
    for key in leaf[len(stored.path) : -1]:
        layer = layer.children[key]
    return layer


def listed(names: list[str]) -> str:
    """Return the first names for a message."""
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "none"
