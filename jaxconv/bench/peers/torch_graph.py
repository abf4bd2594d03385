"""A trained model of jaxconv in PyTorch, eager, at inference: its calls one after the other.

Knows graphs of layers by their contract, and each layer as a function of tensors.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from jaxconv.bench.agreement import Inexpressible
from jaxconv.bench.peers.torch_kernels import Function, tensor
from jaxconv.bench.peers.torch_layers import function_of
from jaxconv.contract import LEAF, Layer, Params, Shape
from jaxconv.models.container import Container
from jaxconv.serving.folding import simplified


@dataclasses.dataclass(frozen=True)
class _Value:
    """A value on its way: its place among all of them, and its shape as it is in jaxconv."""

    place: int
    shape: Any


class Network:
    """A layer, a Sequential or a Model, with weights, built for one shape of each input.

    Args:
        layer, params: the model.
        shapes: of its inputs, batch first, with all lengths.

    Raises:
        Inexpressible: a layer that is not written for PyTorch here. Its name is in the message.
    """

    def __init__(self, layer: Layer, params: Params, shapes: Sequence[Shape]):
        self.first = _has_channels_first(layer)
        self.steps: list[tuple[Function, list[int]]] = []
        self.count = len(shapes)
        values = [_Value(place, tuple(shape)) for place, shape in enumerate(shapes)]
        self.gives = [value.place for value in self._enter("", layer, params, values, LEAF)]
        last = {place: number for number, (_, takes) in enumerate(self.steps) for place in takes}
        over = {place: number for place, number in last.items() if place not in self.gives}
        self.done = [[place for place, step in over.items() if step == number] for number in range(len(self.steps))]

    def run(self, *xs: Tensor) -> list[Tensor]:
        """Compute the outputs. What no later call takes is let go, as local variables of a written network are."""
        values: list[Any] = list(xs)
        for (function, takes), done in zip(self.steps, self.done, strict=True):
            values.append(function(*[values[place] for place in takes]))
            for place in done:
                values[place] = None
        return [values[place] for place in self.gives]

    def tensor(self, array: np.ndarray) -> Tensor:
        """Give an input as PyTorch takes it."""
        return tensor(array if self.first or array.ndim < 3 else np.moveaxis(array, -1, 1))

    def array(self, value: Tensor) -> np.ndarray:
        """Give an output as jaxconv gives it."""
        array = value.numpy()
        return array if self.first or array.ndim < 3 else np.moveaxis(array, 1, -1)

    def _enter(self, where: str, layer: Layer, params: Params, values: list[_Value], structure: Any) -> list[_Value]:
        """Add the calls of a layer, and give its outputs."""
        if isinstance(layer, Container):
            return self._container(where, layer, params, values)
        try:
            less, own = simplified(layer, params)
            if less is None:
                return values
            shapes = [value.shape for value in values]
            function = function_of(less, own, shapes, self.first)
        except Inexpressible as error:
            raise Inexpressible(f"layer {where or layer.label!r}: {error}") from None
        self.steps.append((function, [value.place for value in values]))
        self.count += 1
        return [_Value(self.count - 1, less.output_shape(structure.unflatten(shapes)))]

    def _container(self, where: str, layer: Container, params: Params, values: list[_Value]) -> list[_Value]:
        values, children = list(values), layer.children
        for name, takes, structure in layer.graph.calls:
            child, given = children[name], [values[place] for place in takes]
            if isinstance(child, Container):
                given = child.flat_inputs(structure.unflatten(given))
            path = f"{where}/{name}" if where else name
            values += self._enter(path, child, params.get(name, {}), given, structure)
        return [values[place] for place in layer.graph.outputs]


def _has_channels_first(layer: Layer) -> bool:
    """Tell where a model has its channels: where the first layer has them that says it."""
    said = (one.data_format for one in _inside(layer) if hasattr(one, "rank") and hasattr(one, "data_format"))
    return next(said, None) == "channels_first"


def _inside(layer: Layer) -> Iterator[Any]:
    """List the layers inside, or the layer itself."""
    if not isinstance(layer, Container):
        yield layer
    else:
        for child in layer.children.values():
            yield from _inside(child)
