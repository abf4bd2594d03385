"""Tracing: the graph of the calls between symbolic inputs and outputs.

Uses no recursion: a graph may be thousands of calls deep.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from jaxconv.contract import Layer, Node, Shape, SymbolicTensor, as_lists
from jaxconv.models.container import Call, Graph, count_names, free_name


class Source(NamedTuple):
    """An input of a model: its name, its shape, batch first, and the dtype that it is cast to.

    With dtype None, the layers cast it.
    """

    name: str
    shape: Shape
    dtype: str | None


class Traced(NamedTuple):
    """The result of ``trace``: the inputs, their structure, and the graph of layers and calls."""

    sources: tuple[Source, ...]
    structure: Any
    graph: Graph


def flatten(structure: Any, what: str) -> tuple[list[SymbolicTensor], Any]:
    """Return the tensors of a structure, and the structure; a list of one item is treated as its item, as in Keras."""
    structure = as_lists(structure)
    if isinstance(structure, list) and len(structure) == 1:
        structure = structure[0]
    tensors, tree = jax.tree.flatten(structure)
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            got = f"an array of shape {tensor.shape}" if hasattr(tensor, "shape") else repr(tensor)
            raise TypeError(f"Model: {what} has {got}, which is not a symbolic tensor; give Inputs or layers' outputs")
    if not tensors:
        raise ValueError(f"Model: {what}={structure!r} contains no tensor; give at least one")
    return tensors, tree


def trace(inputs: Any, outputs: Any, adopt: Any) -> Traced:
    """Find the graph between inputs and outputs.

    Calls are in the order in which Keras runs them: those farthest from the outputs first. Layers are ordered and named
    in the same order.

    If an input is the output of a layer, the graph starts there. ``adopt`` maps (layer, name) to the layer as a part of
    the model. Raises ValueError for an output that needs an Input that is not in ``inputs``, an input that no output
    needs, or two layers with the same name.
    """
    starts, input_structure = flatten(inputs, "inputs")
    ends, output_structure = flatten(outputs, "outputs")
    by_key = isinstance(inputs, dict) and len(inputs) == len(starts)
    keys = sorted(inputs) if by_key else [None] * len(starts)  # JAX's order of the leaves of a dict
    names = [start.name or key for start, key in zip(starts, keys, strict=True)]
    if len(set(starts)) < len(starts):
        twice = next(start for start in starts if starts.count(start) > 1)
        raise ValueError(f"Model: inputs has {twice} twice; give each once")
    order, first_seen = _walk(starts, ends)
    used = {tensor for node in order for tensor in node.inputs} | set(ends)
    for start, name in zip(starts, names, strict=True):
        if start not in used:
            raise ValueError(f"Model: no output depends on {name or start!r}; leave this input out, or connect it")
    nodes, inside = _by_depth(order, first_seen, starts)
    count: dict[str, int] = {}
    taken = [*filter(None, names), *(layer.name for layer in inside if layer.name)]
    names = [name or free_name("input_layer", taken, count) for name in names]
    sources = tuple(Source(name, start.shape, start.dtype) for name, start in zip(names, starts, strict=True))
    layer_names = dict(zip(map(id, inside), count_names(inside, "Model", names), strict=True))
    children = tuple((layer_names[id(layer)], adopt(layer, layer_names[id(layer)])) for layer in inside)

    index: dict[SymbolicTensor, int] = {start: i for i, start in enumerate(starts)}
    calls, number = [], len(starts)
    for node in nodes:
        calls.append(Call(layer_names[id(node.layer)], tuple(index[t] for t in node.inputs), node.structure))
        for i in range(node.layer.output_structure.num_leaves):
            index.setdefault(SymbolicTensor((), node, i), number)  # an input may be the output of this call
            number += 1
    graph = Graph(children, tuple(calls), tuple(index[end] for end in ends), output_structure, len(starts))
    return Traced(sources, input_structure, graph)


def calls_between(inputs: Any, outputs: Any) -> list[Node]:
    """Return the calls between inputs and outputs, in the order of a graph."""
    starts = flatten(inputs, "inputs")[0]
    return _by_depth(*_walk(starts, flatten(outputs, "outputs")[0]), starts)[0]


def _walk(starts: Sequence[SymbolicTensor], ends: Sequence[SymbolicTensor]) -> tuple[list, dict[int, int]]:
    """Return the calls that the ends depend on, in topological order, and the order in which the layers were found."""
    start_set, done, order = set(starts), set(), []
    first_seen: dict[int, int] = {}

    def needed(tensors: Sequence[SymbolicTensor], whose: str) -> Iterator[Any]:
        for tensor in tensors:
            if tensor in start_set:
                continue
            if tensor.node is None:
                names = ", ".join(start.name or repr(start) for start in starts)
                reason = f"{whose} depends on {tensor!r}, which is not among the inputs ({names})"
                remedy = "add it to inputs, or start from other tensors"
                if tensor.name is not None and tensor.name in (start.name for start in starts):
                    remedy = (
                        "two different Inputs have this name; the outputs of a Model depend on its own model.inputs"
                    )
                raise ValueError(f"Model: {reason}; {remedy}")
            if tensor.node not in done:
                yield tensor.node

    for number, end in enumerate(ends):
        stack: list[tuple[Any, Iterator]] = [(None, needed([end], f"output {number}"))]
        while stack:
            node, rest = stack[-1]
            source = next(rest, None)
            if source is not None and source not in done:
                first_seen.setdefault(id(source.layer), len(first_seen))
                stack.append((source, needed(source.inputs, f"output {number}, at {source.layer.label},")))
            elif source is None:
                stack.pop()
                if node is not None:
                    done.add(node)
                    order.append(node)
    return order, first_seen


def _by_depth(order: list, first_seen: dict[int, int], starts: Sequence[SymbolicTensor]) -> tuple[list, list[Layer]]:
    """Sort the calls and the layers by their distance from the outputs, farthest first.

    As in Keras, each call of a shared layer has at least the largest distance that was found for the layer before.
    """
    start_set = set(starts)
    depth: dict[Any, int] = {}
    layer_depth: dict[int, int] = {}
    layers: dict[int, Layer] = {}
    for node in reversed(order):
        own = id(node.layer)
        depth[node] = layer_depth[own] = max(depth.get(node, 0), layer_depth.get(own, 0))
        layers[own] = node.layer
        for tensor in node.inputs:
            if tensor not in start_set:
                depth[tensor.node] = max(depth.get(tensor.node, 0), depth[node] + 1)
    nodes = sorted(depth, key=lambda node: -depth[node])  # stable: in the order in which they were found
    return nodes, [layers[own] for own in sorted(layers, key=lambda own: (-layer_depth[own], first_seen[own]))]
