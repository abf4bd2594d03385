"""From symbolic tensors to a graph: which calls lie between inputs and outputs, in which order, and what is wrong.

Knows layers by their contract alone. Works without recursion: a graph may be thousands of calls deep.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from jaxconv.contract import Layer, Node, Shape, SymbolicTensor, as_lists
from jaxconv.models.container import Call, Graph, count_names, free_name


class Source(NamedTuple):
    """One input of a model: its name, its shape, batch first, and the type it is brought to (None: the layers' own)."""

    name: str
    shape: Shape
    dtype: str | None


class Traced(NamedTuple):
    """What ``trace`` finds: sources and their structure, and the layers and calls that lead to the outputs."""

    sources: tuple[Source, ...]
    structure: Any
    graph: Graph


def flatten(structure: Any, what: str) -> tuple[list[SymbolicTensor], Any]:
    """Return the tensors of a structure and how they hang together; a list of one is that one, as in Keras.

    Raises:
        TypeError: anything in it that is no symbolic tensor. ValueError: nothing in it.
    """
    structure = as_lists(structure)
    if isinstance(structure, list) and len(structure) == 1:
        structure = structure[0]
    tensors, tree = jax.tree.flatten(structure)
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                f"Model: {what} has {tensor!r}, which is no symbolic tensor; give Input(...), or what came of one"
            )
    if not tensors:
        raise ValueError(f"Model: {what}={structure!r} has no tensor in it; give at least one")
    return tensors, tree


def trace(inputs: Any, outputs: Any, adopt: Any) -> Traced:
    """Find the graph between inputs and outputs.

    Calls stand in the order in which Keras runs them: those farthest from the outputs first. Layers stand in the same
    order and are named in it.

    Args:
        inputs, outputs: structures of symbolic tensors. An input may be what a layer gave: the graph begins there.
        adopt: (layer, name) -> the layer as it is in the model.

    Raises:
        ValueError: an output that needs an Input that is not given; an input that no output needs; one name twice.
    """
    starts, takes = flatten(inputs, "inputs")
    ends, gives = flatten(outputs, "outputs")
    by_key = isinstance(inputs, dict) and len(inputs) == len(starts)
    keys = sorted(inputs) if by_key else [None] * len(starts)  # JAX's order of the leaves of a dict
    given = [start.name or key for start, key in zip(starts, keys, strict=True)]
    if len(set(starts)) < len(starts):
        twice = next(start for start in starts if starts.count(start) > 1)
        raise ValueError(f"Model: inputs has {twice} twice; give each once")
    order, met = _walk(starts, ends)
    used = {tensor for node in order for tensor in node.inputs} | set(ends)
    for start, name in zip(starts, given, strict=True):
        if start not in used:
            raise ValueError(f"Model: no output depends on {name or start!r}; leave this input out, or connect it")
    nodes, ranked = _by_depth(order, met, starts)

    count: dict[str, int] = {}
    inside = [layer for layer, _ in sorted(ranked, key=lambda pair: pair[1])]
    taken = [*filter(None, given), *(layer.name for layer in inside if layer.name)]
    sources = [name or free_name("input_layer", taken, count) for name in given]
    names = {id(layer): name for layer, name in zip(inside, count_names(inside, "Model", sources), strict=True)}

    place: dict[tuple[Any, int], int] = {}
    at = {start: index for index, start in enumerate(starts)}
    calls = []
    for node in nodes:
        where = tuple(at[t] if t in at else place[t.node, t.index] for t in node.inputs)
        calls.append(Call(names[id(node.layer)], where, node.structure))
        for index in range(node.layer.output_structure.num_leaves):
            place[node, index] = len(starts) + len(place)
    children = tuple((names[id(layer)], adopt(layer, names[id(layer)])) for layer in inside)
    out = tuple(at[end] if end in at else place[end.node, end.index] for end in ends)
    described = (Source(name, s.shape, s.dtype) for name, s in zip(sources, starts, strict=True))
    return Traced(tuple(described), takes, Graph(children, tuple(calls), out, gives, len(starts)))


def calls_between(inputs: Any, outputs: Any) -> list[Node]:
    """Return the calls between inputs and outputs in the order of a graph's."""
    starts = flatten(inputs, "inputs")[0]
    return _by_depth(*_walk(starts, flatten(outputs, "outputs")[0]), starts)[0]


def _walk(starts: Sequence[SymbolicTensor], ends: Sequence[SymbolicTensor]) -> tuple[list, dict[int, int]]:
    """Return the calls that the ends need, each after those it needs itself, and when each layer was first met."""
    begin, done, order = set(starts), set(), []
    met: dict[int, int] = {}

    def needs(tensors: Sequence[SymbolicTensor], whose: str) -> Iterator[Any]:
        for tensor in tensors:
            if tensor in begin:
                continue
            if tensor.node is None:
                names = ", ".join(start.name or repr(start) for start in starts)
                raise ValueError(
                    f"Model: {whose} depends on {tensor!r}, which is not among the inputs ({names}); "
                    "add it to inputs, or begin elsewhere"
                )
            if tensor.node not in done:
                yield tensor.node

    for number, end in enumerate(ends):
        stack: list[tuple[Any, Iterator]] = [(None, needs([end], f"output {number}"))]
        while stack:
            node, rest = stack[-1]
            below = next(rest, None)
            if below is not None and below not in done:
                met.setdefault(id(below.layer), len(met))
                stack.append((below, needs(below.inputs, f"output {number}, at {below.layer.label},")))
            elif below is None:
                stack.pop()
                if node is not None:
                    done.add(node)
                    order.append(node)
    return order, met


def _by_depth(order: list, met: dict[int, int], starts: Sequence[SymbolicTensor]) -> tuple[list, list]:
    """Sort the calls by how far they are from the outputs, farthest first; give each layer with its rank as well.

    All calls of a shared layer count as far as the farthest that is known when they are reached, as in Keras.
    """
    begin = set(starts)
    depth: dict[Any, int] = {}
    far: dict[int, int] = {}
    layers: dict[int, Layer] = {}
    for node in reversed(order):
        own = id(node.layer)
        depth[node] = far[own] = max(depth.get(node, 0), far.get(own, 0))
        layers[own] = node.layer
        for tensor in node.inputs:
            if tensor not in begin:
                depth[tensor.node] = max(depth.get(tensor.node, 0), depth[node] + 1)
    nodes = sorted(depth, key=lambda node: -depth[node])  # stable: as they were met
    return nodes, [(layer, (-far[own], met[own])) for own, layer in layers.items()]
