"""A container's graph in a form that can be changed: calls that name the values they take and give.

Knows graphs, and not what is changed in them.
"""

import dataclasses
from typing import Any

from jaxconv.contract.layer import Layer, Params
from jaxconv.models.container import Call, Container, Graph


@dataclasses.dataclass(eq=False)
class Step:
    """One call of one layer: its name, the values it takes, how they hang together, and the values it gives."""

    name: str
    takes: list[int]
    structure: Any
    gives: list[int]


class Wiring:
    """The layers and calls of a container, and its params; all may be changed in place.

    A value is a number that stays the same however the calls change; the container's inputs are the first ones.

    Args:
        container: a Sequential or a Model.
        params: its own.
    """

    def __init__(self, container: Container, params: Params):
        self.container, self.params = container, dict(params)
        self.children: dict[str, Layer] = container.children
        self.steps: list[Step] = []
        self.gives = list(container.graph.gives)
        count = container.graph.inputs
        for name, takes, structure in container.graph.calls:
            number = self.children[name].output_structure.num_leaves
            self.steps.append(Step(name, list(takes), structure, list(range(count, count + number))))
            count += number

    def calls(self, name: str) -> int:
        """Count the calls of a layer."""
        return sum(step.name == name for step in self.steps)

    def giver(self, value: int) -> Step | None:
        """Give the call that a value comes from; None for an input."""
        return next((step for step in self.steps if value in step.gives), None)

    def takers(self, value: int) -> list[Step]:
        """List the calls that take a value, once for each time that they take it."""
        return [step for step in self.steps for one in step.takes if one == value]

    def only_taker(self, value: int) -> Step | None:
        """Give the one call that a value goes to, all alone; None where it goes elsewhere, too, or beside others."""
        takers = self.takers(value)
        return takers[0] if len(takers) == 1 and value not in self.gives and len(takers[0].takes) == 1 else None

    def put(self, name: str, layer: Layer, params: Params) -> None:
        """Put a layer and its params in the place of the layer of this name."""
        self.children[name] = dataclasses.replace(layer, name=name)
        self.params.pop(name, None)
        if params:
            self.params[name] = params

    def drop(self, step: Step) -> None:
        """Leave a call out: what took what it gives takes what it takes. A layer that nothing calls goes, too."""
        (taken,), (given,) = step.takes, step.gives
        self.steps.remove(step)
        for other in self.steps:
            other.takes = [taken if value == given else value for value in other.takes]
        self.gives = [taken if value == given else value for value in self.gives]
        if not self.calls(step.name):
            del self.children[step.name]
            self.params.pop(step.name, None)

    def result(self) -> tuple[Container, Params]:
        """Give the container with this graph, and its params in the order of the layers."""
        inputs = self.container.graph.inputs
        place = {value: value for value in range(inputs)}
        calls = []
        for step in self.steps:
            calls.append(Call(step.name, tuple(place[value] for value in step.takes), step.structure))
            for value in step.gives:
                place[value] = len(place)
        gives = tuple(place[value] for value in self.gives)
        graph = Graph(tuple(self.children.items()), tuple(calls), gives, self.container.graph.structure, inputs)
        changed = self.container.with_graph(graph)
        return changed, {name: self.params[name] for name in changed.children if name in self.params}
