"""Keras 3's config form of a graph: layers with ``inbound_nodes``, ``input_layers`` and ``output_layers``, both ways.

Knows layers by their contract alone, and nothing of Model: only what stands in a config.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxconv.contract import Input, Layer, SymbolicTensor, layers
from jaxconv.contract.graph import Graph
from jaxconv.errors import explain

Config = dict[str, Any]
# what Keras computes masks with stands in its configs as layers of their own; here masks go beside the values
MASK_OPS = frozenset({"NotEqual", "Any", "LogicalOr", "ExpandDims", "OnesLike", "ZerosLike", "Concatenate"})
MODELS = ("Functional", "Model")  # in input_layers and output_layers, Keras counts the calls of these from 1


def input_layer(shape: Sequence[int | None], dtype: str | None = None, name: str | None = None) -> Config:
    """Return the entry for an input: its shape, batch first."""
    kind = {"dtype": dtype or "float32", "sparse": False, "ragged": False, "optional": False}
    config = {"name": name, "batch_shape": list(shape), **kind}
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def input_shape(entry: Any) -> list | None:
    """Return the shape, batch first, that an entry for an input says; None for any other entry."""
    if not isinstance(entry, Mapping) or entry.get("class_name") != "InputLayer":
        return None
    config = entry["config"]
    return config["batch_shape"] if "batch_shape" in config else config["batch_input_shape"]  # Keras 3, Keras 2


# -- writing


def write(graph: Graph, sources: Sequence[Any], structure: Any) -> Config:
    """Return "layers", "input_layers" and "output_layers" of a graph with these inputs, in this structure."""
    children = dict(graph.children)
    origin: list[list] = [[source.name, 0, 0] for source in sources]  # place -> [layer, number of its call, output]
    about = [{"shape": list(source.shape), "dtype": source.dtype or "float32"} for source in sources]
    nodes: dict[str, list] = {name: [] for name in children}
    for name, inputs, given in graph.calls:
        shapes = given.unflatten(tuple(about[index]["shape"]) for index in inputs)
        out = children[name].output_structure.flatten_up_to(children[name].output_shape(shapes))
        tensors = given.unflatten(_tensor(about[index], origin[index]) for index in inputs)
        origin += [[name, len(nodes[name]), index] for index in range(len(out))]
        about += [{"shape": list(shape), "dtype": children[name].policy.compute.name} for shape in out]
        nodes[name].append({"args": [tensors], "kwargs": {}})
    entries = [input_layer(shape, dtype, name) | {"name": name, "inbound_nodes": []} for name, shape, dtype in sources]
    entries += [
        layers.serialize(layer) | {"name": name, "inbound_nodes": nodes[name]} for name, layer in graph.children
    ]
    models = {entry["name"] for entry in entries if entry["class_name"] in MODELS}

    def place_of(place: int) -> list:
        name, call, index = origin[place]
        return [name, call + (name in models), index]

    return {
        "layers": entries,
        "input_layers": structure.unflatten(place_of(place) for place in range(len(sources))),
        "output_layers": graph.structure.unflatten(place_of(place) for place in graph.outputs),
    }


def _tensor(about: Config, history: list) -> Config:
    return {"class_name": "__keras_tensor__", "config": {**about, "keras_history": list(history)}}


# -- reading


def read(config: Mapping[str, Any], make: Callable[[Any], Layer] = layers.get) -> tuple[Any, Any]:
    """Return the (inputs, outputs) that a config describes, by calling its layers in an order that works.

    Args:
        config: with "layers", "input_layers" and "output_layers".
        make: from a layer's entry to the layer.

    Raises:
        ValueError: a missing part; a layer that is not here; calls that wait for each other or for one not there.
    """
    for part in ("layers", "input_layers", "output_layers"):
        if part not in config:
            raise ValueError(f"Model: the config has no {part!r}; a functional model's has layers and how they connect")
    made: Config = {}
    known: dict[tuple, SymbolicTensor] = {}
    ready: deque[tuple[str, int, Any]] = deque()
    waiting: dict[tuple, list] = {}  # a tensor that is not known yet -> the calls that take it
    about_masks = mask_ops(config["layers"])
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        if name in about_masks:
            continue
        shape = input_shape(entry)
        if shape is not None:
            own = entry["config"]
            known[name, 0, 0] = Input(batch_shape=shape, dtype=own.get("dtype"), name=name)
            continue
        with explain(f"Model: layer {name!r} of the config"):
            made[name] = make(entry if entry["config"].get("name") else _named(entry, name))
        nodes = [_without_mask(node, about_masks) for node in entry["inbound_nodes"]]
        ready += [(name, number, node) for number, node in enumerate(nodes)]
    while ready:
        name, number, node = ready.popleft()
        try:
            given = _call(made, known, name, number, node)
        except KeyError as missing:
            waiting.setdefault(missing.args[0], []).append((name, number, node))
            continue
        for key in given:
            ready += waiting.pop(key, ())
    if waiting:
        raise ValueError(
            f"Model: the calls of {sorted({name for late in waiting.values() for name, *_ in late})} wait for each "
            "other, or for a layer that is not in the config; a graph has no cycle, and each call finds what it takes"
        )
    models = {entry.get("name") for entry in config["layers"] if entry["class_name"] in MODELS}
    return tuple(_find(config[part], known, models, part) for part in ("input_layers", "output_layers"))


def mask_ops(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of the entries that compute masks alone: no layer takes what they give as its input."""
    ops = {
        entry["name"]
        for entry in entries
        if str(entry.get("module")).startswith("keras.src.ops") and entry["class_name"] in MASK_OPS
    }
    while ops:
        taken: set[str] = set()
        for entry in entries:
            if entry.get("name") not in ops:
                for node in entry["inbound_nodes"]:
                    taken |= set(_origins(node.get("args"))) if isinstance(node, Mapping) else set()
        if not ops & taken:
            break
        ops -= taken
    return ops


def _origins(value: Any) -> list[str]:
    """List the layers that the tensors in a call's arguments come from."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        return [value["config"]["keras_history"][0]]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [name for part in parts for name in _origins(part)]


def _without_mask(node: Any, about_masks: set[str]) -> Any:
    """Return a call without the mask that Keras passed on by itself; one that somebody passed stays, and is refused."""
    mask = node.get("kwargs", {}).get("mask") if isinstance(node, Mapping) else None
    if mask is None or not set(_origins(mask)) <= about_masks:
        return node
    return {**node, "kwargs": {key: value for key, value in node["kwargs"].items() if key != "mask"}}


def _named(entry: Mapping[str, Any], name: str) -> Config:
    return {**entry, "config": {**entry["config"], "name": name}}


def _call(made: Config, known: dict, name: str, number: int, node: Any) -> list[tuple]:
    """Call a layer as a node says; give the keys of what is known by that. KeyError where it takes the unknown."""
    with explain(f"Model: call {number} of {name!r} in the config"):
        out = made[name](_arguments(node, known))
    given = {(name, number, i): out for i, out in enumerate(made[name].output_structure.flatten_up_to(out))}
    known.update(given)
    return list(given)


def _arguments(node: Any, known: dict) -> Any:
    """Return what a layer is called on; KeyError where a tensor is not known yet."""
    if not isinstance(node, Mapping):  # Keras 2: a list of [layer, call, output, keyword arguments]
        found = [known[tuple(one[:3])] for one in node]
        odd = {key: value for one in node if len(one) > 3 for key, value in one[3].items()}
        args = [found[0] if len(found) == 1 else found]
    else:
        args = [_revive(arg, known) for arg in node["args"]]
        odd = dict(node.get("kwargs", {}))
    # Keras writes training=False where nothing was said, and lets the model's own call decide
    odd = {key: value for key, value in odd.items() if value is not None and (key, value) != ("training", False)}
    if odd or not args:
        raise ValueError(f"the layer is called with {odd or 'nothing'}; a call takes inputs alone here")
    return args[0] if len(args) == 1 else args  # x + y, written as a call of Add with two arguments


def _revive(value: Any, known: dict) -> Any:
    if isinstance(value, list | tuple):
        return [_revive(item, known) for item in value]
    if not isinstance(value, Mapping):
        raise ValueError(f"the layer is called with {value!r}; a call takes tensors alone here")
    if value.get("class_name") == "__keras_tensor__":
        return known[tuple(value["config"]["keras_history"])]
    if value.get("class_name") == "__tuple__":
        return [_revive(item, known) for item in value["items"]]
    return {key: _revive(item, known) for key, item in value.items()}


def _find(value: Any, known: Mapping[tuple, SymbolicTensor], models: set, part: str) -> Any:
    """Return the structure of tensors that "input_layers" or "output_layers" names."""
    if isinstance(value, Mapping):
        return {key: _find(item, known, models, part) for key, item in value.items()}
    if not (len(value) == 3 and isinstance(value[0], str)):
        found = [_find(item, known, models, part) for item in value]
        return found[0] if len(found) == 1 else found
    name, call, index = value
    key = (name, call - (name in models), index)
    if key not in known:
        raise ValueError(
            f"Model: {part} names output {index} of call {call} of {name!r}, which the config does not have"
        )
    return known[key]
