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
    """Match tables with leaves by class and number, or by the names that Keras 3.9 and later add. Raises FileError."""
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
        raise FileError(f"{store.path}: {listed(extra)} of the file belongs to no weight of the model")
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
    named = _groups_by_name(store, above) if by_name else {}
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


def _is_state(name: str) -> bool:
    """Return whether a table is not a weight: a seed, or the state of an optimizer or a metric."""
    top = name.split("/")[0]
    return "seed_generator/" in name or "_rng/" in name or top in ("optimizer", "metrics", "loss_tracker")
