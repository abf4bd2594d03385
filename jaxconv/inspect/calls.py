"""The calls inside a model as one flat list: the layers that compute, without the containers around them.

Knows layers by their contract alone.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxconv.activations import linear
from jaxconv.contract import LEAF, Layer, layers
from jaxconv.inspect.target import logits
from jaxconv.models.container import call_params


class LeafCall(NamedTuple):
    """One call of a layer without a graph.

    layer: what is computed. path: where its params are. wrappers: the layers around it that compute its kernel.
    inputs: numbers of the values that it is called on: those of the model's inputs first, then those of the outputs of
    all calls in order. structure: of the inputs. final: whether the outputs are those of the model, of which the logits
    are wanted.
    """

    layer: Any
    path: tuple[str, ...]
    wrappers: tuple[Any, ...]
    inputs: tuple[int, ...]
    structure: Any = LEAF
    final: bool = False

    def params(self, params: Any) -> Any:
        """Return the params of this call out of those of the model."""
        return call_params(params, self.path, self.wrappers)

    def infer(self, layer: Any, params: Any, inputs: list) -> tuple[list, bool]:
        """Compute the outputs of a layer, this one or one like it; return whether it masks steps by their values."""
        masks = False

        def outputs(params: Any, inputs: list) -> list:
            nonlocal masks
            y, effects = layer.forward(params, self.structure.unflatten(inputs), train=False, key=None)
            masks = effects.mask is not None
            return layer.output_structure.flatten_up_to(y)

        found = (logits(outputs) if self.final else outputs)(params, inputs)
        return found, masks


def leaf_calls(layer: Layer, inputs: int, structure: Any = LEAF) -> tuple[list[LeafCall], list[int]]:
    """Return the calls inside a model of so many inputs, in order, and the numbers of its outputs."""
    calls: list[LeafCall] = []
    makers: list[int | None] = [None] * inputs

    def visit(layer: Any, path: tuple[str, ...], values: list[int], structure: Any) -> list[int]:
        casts = path and {source.dtype for source in getattr(layer, "sources", ())} - {None, layer.policy.compute}
        if layer.graph is not None and not casts:
            own, children = list(values), layer.children
            for call in layer.graph.calls:
                numbers = [own[index] for index in call.inputs]
                own += visit(children[call.name], (*path, call.name), numbers, call.structure)
            return [own[index] for index in layer.graph.outputs]
        wrappers = []
        while hasattr(layer, "leaf") and hasattr(layer, "kernel"):  # the kernel is computed from the stored one
            wrappers.append(layer)
            layer = layer.layer
        after = _activation(layer)
        layer = layer if after is None else dataclasses.replace(layer, activation=None)
        calls.append(LeafCall(layer, path, tuple(wrappers), tuple(values), structure))
        if after is not None:
            makers.append(len(calls) - 1)
            calls.append(LeafCall(after, ("",), (), (len(makers) - 1,)))
        makers.extend([len(calls) - 1] * layer.output_structure.num_leaves)
        return list(range(len(makers) - layer.output_structure.num_leaves, len(makers)))

    outputs = visit(layer, (), list(range(inputs)), structure)
    # an output that a layer of the model reads must be what it is
    read = any(set(call.inputs) & set(outputs) for call in calls)
    final = set() if read else {makers[number] for number in outputs}
    return [call._replace(final=number in final) for number, call in enumerate(calls)], outputs


def takes_integers(layer: Layer) -> bool:
    """Return whether the only input of a model is converted to integers, as by an embedding."""
    calls, _ = leaf_calls(layer, 1)
    return any(jnp.issubdtype(call.layer.input_dtype(jnp.float32), jnp.integer) for call in calls if 0 in call.inputs)


def is_convolution(layer: Any) -> bool:
    """Return whether a layer is exactly a convolution of this package, not a layer derived from one."""
    return type(layer) in (layers["Conv1D"], layers["Conv2D"], layers["Conv3D"])


def _activation(layer: Any) -> Layer | None:
    """Return the elementwise activation of a convolution as a layer of its own; None if it has none."""
    if not is_convolution(layer) or layer.activation is linear:
        return None
    after = layers["Activation"](layer.activation, dtype=layer.dtype)
    return after if all(window.pointwise for window in after.windows((None, 2, 2))) else None
