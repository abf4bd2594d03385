"""Weights in Keras 3's layout (``.keras``, ``.weights.h5``): groups by class and number."""

from collections.abc import Collection, Iterable, Iterator

from jaxconv.files.errors import FileError
from jaxconv.files.hdf5 import Store, folders_of
from jaxconv.files.keras.layout import Leaf, groups, numbered_name
from jaxconv.files.keras.stored_layer import Match, StoredLayer, leaves_of, listed, owner_of

FOLDERS = ("layers", "_layer_checkpoint_dependencies")  # Keras 2.15 and 3; Keras 2.12 to 2.14


def is_numbered(store: Store) -> bool:
    """Return whether a file has Keras 3's layout."""
    return any(folder in store.groups for folder in (*FOLDERS, "vars")) and not store.names("", "layer_names")


def match(store: Store, root: StoredLayer, by_name: bool, strict: bool) -> dict[Leaf, Match]:
    """Match tables with leaves by class and number, or by names. Raises FileError.

    Groups of a subclassed model that have the names of its attributes have no order, and are matched by name.
    """
    attributes = _attributes(store, "") if root.layers is not None else {}
    if attributes and not by_name:
        names = [*_outermost(attributes), *_groups_by_name(store, f"{FOLDERS[0]}/")]
        raise FileError(
            f"{store.path}: it has the weights of a subclassed model by the names of its attributes, without an order; "
            f"name the layers {listed(names)}, and use load_weights with by_name=True"
        )
    found: dict[Leaf, Match] = {}
    used: set[str] = set()
    skipped: set[str] = set()
    for stored, prefix in group_prefixes(store, root, by_name):
        if stored.is_skipped or stored.layer is None:
            skipped.add(prefix)
            continue
        for group in groups(stored.layer, prefix, params_path=stored.path):
            for index, leaf in enumerate(group.leaves):
                above, _, folder = group.path.removesuffix("/vars").rpartition("/")
                places = f"{group.path}/{index}", f"{above}/_{folder}/vars/{index}"  # the second until Keras 3.0
                table = next((store.tables[place] for place in places if place in store.tables), None)
                if table is not None:
                    found.setdefault(leaf, Match(table, owner_of(stored, leaf)))
                    used.add(table.name)
            if stored.is_normalization:
                used |= {f"{group.path}/{index}" for index in range(3)}  # options, read with the config
    unused = sorted(name for name in set(store.tables) - used if not _is_state(name))
    extra = [name for name in unused if skipped.isdisjoint(folders_of(name))]
    if extra and strict:
        by_group = {group: name for name, group in attributes.items()}
        owners = list(dict.fromkeys(name for one in extra if (name := _owner(store, one, by_group))))
        of_layers = f" (layer {listed(owners)})" if owners else ""
        raise FileError(
            f"{store.path}: {listed(extra)} of the file{of_layers} belongs to no weight of the model; "
            "load_weights with strict=False leaves it out"
        )
    return found


def group_prefixes(
    store: Store, root: StoredLayer, by_name: bool = False, prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[StoredLayer, str]]:
    """Yield each layer that is not a model with the path of its group, which ends in "/".

    seen: the shared layers that were already yielded: Keras stores only the first occurrence.
    """
    if root.layers is None:
        yield root, prefix
        return
    seen = set() if seen is None else seen
    folder = next((one for one in FOLDERS if f"{prefix}{one}" in store.groups), FOLDERS[0])
    above = f"{prefix}{folder}/"
    named = {}
    if by_name:
        named = _groups_by_name(store, above) | _attributes(store, prefix)
    doubled = _doubled_classes(store, root.layers, above, seen) if folder != FOLDERS[0] else None
    count: dict[str, int] = {}
    for stored in root.layers:
        again = stored.shared_id in seen
        below = f"{above}/"  # no group has an empty name
        if doubled is None or stored.base in doubled or not again:
            below = f"{above}{numbered_name(stored.base, count)}/"
        if doubled is not None and stored.base in doubled:
            count[stored.base] += again or below in store.folders
        if by_name:
            below = named.get(stored.name, f"{above}/")
        yield from group_prefixes(store, stored, by_name, below + stored.below, seen)
        if stored.shared_id is not None:
            seen.add(stored.shared_id)


def _doubled_classes(store: Store, layers: Iterable[StoredLayer], above: str, seen: Collection[int]) -> set[str]:
    """Return the classes whose layers with weights are counted twice, as in Keras 2.12 and 2.13; 2.14 counts them once.

    Counted once, each layer with weights has a group, and no number reaches the number of layers.
    """
    count: dict[str, int] = {}
    doubled = set()
    for stored in layers:
        if stored.shared_id not in seen:
            below = f"{above}{numbered_name(stored.base, count)}/"
            if below not in store.folders and (stored.is_normalization or leaves_of(stored)):
                doubled.add(stored.base)
    beyond = {base for base, n in count.items() if any(f"{above}{base}_{k}/" in store.folders for k in range(n, 2 * n))}
    return doubled | beyond


def _groups_by_name(store: Store, above: str) -> dict[str, str]:
    """Return the path of the group of each name. Raises FileError for a file without names."""
    found = {}
    for path in store.groups:
        group = path.removesuffix("/vars")
        if group != path and group.rpartition("/")[0] + "/" == above:
            name = store.text(path, "name")
            if name is None:
                raise FileError(f"{store.path}: it has no names of layers; load it without by_name")
            found[name] = f"{group}/"
    return found


def _attributes(store: Store, above: str) -> dict[str, str]:
    """Return the groups of the layers that a subclassed model stores by attribute: "conv", "blocks.conv1d".

    Keras stores objects in alphabetical order, each once: attributes before "layers" by their names, and the other
    layers in ``layers``. Any other model has all of them there.
    """
    others = (f"{above}vars/", *(f"{above}{folder}/" for folder in FOLDERS))
    filled = {folder for table in store.tables if not _is_state(table) for folder in folders_of(table)}
    own = [one for one in filled if one.startswith(above) and one != above and not one.startswith(others)]
    return {one.removeprefix(above)[:-1].replace("/", "."): one for one in own if f"{one}vars" in store.groups}


def _outermost(attributes: dict[str, str]) -> list[str]:
    """List the attributes that are not inside another one, such as the cell of a recurrent layer."""
    groups = set(attributes.values())
    return sorted(name for name, group in attributes.items() if groups.isdisjoint([*folders_of(group)][:-1]))


def _owner(store: Store, table: str, names: dict[str, str]) -> str | None:
    """Return the name by which the layer of a table is matched, or None if the file does not have it.

    names: of the groups of attributes.
    """
    attribute = next((names[folder] for folder in folders_of(table) if folder in names), None)
    return attribute or store.text(table.rpartition("/")[0], "name")


def _is_state(name: str) -> bool:
    """Return whether a table is not a weight: a seed, or the state of an optimizer or a metric."""
    top = name.split("/")[0]
    return "seed_generator/" in name or "_rng/" in name or top in ("optimizer", "metrics", "loss_tracker")
