"""``Graph``: the calls inside a layer that contains layers, as a static record."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxconv.contract.shapes import LEAF


class Call(NamedTuple):
    """One call of one layer inside a container.

    Args:
        name: the layer's name in the container.
        inputs: indices of the values it is called on. The container's inputs come first, then the outputs of the first
            call, of the second, and so on.
        structure: the JAX tree structure of those values: a single value, a list or a dict.

    >>> x = jaxconv.Input((4,))
    >>> model = jaxconv.Model(x, jaxconv.Add()([x, jaxconv.Dense(4)(x)]))
    >>> [(call.name, call.inputs) for call in model.graph.calls]
    [('dense', (0,)), ('add', (0, 1))]
    """

    name: str
    inputs: tuple[int, ...]
    structure: Any = LEAF


class Graph(NamedTuple):
    """The layers of a container and their calls, in an order that computes the inputs of each call before it.

    Args:
        children: (name, layer) pairs.
        calls: the calls in order.
        outputs: indices of the output values, counted as in :class:`Call`.
        structure: the JAX tree structure of the outputs.
        input_count: the number of inputs.

    >>> graph = jaxconv.Sequential([jaxconv.Flatten(), jaxconv.Dense(2)]).graph
    >>> [name for name, layer in graph.children], graph.outputs, graph.input_count
    (['flatten', 'dense'], (2,), 1)
    """

    children: tuple[tuple[str, Any], ...]
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]
    structure: Any = LEAF
    input_count: int = 1

    def steps(self, values: list) -> Iterator[tuple[int, Call, Any]]:
        """Yield (number, call, its input values) for each call.

        The caller appends the outputs of each call to ``values`` before it asks for the next.
        """
        for number, call in enumerate(self.calls):
            yield number, call, call.structure.unflatten(values[index] for index in call.inputs)

    def result(self, values: list) -> Any:
        """Return the outputs in their structure."""
        return self.structure.unflatten(values[index] for index in self.outputs)
