"""Outline of a model file: the names of its layers and weights, even if the model cannot be built."""

import collections
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxconv.files.bounds import TEXT, open_file, parse_json
from jaxconv.files.errors import FileError
from jaxconv.files.keras.config import Entry, read_model_config
from jaxconv.files.loading import open_source


class Outline(NamedTuple):
    """The contents of a file, without the model.

    format: the kind of file. version: Keras's, if the file has it. layers: the path and the class of each layer; empty
    for a file of weights. weights: the path and the shape of each array.
    """

    format: str
    version: str | None
    layers: tuple[tuple[str, str], ...]
    weights: tuple[tuple[str, tuple[int, ...]], ...]


def read_outline(path: str | os.PathLike[str]) -> Outline:
    """Read the outline of a Keras file or a file of params. Raises FileError."""
    with open_file(path) as handle:
        start = handle.read(9)
        if start[8:] == b"{":  # the length of a safetensors header, then the header
            size = int.from_bytes(start[:8], "little")
            header = b"{" + handle.read(min(size, TEXT + 1) - 1)
            return _safetensors_outline(path, parse_json(path, header, "its header"))
    with open_source(path) as source:
        layers: list[tuple[str, str]] = []
        if source.config is not None:
            try:
                layers = _layers(read_model_config(source.config), "")
            except (FileError, ValueError, TypeError):
                layers = []  # the config is the part that cannot be used
        tables = source.store.tables.items()
        return Outline(source.format, source.version, tuple(layers), tuple((name, t.shape) for name, t in tables))


def _safetensors_outline(path: Any, header: Any) -> Outline:
    weights = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(length) is int and 0 <= length < 2**63 for length in shape):
            raise FileError(f"{path}: the shape of {name!r} is {ascii(shape)[:80]}; a list of lengths is expected")
        weights.append((name, tuple(shape)))
    return Outline("safetensors", None, (), tuple(weights))


def _layers(entry: Entry, prefix: str) -> list[tuple[str, str]]:
    found = []
    for child in entry.layers or ():
        found.append((prefix + child.stored_name, child.class_name))
        found += _layers(child, f"{prefix}{child.stored_name}/")
    return found


def group_notes(notes: Iterable[str]) -> list[str]:
    """Return the notes, with equal notes about several layers in one line.

    >>> group_notes(["conv1: nb_filter is read as filters", "conv2: nb_filter is read as filters", "no version"])
    ['nb_filter is read as filters (2 layers: conv1, conv2)', 'no version']
    """
    layers: dict[str, list[str]] = collections.defaultdict(list)
    for note in notes:
        match = re.fullmatch(r"([^\s:]+): (.*)", note, re.DOTALL)
        layers[match[2] if match else note] += [match[1]] if match else []
    grouped = []
    for note, names in layers.items():
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        one = f"{names[0]}: {note}" if names else note
        grouped.append(f"{note} ({len(names)} layers: {listed})" if len(names) > 1 else one)
    return grouped
