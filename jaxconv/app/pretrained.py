"""Pretrained models for a run, with some of their layers frozen."""

import dataclasses
import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconv.contract import Layer, Params
from jaxconv.files.torch_layout import leaf_layers
from jaxconv.models.container import Container


class PretrainedModel(NamedTuple):
    """The initial model of a run: its file, the patterns of frozen layers, and the params in the file."""

    file: Path
    freeze: tuple[str, ...]
    params: Params


def freeze_layers(layer: Layer, patterns: Sequence[str]) -> Layer:
    """Return a model in which the layers that match one of the shell patterns ("conv*") are not trained.

    A pattern is compared with the name of each layer and with its path in nested models ("encoder/conv1d"). A container
    that matches is frozen with all layers inside. Raises ValueError if a pattern matches no layer, or no weights are
    left to train.

    >>> model = freeze_layers(jaxconv.Sequential([jaxconv.Conv1D(2, 3), jaxconv.Dense(2)]), ["conv*"])
    >>> [layer.trainable for layer in model.layers]
    [False, True]
    """
    if not isinstance(layer, Container):
        if patterns:
            what = f"--freeze {patterns[0]}: the model is the layer {layer.label}"
            raise ValueError(f"{what}; give a model of several layers")
        return layer
    names = list(_names(layer))
    for pattern in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            raise ValueError(f"--freeze {pattern} matches no layer; the layers are {', '.join(names)}")
    result = _freeze(layer, patterns, "")
    trained = [one for one in leaf_layers(result) if one.trainable and set(one.leaves) - one.statistics]
    if patterns and not trained:
        raise ValueError(f"--freeze {' '.join(patterns)} leaves no weights to train; the layers are {', '.join(names)}")
    return result


def _freeze(layer: Container, patterns: Sequence[str], prefix: str) -> Container:
    def change(name: str, child: Layer) -> Layer:
        if _matches(prefix + name, patterns):
            return dataclasses.replace(child, trainable=False)
        return _freeze(child, patterns, f"{prefix}{name}/") if isinstance(child, Container) else child

    return layer.map_layers(change) if patterns else layer


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _names(layer: Container, prefix: str = "") -> Iterator[str]:
    for name, child in layer.children.items():
        yield prefix + name
        if isinstance(child, Container):
            yield from _names(child, f"{prefix}{name}/")
