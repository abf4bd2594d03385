"""Recurrent layers of Keras 1: weights in one table for each gate, joined to the tables of later versions.

Knows tables by their names. Source: Keras 2.15, keras/src/saving/legacy/hdf5_format.py
"""

import re
from collections.abc import Sequence

import numpy as np

from jaxconv.contract import Layer
from jaxconv.files.hdf5 import Table
from jaxconv.files.keras.layout import Leaf

_NAME = re.compile(r"(.*_[WUb])_([ifcozrh])(?::\d+)?$")  # lstm_1_W_i: kernel, recurrent kernel or bias of a gate
_ORDERS = {frozenset(gates): gates for gates in ("ifco", "zrh")}  # of LSTM and ConvLSTM2D, of GRU


class Joined(Table):
    """Several tables as one, side by side along an axis."""

    def __init__(self, name: str, tables: Sequence[Table], axis: int):
        self.name, self._tables, self._axis = name, tables, axis

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all together; () if they do not fit. Raises FileError."""
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


def join(tables: Sequence[Table], leaves: Sequence[tuple[Leaf, Layer]]) -> list[Table]:
    """Return the tables of a layer with those of the gates joined, in the order of the gates in current kernels."""
    filters_first = any(getattr(layer, "data_format", None) == "channels_first" for _, layer in leaves)
    found: dict[str, dict[str, Table]] = {}
    for table in tables:
        match = _NAME.match(table.name)
        found.setdefault(match[1] if match else table.name, {})[match[2] if match else ""] = table
    joined: list[Table] = []
    for name, parts in found.items():
        order = _ORDERS.get(frozenset(parts))
        own = list(parts.values())
        axis = 0 if filters_first and len(own[0].shape) > 2 else -1
        joined += [Joined(name, [parts[gate] for gate in order], axis)] if order else own
    return joined
