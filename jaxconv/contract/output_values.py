"""The last activation that was applied to the values of an output, which the choice of a loss depends on."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Origin(NamedTuple):
    """The layer that produces the values of an output, and the name of its activation: "linear" for any real number."""

    layer: str
    activation: str


def output_origin(layer: Any, inputs: Sequence[Origin | None] = (None,)) -> Origin | None:
    """Return the layer that determines the values of a single output, and its activation, or None if it is unknown.

    Looks through containers and through layers that pass values on, such as pooling, reshaping and dropout.

    Args:
        inputs: the origins of the layer's inputs.

    >>> output_origin(jaxconv.Sequential([jaxconv.Dense(3, activation="softmax", name="head"), jaxconv.Flatten()]))
    Origin(layer='head', activation='softmax')
    """
    if layer.graph is not None:
        children, values = dict(layer.graph.children), [*inputs, *[None] * (layer.graph.input_count - len(inputs))]
        for name, sources, _ in layer.graph.calls:
            child = children[name]
            one = output_origin(child, [values[index] for index in sources])
            values += [one if child.output_structure.num_leaves == 1 else None] * child.output_structure.num_leaves
            if one is not None and one.layer == child.label:
                values[-1] = one._replace(layer=name)
        return values[layer.graph.outputs[0]] if len(layer.graph.outputs) == 1 else None
    declared = _declared(type(layer))
    if declared == "input":
        return inputs[0] if len(inputs) == 1 else None
    if declared == "layer":
        return output_origin(layer.layer, inputs)
    if declared == "activation":
        function = layer.activation
        declared = "linear" if function is None else getattr(function, "__name__", None)
    return None if declared is None else Origin(layer.label, declared)


def _declared(cls: type) -> str | None:
    """Return the ``output_values`` of a class, or None if a subclass overrides ``call`` without declaring new ones."""
    for base in cls.__mro__:
        if "output_values" in vars(base):
            return vars(base)["output_values"]
        if "call" in vars(base):
            return None
    return None
