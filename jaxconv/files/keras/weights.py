"""Which table of a Keras file holds which weight: three layouts, matched strictly against the layers here.

Knows layers by their contract and files as tables by path; nothing of configs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.contract import Layer, Params
from jaxconv.files.errors import FileError
from jaxconv.files.hdf5 import Store, Table
from jaxconv.files.keras.layout import Leaf, groups
from jaxconv.files.leaves import flat, nested
from jaxconv.files.legacy.kernels import Origin, todays_kernel
from jaxconv.models.container import Container, base_name

FOLDERS = ("layers", "_layer_checkpoint_dependencies")  # Keras 2.15 and 3; Keras 2.12 to 2.14
_NAMES = {"kernel", "bias", "depthwise_kernel", "pointwise_kernel", "alpha", "embeddings"} | {
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
}  # what a weight's own name may say it is


class Place(NamedTuple):
    """A layer, where its params are, and how the file counts it.

    stored: its name in the file. base: its class in snake_case, by which Keras 3 counts. layer: None where there is
    none here (beyond the point where reading stops). path: where its params are. inside: the layers of a model, in
    the file's order; None for any other layer. below: what stands between the group of a wrapper and that of the model
    in it. shared: see ``keras.config.Entry``.
    """

    stored: str
    base: str
    layer: Layer | None
    path: Leaf
    inside: tuple["Place", ...] | None = None
    below: str = ""
    shared: int | None = None


class Found(NamedTuple):
    """A table that was matched with a leaf, and the layer it belongs to."""

    table: Table
    layer: Layer


def places(layer: Layer, stored: str = "", path: Leaf = ()) -> Place:
    """Give the places of a layer that no file describes: in its own order, under its own names."""
    inside = None
    if isinstance(layer, Container):
        inside = tuple(places(child, name, (*path, name)) for name, child in layer.children.items())
    return Place(stored or layer.label, base_name(layer), layer, path, inside)


def leaves_of(place: Place) -> list[tuple[Leaf, Layer]]:
    """List the leaves of a place, those of the layers inside included, each with its layer, in Keras's order."""
    if place.layer is None:
        return []
    if place.inside is not None:
        return [leaf for one in place.inside for leaf in leaves_of(one)]
    found: dict[Leaf, Layer] = {}
    for group in groups(place.layer, inside=place.path):
        for leaf in group.leaves:
            found.setdefault(leaf, _owner(place.layer, leaf[len(place.path) :]))
    return list(found.items())


def _owner(layer: Layer, leaf: Leaf) -> Layer:
    for key in leaf[:-1]:
        layer = layer.children[key]
    return layer


# -- .keras and .weights.h5


def is_counted(store: Store) -> bool:
    """Tell whether a file has Keras 3's layout: by class and number."""
    return any(folder in store.groups for folder in (*FOLDERS, "vars"))


def counted(store: Store, root: Place, by_name: bool, strict: bool) -> dict[Leaf, Found]:
    """Match by class and number, or by the names that Keras 3.9 and later write beside."""
    found: dict[Leaf, Found] = {}
    used: set[str] = set()
    for place, prefix in addresses(store, root, "", by_name):
        if place.layer is None:
            used |= {name for name in store.tables if name.startswith(prefix)}
            continue
        for group in groups(place.layer, prefix, inside=place.path):
            tables = [store.tables.get(f"{group.path}/{index}") for index in range(len(group.leaves))]
            for leaf, table in zip(group.leaves, tables, strict=True):
                if table is not None:
                    found.setdefault(leaf, Found(table, _owner(place.layer, leaf[len(place.path) :])))
                    used.add(table.name)
            if is_normalization(place):
                used |= {f"{group.path}/{index}" for index in range(3)}  # read with the config: its options
    extra = sorted(name for name in set(store.tables) - used if not _is_state(name))
    if extra and strict:
        raise FileError(f"{store.path}: {_listed(extra)} of the file belongs to no weight of the model")
    return found


def hand_on(root: Place, found: dict[Leaf, Found]) -> list[str]:
    """Find, in place, the weights of layers that stand in several models: Keras 3 keeps them in the first alone.

    Returns:
        a note for each layer that got them from another place.
    """
    everywhere: dict[int, list[tuple[Place, Leaf]]] = {}
    waiting, notes = [root], []
    while waiting:
        place = waiting.pop()
        waiting += place.inside or ()
        if place.shared is not None:
            everywhere.setdefault(place.shared, []).extend((place, leaf) for leaf, _ in leaves_of(place))
    for _ in range(64):  # what one model hands on may be what another one lacks
        count = len(found)
        for leaves in everywhere.values():
            held = {leaf[len(one.path) :]: found[leaf] for one, leaf in leaves if leaf in found}
            for one, leaf in leaves:
                if leaf not in found and leaf[len(one.path) :] in held:
                    found[leaf] = held[leaf[len(one.path) :]]
                    notes.append(f"{one.stored}: shared by several models; each has its own copy of the weights here")
        if len(found) == count:
            break
    return notes


def _is_state(name: str) -> bool:
    """Tell whether a table is no weight: seeds, an optimizer's and metrics' state."""
    return (
        "seed_generator/" in name or "_rng/" in name or name.split("/")[0] in ("optimizer", "metrics", "loss_tracker")
    )


def addresses(store: Store, root: Place, prefix: str, by_name: bool) -> Iterator[tuple[Place, str]]:
    """Give each layer that is no model with the group it stands in."""
    if root.inside is None:
        yield root, prefix
        return
    folder = next((one for one in FOLDERS if f"{prefix}{one}" in store.groups), FOLDERS[0])
    named = _named(store, f"{prefix}{folder}") if by_name else {}
    count: dict[str, int] = {}
    for place in root.inside:
        number = count.get(place.base, 0)
        below = f"{prefix}{folder}/{place.base}_{number}/" if number else f"{prefix}{folder}/{place.base}/"
        # the older layout counts a layer with weights twice
        twice = folder != FOLDERS[0] and any(name.startswith(below) for name in store.tables)
        count[place.base] = number + 1 + twice
        if by_name:
            below = named.get(place.stored, f"{prefix}{folder}//")
        yield from addresses(store, place, below + place.below, by_name)


def _named(store: Store, folder: str) -> dict[str, str]:
    """Give the group of each name. Raises FileError where the file has no names."""
    found = {}
    for path in store.groups:
        above, _, last = path.rpartition("/")
        if last == "vars" and above.rpartition("/")[0] == folder:
            name = store.text(path, "name")
            if name is None:
                raise FileError(f"{store.path}: it has no names of layers; load it without by_name")
            found[name] = f"{above}/"
    return found


# -- .h5 with a group for each layer


def named(store: Store, root: Place, top: str, by_name: bool, strict: bool) -> dict[Leaf, Found]:
    """Match the groups of ``layer_names`` with the layers, by name or one after the other."""
    names = store.names(top, "layer_names") or []
    prefix = f"{top}/" if top else ""
    read = {name: _tables(store, f"{prefix}{name}", name) for name in names}
    weights = {name: tables for name, tables in read.items() if tables and not _are_moments(tables)}
    inside = root.inside if root.inside is not None else (root,)
    ours = [place for place in inside if place.layer is None or leaves_of(place)]
    if by_name:
        pairs = [(place, weights.pop(place.stored)) for place in ours if place.stored in weights]
        left = list(weights)
    else:
        if len(ours) != len(weights) and strict:
            raise FileError(
                f"{store.path}: it has weights of {len(weights)} layers ({_listed(list(weights))}); "
                f"the model has {len(ours)} with weights ({_listed([place.stored for place in ours])})"
            )
        pairs, left = list(zip(ours, weights.values(), strict=False)), []
    if left and strict:
        raise FileError(f"{store.path}: it has weights of layer {_listed(left)}, which the model does not need")
    found: dict[Leaf, Found] = {}
    for place, tables in pairs:
        if place.layer is not None:
            found |= _paired(store, place, tables)
    return found


def is_normalization(place: Place) -> bool:
    """Tell whether a place is of a Normalization, whose weights in Keras are options here."""
    return place.inside is None and type(place.layer).__name__ == "Normalization"


def _are_moments(tables: Sequence[Table]) -> bool:
    return [tail(table.name, 1) for table in tables] == [("mean",), ("variance",), ("count",)]


def _moments_inside(place: Place) -> set[tuple[str, ...]]:
    """Give the ends of the names of what belongs to the Normalizations inside a model."""
    if place.inside is None:
        return {(place.stored, what) for what in ("mean", "variance", "count")} if is_normalization(place) else set()
    return {name for one in place.inside for name in _moments_inside(one)}


def _tables(store: Store, group: str, name: str) -> list[Table]:
    """List the tables of a layer in the order that the file says."""
    if group not in store.groups:
        raise FileError(f"{store.path}: layer {name!r} has no group in the file")
    tables = []
    for one in store.names(group, "weight_names") or []:
        if "seed_generator" in one:
            continue
        table = store.tables.get(f"{group}/{one}")
        if table is None:
            raise FileError(f"{store.path}: layer {name!r}: weight {one!r} is missing")
        tables.append(table)
    return tables


def _paired(store: Store, place: Place, tables: Sequence[Table]) -> dict[Leaf, Found]:
    """Match the tables of one layer, or of one model inside, with its leaves."""
    leaves, moments = leaves_of(place), _moments_inside(place)
    tables = [table for table in tables if tail(table.name, 2) not in moments]
    first: dict[Any, tuple[Leaf, Layer]] = {}
    twins = {leaf: first.setdefault((layer, leaf[-2:]), (leaf, layer))[0] for leaf, layer in leaves}
    if len(tables) == len(first):  # a layer that stands in several of the models inside has its weights there once
        alone = _matched(list(first.values()), tables)
        return {leaf: Found(alone[twins[leaf]].table, layer) for leaf, layer in leaves}
    if len(tables) != len(leaves):
        raise FileError(
            f"{store.path}: layer {place.stored!r} has {len(tables)} weights in the file "
            f"({_listed([table.name.rpartition('/')[2] for table in tables])}); it needs {len(leaves)} "
            f"({_listed(['/'.join(leaf[len(place.path) :]) for leaf, _ in leaves])})"
        )
    return _matched(leaves, tables)


def _matched(leaves: Sequence[tuple[Leaf, Layer]], tables: Sequence[Table]) -> dict[Leaf, Found]:
    """Match as many tables as leaves: by their names, or by the orders in which versions of Keras list them."""
    for parts in (2, 1):  # by the layer's and the leaf's name; by the leaf's alone
        ends = {tail(table.name, parts): table for table in tables}
        wanted = [_wanted(leaf, layer, parts) for leaf, layer in leaves]
        if set(wanted) == set(ends) and len(ends) == len(tables):
            return {leaf: Found(ends[end], layer) for (leaf, layer), end in zip(leaves, wanted, strict=True)}
    fixed_last = sorted(leaves, key=lambda pair: pair[1].is_fixed(pair[0][-1]))
    statistics_last = sorted(leaves, key=lambda pair: pair[0][-1] in pair[1].statistics)
    for order in (fixed_last, statistics_last, leaves):
        if all(_fits(leaf, layer, table) for (leaf, layer), table in zip(order, tables, strict=True)):
            leaves = order
            break
    return {leaf: Found(table, layer) for (leaf, layer), table in zip(leaves, tables, strict=True)}


def _fits(leaf: Leaf, layer: Layer, table: Table) -> bool:
    """Tell whether a table's own name allows it to be this leaf, where it says what it is."""
    own = tail(table.name, 1)[0]
    return own not in _NAMES or own == _wanted(leaf, layer, 1)[0]


def tail(name: str, parts: int) -> tuple[str, ...]:
    """Give the last parts of a variable's name, without TF's ``:0``."""
    return tuple(re.sub(r":\d+$", "", name).split("/")[-parts:])


def _wanted(leaf: Leaf, layer: Layer, parts: int) -> tuple[str, ...]:
    last = "depthwise_kernel" if type(layer).__name__.startswith("Depthwise") and leaf[-1] == "kernel" else leaf[-1]
    return (*leaf[:-1], last)[-parts:]


# -- reading what was matched


def read(
    store: Store,
    found: Mapping[Leaf, Found],
    expected: Params,
    held: Params | None,
    origin: Origin,
    notes: list[str],
) -> Params:
    """Read the matched tables, each checked against the leaf it is for: shape before a byte is read, then numbers.

    Args:
        expected: arrays or their shapes and types, in the structure of the params.
        held: the params to keep where the file has none; None where that is an error.

    Raises:
        FileError: a weight is missing, has another shape, or holds NaN or an infinity.
    """
    values: dict[str, Any] = {}
    kept = None if held is None else flat(held)
    for name, leaf in flat(expected).items():
        match = found.get(tuple(name.split("/")))
        if match is None:
            if kept is None:
                raise FileError(f"{store.path}: weight {name} of shape {leaf.shape} is missing")
            values[name] = kept[name]
            continue
        values[name] = _value(store, name, leaf, match, origin, notes)
    return nested(values)


def _value(store: Store, name: str, leaf: Any, match: Found, origin: Origin, notes: list[str]) -> jax.Array:
    table, layer = match
    where = f"{store.path}: weight {name}"
    wanted = tuple(leaf.shape)
    turn = todays_kernel(layer, name.rpartition("/")[2], table.shape, wanted, origin)
    if turn is None:
        raise FileError(f"{where} has shape {table.shape} in the file ({table.name}); its layer needs {wanted}")
    value = turn(table.read())
    if not np.isfinite(value.astype(np.float32) if value.dtype.itemsize < 4 else value).all():
        raise FileError(f"{where} holds {'NaN' if np.isnan(value.astype(np.float64)).any() else 'an infinity'}")
    if value.dtype.itemsize > np.dtype(leaf.dtype).itemsize:
        notes.append(f"{name} is {value.dtype} in the file and is kept as {leaf.dtype}")
    return jax.numpy.asarray(value.astype(leaf.dtype))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown}, ..." if len(names) > 5 else shown or "none"
