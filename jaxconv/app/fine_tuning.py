"""Models to go on from: read from a file for a run, with some of their layers frozen.

Knows containers and layers by the contract, and model files by their reader.
"""

import dataclasses
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconv.contract import Layer, Params
from jaxconv.files.loading import read_model
from jaxconv.models.container import Container


class Start(NamedTuple):
    """What a run begins with: the file, the patterns of frozen layers, and the params in the file."""

    file: Path
    freeze: tuple[str, ...]
    params: Params


def read_start(file: Path, freeze: Sequence[str]) -> tuple[Layer, Start]:
    """Read a model to go on from, with the layers frozen that the patterns name.

    Raises:
        FileError: as :func:`jaxconv.load_model`.
        ValueError: as :func:`frozen`.
    """
    read = read_model(file)
    return frozen(read.layer, freeze), Start(file, tuple(freeze), read.params)


def frozen(layer: Layer, patterns: Sequence[str]) -> Layer:
    """Give a model with the layers not trained whose names match one of the patterns; their weights stay as they are.

    A pattern is a shell's ("conv*"). It is compared with each layer's own name, and with its place in nested models
    ("encoder/conv1d"); a container that matches is frozen with all that is in it.

    Raises:
        ValueError: a pattern that no layer has; nothing is left to train.

    >>> model = frozen(jaxconv.Sequential([jaxconv.Conv1D(2, 3), jaxconv.Dense(2)]), ["conv*"])
    >>> [layer.trainable for layer in model.layers]
    [False, True]
    """
    if not isinstance(layer, Container):
        if patterns:
            raise ValueError(
                f"a single layer, {layer.label}, has no layers inside that --freeze {patterns[0]} could mean"
            )
        return layer
    names = list(_names(layer))
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            raise ValueError(f"--freeze {pattern} is the name of no layer; the layers are {', '.join(names)}")
    result = _frozen(layer, patterns, "")
    if patterns and not any(_trains(one) for one in _leaves(result)):
        raise ValueError(f"--freeze {' '.join(patterns)} leaves no weights to train; the layers are {', '.join(names)}")
    return result


def _frozen(layer: Container, patterns: Sequence[str], before: str) -> Container:
    def change(name: str, child: Layer) -> Layer:
        if _matches(before + name, patterns):
            return dataclasses.replace(child, trainable=False)
        return _frozen(child, patterns, f"{before}{name}/") if isinstance(child, Container) else child

    return layer.map_layers(change) if patterns else layer


def _matches(path: str, patterns: Sequence[str]) -> bool:
    own = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(own, pattern) for pattern in patterns)


def _names(layer: Container, before: str = "") -> Iterator[str]:
    for name, child in layer.children.items():
        yield before + name
        if isinstance(child, Container):
            yield from _names(child, f"{before}{name}/")


def _leaves(layer: Layer) -> Iterator[Layer]:
    for child in layer.children.values():
        yield child
        yield from _leaves(child)


def _trains(layer: Layer) -> bool:
    return layer.trainable and any(leaf not in layer.statistics for leaf in layer.leaves)
