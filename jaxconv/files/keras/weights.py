"""Reading of the weights in a Keras file: they are matched with the leaves of a model and checked."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.files.errors import FileError
from jaxconv.files.hdf5 import Store
from jaxconv.files.keras import numbered
from jaxconv.files.keras.layout import Leaf
from jaxconv.files.keras.stored_layer import Match, StoredLayer, leaves_of, listed
from jaxconv.files.leaves import flat, nested
from jaxconv.files.legacy import hdf5_weights
from jaxconv.files.legacy.dialects import Origin
from jaxconv.files.legacy.kernels import cudnn_conversion, kernel_conversion


def match_weights(store: Store, root: StoredLayer, by_name: bool | None, strict: bool) -> dict[Leaf, Match]:
    """Match the tables of a file with the leaves of a model.

    by_name: whether layers are matched by their names; None for the default of the file's layout. strict: whether
    weights that belong to no layer are an error. If it is False, a file without any weight of the model is an error.
    """
    if numbered.is_numbered(store):
        found = numbered.match(store, root, bool(by_name), strict)
    else:
        found = hdf5_weights.match(store, root, by_name is not False, strict)
    if not (found or strict) and leaves_of(root):
        expected = listed([stored.name for stored in root.layers or (root,) if leaves_of(stored)])
        raise FileError(f"{store.path}: it has no weights of the layers of this model, which are {expected}")
    return found


def copy_shared(root: StoredLayer, found: dict[Leaf, Match]) -> list[str]:
    """Add, in place, the weights of layers shared by several models, which Keras 3 stores once; return notes."""
    occurrences: dict[int, list[tuple[StoredLayer, Leaf]]] = {}
    waiting, notes = [root], []
    while waiting:
        stored = waiting.pop()
        waiting += stored.layers or ()
        if stored.shared_id is not None:
            occurrences.setdefault(stored.shared_id, []).extend((stored, leaf) for leaf, _ in leaves_of(stored))
    for _ in range(64):  # weights found for one model may be those that another one lacks
        count = len(found)
        for leaves in occurrences.values():
            known = {leaf[len(one.path) :]: found[leaf] for one, leaf in leaves if leaf in found}
            for one, leaf in leaves:
                if leaf not in found and leaf[len(one.path) :] in known:
                    found[leaf] = known[leaf[len(one.path) :]]
                    notes.append(f"{one.name}: shared by several models; each has its own copy of the weights here")
        if len(found) == count:
            break
    return notes


def read_weights(
    store: Store,
    found: Mapping[Leaf, Match],
    expected: Params,
    default: Params | None,
    origin: Origin,
    notes: list[str],
) -> Params:
    """Read the matched tables. The shape of each is checked before reading, and its numbers afterwards.

    expected: arrays or their shapes and types, in the structure of the params. default: the params to keep where the
    file has none; None if a missing weight is an error. notes: gets a line for each weight that loses precision. Raises
    FileError.
    """
    values: dict[str, Any] = {} if default is None else flat(default)
    for name, leaf in flat(expected).items():
        *above, end = name.split("/")
        where, needed = f"{store.path}: weight {name}", tuple(leaf.shape)
        match, bias = found.get((*above, end)), found.get((*above, "bias"))
        if match is None and name in values:
            continue
        if match is None:
            raise FileError(f"{where} of shape {needed} is missing")
        table, layer = match
        convert = cudnn_conversion(layer, end, table.shape, needed, None if bias is None else bias.table.shape)
        convert = convert or kernel_conversion(layer, end, table.shape, needed, origin)
        if convert is None:
            raise FileError(f"{where} has shape {table.shape} in the file ({table.name}); its layer needs {needed}")
        value = convert(table.read())
        check_finite(where, value)
        if value.dtype.itemsize > np.dtype(leaf.dtype).itemsize:
            notes.append(f"{name} is {value.dtype} in the file and is read as {leaf.dtype}")
        values[name] = jnp.asarray(value.astype(leaf.dtype))
    return nested(values)


def check_finite(where: str, value: np.ndarray) -> None:
    """Check that no number is NaN or infinite. Raises FileError, whose message begins with ``where``."""
    if not np.isfinite(value.astype(np.float32) if value.dtype.itemsize < 4 else value).all():
        raise FileError(f"{where} contains {'NaN' if np.isnan(value.astype(np.float64)).any() else 'an infinity'}")
