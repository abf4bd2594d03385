"""Mutable form of a container's graph: calls that name their input and output values."""

import dataclasses
from typing import Any

from jaxconv.contract import Layer, Params
from jaxconv.contract.graph import Call, Graph
from jaxconv.models.container import Container


@dataclasses.dataclass(eq=False)
class Step:
    """One call of one layer: its name, its input values and their structure, and its output values."""

    name: str
    inputs: list[int]
    structure: Any
    outputs: list[int]


class Wiring:
    """The layers and calls of a Sequential or Model, and its params; all may be changed in place.

    A value is a number that stays the same when calls change; the container's inputs are the first ones.
    """

    def __init__(self, container: Container, params: Params):
        self.container, self.params = container, dict(params)
        self.children: dict[str, Layer] = container.children
        self.steps: list[Step] = []
        self.outputs = list(container.graph.outputs)
        count = container.graph.input_count
        for name, inputs, structure in container.graph.calls:
            number = self.children[name].output_structure.num_leaves
            self.steps.append(Step(name, list(inputs), structure, list(range(count, count + number))))
            count += number

    def calls(self, name: str) -> int:
        """Count the calls of a layer."""
        return sum(step.name == name for step in self.steps)

    def producer(self, value: int) -> Step | None:
        """Return the call that a value comes from, or None for an input."""
        return next((step for step in self.steps if value in step.outputs), None)

    def consumers(self, value: int) -> list[Step]:
        """Return the calls that use a value, once for each use."""
        return [step for step in self.steps for one in step.inputs if one == value]

    def only_consumer(self, value: int) -> Step | None:
        """Return the call that is the only user of a value and has no other input, or None."""
        consumers = self.consumers(value)
        alone = len(consumers) == 1 and value not in self.outputs and len(consumers[0].inputs) == 1
        return consumers[0] if alone else None

    def put(self, name: str, layer: Layer, params: Params) -> None:
        """Replace the layer of this name, and its params."""
        self.children[name] = dataclasses.replace(layer, name=name)
        self.params.pop(name, None)
        if params:
            self.params[name] = params

    def drop(self, step: Step) -> None:
        """Remove a call: users of its output then use its input. A layer without calls is removed, too."""
        (taken,), (given,) = step.inputs, step.outputs
        self.steps.remove(step)
        for other in self.steps:
            other.inputs = [taken if value == given else value for value in other.inputs]
        self.outputs = [taken if value == given else value for value in self.outputs]
        if not self.calls(step.name):
            del self.children[step.name]
            self.params.pop(step.name, None)

    def result(self) -> tuple[Container, Params]:
        """Return the container with this graph, and its params in the order of the layers."""
        inputs = self.container.graph.input_count
        place = {value: value for value in range(inputs)}
        calls = []
        for step in self.steps:
            calls.append(Call(step.name, tuple(place[value] for value in step.inputs), step.structure))
            for value in step.outputs:
                place[value] = len(place)
        outputs = tuple(place[value] for value in self.outputs)
        graph = Graph(tuple(self.children.items()), tuple(calls), outputs, self.container.graph.structure, inputs)
        changed = self.container.with_graph(graph)
        return changed, {name: self.params[name] for name in changed.children if name in self.params}
