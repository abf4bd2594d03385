"""A jaxconv model in PyTorch: a list of calls that run in sequence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from jaxconv.bench.agreement import Unsupported
from jaxconv.bench.peers.torch_layers import Function, function_of, tensor
from jaxconv.contract import Layer, Params, Shape
from jaxconv.files.torch_layout import leaf_layers
from jaxconv.models.container import call_params, walk
from jaxconv.serving.folding import simplified


class Network:
    """A layer or model with weights, built for one shape of each input. Raises Unsupported, which names the layer.

    With gradients enabled, BatchNormalization works as in training; no other layer does.
    """

    def __init__(self, layer: Layer, params: Params, shapes: Sequence[Shape]):
        spatial = [one for one in leaf_layers(layer) if hasattr(one, "rank") and hasattr(one, "data_format")]
        self.params, self.channels_first = params, bool(spatial) and spatial[0].data_format == "channels_first"
        self.steps: list[tuple[Function, list[int]]] = []
        self.weights: list[tuple[str, Tensor]] = []
        self.shapes: list[Any] = [tuple(shape) for shape in shapes]  # of all values, in jaxconv
        self.outputs = walk(layer, range(len(shapes)), self._add)
        last_use = {index: number for number, (_, inputs) in enumerate(self.steps) for index in inputs}
        self.released: list[list[int]] = [[] for _ in self.steps]
        for index, number in last_use.items():
            if index not in self.outputs:
                self.released[number].append(index)

    def run(self, *xs: Tensor) -> list[Tensor]:
        """Compute the outputs. Each value is released after its last use, as in a network written by hand."""
        values: list[Any] = list(xs)
        for (function, inputs), released in zip(self.steps, self.released, strict=True):
            values.append(function(*[values[index] for index in inputs]))
            for index in released:
                values[index] = None
        return [values[index] for index in self.outputs]

    def tensor(self, array: np.ndarray) -> Tensor:
        """Convert an input to a tensor with PyTorch's axis order."""
        return tensor(array if self.channels_first or array.ndim < 3 else np.moveaxis(array, -1, 1))

    def array(self, value: Tensor) -> np.ndarray:
        """Convert an output to an array with jaxconv's axis order."""
        array = value.numpy()
        return array if self.channels_first or array.ndim < 3 else np.moveaxis(array, 1, -1)

    def _add(self, where: str, layer: Layer, values: Sequence[int], structure: Any) -> list[int]:
        """Add the call of a layer on values and return the indices of its outputs."""
        try:
            simple, own = simplified(layer, call_params(self.params, where.split("/") if where else (), ()))
            if simple is None:
                return [*values]
            shapes = [self.shapes[index] for index in values]
            function, weights = function_of(simple, own, shapes, self.channels_first)
        except Unsupported as error:
            raise Unsupported(f"layer {where or layer.label!r}: {error}") from None
        self.weights += weights.items()
        self.steps.append((function, [*values]))
        self.shapes.append(simple.output_shape(structure.unflatten(shapes)))
        return [len(self.shapes) - 1]
