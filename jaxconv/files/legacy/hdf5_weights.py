"""Weights in the layout of Keras 1 and 2 (``.h5``): a group for each layer, with names."""

import re
from collections.abc import Sequence

import numpy as np

from jaxconv.contract import Layer
from jaxconv.files.errors import FileError
from jaxconv.files.hdf5 import Store, Table
from jaxconv.files.keras.layout import Leaf
from jaxconv.files.keras.stored_layer import Match, StoredLayer, leaves_of, listed

_WEIGHT_NAMES = {  # the names of weights that identify the leaf
    *("kernel", "bias", "depthwise_kernel", "pointwise_kernel", "alpha", "embeddings"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
}


def top_group(store: Store) -> str:
    """Return the path of the group that contains the layers, which is empty or ends in "/"."""
    return "model_weights/" if "model_weights" in store.groups else ""


def match(store: Store, root: StoredLayer, by_name: bool, strict: bool) -> dict[Leaf, Match]:
    """Match the groups in ``layer_names`` with the layers, by name or in sequence. Raises FileError."""
    top = top_group(store)
    names = store.names(top.rstrip("/"), "layer_names")
    layers = root.layers if root.layers is not None else (root,)
    expected = [stored for stored in layers if stored.is_skipped or leaves_of(stored)]
    if names is None and expected:
        raise FileError(f"{store.path}: it has no weights of a Keras model: neither layer_names nor layers")
    tables = {name: _tables(store, f"{top}{name}", name) for name in names or []}
    moments = [("mean",), ("variance",), ("count",)]  # of a Normalization, which are options here
    weights = {name: own for name, own in tables.items() if own and [name_end(one.name, 1) for one in own] != moments}
    if by_name:
        pairs = [(stored, weights.pop(stored.name)) for stored in expected if stored.name in weights]
        if weights and strict:
            raise FileError(
                f"{store.path}: it has weights of {listed(list(weights))}, which the model does not have; "
                "load_weights with strict=False leaves them out"
            )
    else:
        if len(expected) != len(weights) and strict:
            raise FileError(
                f"{store.path}: it has weights of {len(weights)} layers ({listed(list(weights))}); "
                f"the model has {len(expected)} with weights ({listed([stored.name for stored in expected])})"
            )
        pairs = list(zip(expected, weights.values(), strict=False))
    found: dict[Leaf, Match] = {}
    for stored, own in pairs:
        if not stored.is_skipped:
            found |= _match_layer(store, stored, own)
    return found


def name_end(name: str, parts: int) -> tuple[str, ...]:
    """Return the last parts of a variable's name, without TF's ``:0``."""
    return tuple(re.sub(r":\d+$", "", name).split("/")[-parts:])


def _skipped_inside(stored: StoredLayer) -> set[str]:
    """Return the names of the layers in a model whose weights are not read, or are options here."""
    if stored.layers is None:
        return {stored.name} if stored.is_normalization or stored.is_skipped else set()
    return {name for one in stored.layers for name in _skipped_inside(one)}


def _tables(store: Store, group: str, name: str) -> list[Table]:
    """List the tables of a layer in the file's order."""
    if group not in store.groups:
        raise FileError(f"{store.path}: layer {name!r} has no group in the file")
    tables = []
    for weight in store.names(group, "weight_names") or []:
        if "seed_generator" in weight:
            continue
        table = store.tables.get(f"{group}/{weight}")
        if table is None:
            raise FileError(f"{store.path}: layer {name!r}: weight {weight!r} is missing")
        tables.append(table)
    return tables


def _match_layer(store: Store, stored: StoredLayer, tables: Sequence[Table]) -> dict[Leaf, Match]:
    """Match the tables of one layer, or of one model, with its leaves."""
    leaves, skipped = leaves_of(stored), _skipped_inside(stored)
    tables = join_gates([table for table in tables if name_end(table.name, 2)[0] not in skipped], leaves)
    first: dict[tuple[Layer, Leaf], tuple[Leaf, Layer]] = {}
    originals = {leaf: first.setdefault((layer, leaf[-2:]), (leaf, layer))[0] for leaf, layer in leaves}
    if len(tables) == len(first):  # a layer that occurs in several of the models inside is stored once
        once = _match_leaves(list(first.values()), tables)
        return {leaf: Match(once[originals[leaf]].table, layer) for leaf, layer in leaves}
    if len(tables) != len(leaves):
        raise FileError(
            f"{store.path}: layer {stored.name!r} has {len(tables)} weights in the file "
            f"({listed([table.name.rpartition('/')[2] for table in tables])}); it needs {len(leaves)} "
            f"({listed(['/'.join(leaf[len(stored.path) :]) for leaf, _ in leaves])})"
        )
    return _match_leaves(leaves, tables)


def _match_leaves(leaves: Sequence[tuple[Leaf, Layer]], tables: Sequence[Table]) -> dict[Leaf, Match]:
    """Match as many tables as leaves: by their names, or by the orders in which versions of Keras list them."""
    for parts in (2, 1):  # by the names of the layer and the leaf; by that of the leaf only
        ends = {name_end(table.name, parts): table for table in tables}
        wanted = [_expected_end(leaf, layer, parts) for leaf, layer in leaves]
        if set(wanted) == set(ends) and len(ends) == len(tables):
            return {leaf: Match(ends[end], layer) for (leaf, layer), end in zip(leaves, wanted, strict=True)}
    fixed_last = sorted(leaves, key=lambda pair: pair[1].is_fixed(pair[0][-1]))
    statistics_last = sorted(leaves, key=lambda pair: pair[0][-1] in pair[1].statistics)
    for order in (fixed_last, statistics_last, leaves):
        if all(_allows(table, leaf, layer) for (leaf, layer), table in zip(order, tables, strict=True)):
            leaves = order
            break
    return {leaf: Match(table, layer) for (leaf, layer), table in zip(leaves, tables, strict=True)}


def _allows(table: Table, leaf: Leaf, layer: Layer) -> bool:
    """Return whether a table may be this leaf, judging by the table's name."""
    (name,) = name_end(table.name, 1)
    return name not in _WEIGHT_NAMES or name == _expected_end(leaf, layer, 1)[0]


def _expected_end(leaf: Leaf, layer: Layer, parts: int) -> tuple[str, ...]:
    last = "depthwise_kernel" if type(layer).__name__.startswith("Depthwise") and leaf[-1] == "kernel" else leaf[-1]
    return (*leaf[:-1], last)[-parts:]


# -- Keras 1 stored recurrent layers in one table for each gate. Source: Keras 2.15, legacy/hdf5_format.py

_GATE_NAME = re.compile(r"(.*_[WUb])_([ifcozrh])(?::\d+)?$")  # lstm_1_W_i: kernel, recurrent kernel or bias of a gate
_GATE_ORDERS = {frozenset(gates): gates for gates in ("ifco", "zrh")}  # of LSTM and ConvLSTM2D, of GRU


class Joined(Table):
    """Several tables concatenated along an axis."""

    def __init__(self, name: str, tables: Sequence[Table], axis: int):
        self.name, self._tables, self._axis = name, tables, axis

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the concatenation, or () if the tables do not fit. Raises FileError."""
        shapes = [list(table.shape) for table in self._tables]
        if not shapes[0] or any(len(shape) != len(shapes[0]) for shape in shapes):
            return ()
        size = sum(shape[self._axis] for shape in shapes)
        for shape in shapes:
            shape[self._axis] = size
        return tuple(shapes[0]) if all(shape == shapes[0] for shape in shapes) else ()

    def read(self) -> np.ndarray:
        """Read the numbers. Raises FileError."""
        return np.concatenate([table.read() for table in self._tables], self._axis)


def join_gates(tables: Sequence[Table], leaves: Sequence[tuple[Leaf, Layer]]) -> list[Table]:
    """Return the tables of a layer with those of the gates joined, in the order of the gates in current kernels."""
    filters_first = any(getattr(layer, "data_format", None) == "channels_first" for _, layer in leaves)
    found: dict[str, dict[str, Table]] = {}
    for table in tables:
        match = _GATE_NAME.match(table.name)
        found.setdefault(match[1] if match else table.name, {})[match[2] if match else ""] = table
    joined: list[Table] = []
    for name, parts in found.items():
        order = _GATE_ORDERS.get(frozenset(parts))
        own = list(parts.values())
        axis = 0 if filters_first and len(own[0].shape) > 2 else -1
        joined += [Joined(name, [parts[gate] for gate in order], axis)] if order else own
    return joined
