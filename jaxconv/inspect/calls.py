"""The calls of layers inside a model as one flat list, without the containers around them."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxconv.activations import linear
from jaxconv.contract import LEAF, Layer, layers
from jaxconv.inspect.target import logits
from jaxconv.models.container import call_params


class LeafCall(NamedTuple):
    """A call of a layer that contains no layers.

    layer: the layer, without its activation if that is a call of its own. path: the path of its params in those of the
    model. wrappers: the layers around it that compute its kernel. inputs: the numbers of the values that it is called
    on; the model's inputs are numbered first, then the outputs of all calls in order. structure: of the inputs. final:
    whether the outputs are those of the model, from which a softmax or sigmoid is left out.
    """

    layer: Any
    path: tuple[str, ...]
    wrappers: tuple[Any, ...]
    inputs: tuple[int, ...]
    structure: Any = LEAF
    final: bool = False

    def params(self, params: Any) -> Any:
        """Return the params of this call from those of the model."""
        return call_params(params, self.path, self.wrappers)

    def infer(self, layer: Any, params: Any, inputs: list) -> tuple[list, bool]:
        """Compute the outputs of a variant of this layer, and return whether it creates a mask."""
        masks = False

        def outputs(params: Any, inputs: list) -> list:
            nonlocal masks
            y, effects = layer.forward(params, self.structure.unflatten(inputs), train=False, key=None)
            masks = effects.mask is not None
            return layer.output_structure.flatten_up_to(y)

        found = (logits(outputs) if self.final else outputs)(params, inputs)
        return found, masks


def leaf_calls(layer: Layer, inputs: int, structure: Any = LEAF) -> tuple[list[LeafCall], list[int]]:
    """Return the calls inside a model with this number of inputs, in order, and the numbers of its outputs."""
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
    # an output that a layer of the model also reads must stay unchanged
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
    """Return the elementwise activation of a convolution as a separate layer, or None if it has none."""
    if not is_convolution(layer) or layer.activation is linear:
        return None
    after = layers["Activation"](layer.activation, dtype=layer.dtype)
    return after if all(window.pointwise for window in after.windows((None, 2, 2))) else None
