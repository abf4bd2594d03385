"""The calls inside a layer that is made of layers, as a static record. Knows layers only as what is called."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxconv.contract.shapes import LEAF


class Call(NamedTuple):
    """One call of one layer.

    name: the layer's name in the container.
    inputs: indices of the values it is called on. The container's inputs come first, then the outputs of the first
        call, of the second, and so on.
    structure: the structure of those values: one, a list, a dict.
    """

    name: str
    inputs: tuple[int, ...]
    structure: Any = LEAF


class Graph(NamedTuple):
    """Layers and the calls of them, in an order in which the inputs of each call are known.

    outputs: indices of the output values. structure: their structure. input_count: the number of inputs.
    """

    children: tuple[tuple[str, Any], ...]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    structure: Any = LEAF
    input_count: int = 1

    def steps(self, values: list) -> Iterator[tuple[int, Call, Any]]:
        """Yield (number, call, the values it is called on) of each call.

        The caller appends the outputs of each call to ``values`` before it asks for the next.
        """
        for number, call in enumerate(self.calls):
            yield number, call, call.structure.unflatten(values[index] for index in call.inputs)

    def result(self, values: list) -> Any:
        """Return the outputs in their structure."""
        return self.structure.unflatten(values[index] for index in self.outputs)
