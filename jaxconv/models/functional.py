"""Reader and writer of Keras 3's config of a graph: ``input_layers``, ``output_layers``, and layers with inbound nodes.

Must not import a layer.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxconv.contract import Input, Layer, SymbolicTensor, layers
from jaxconv.contract.graph import Graph
from jaxconv.errors import explain

Config = dict[str, Any]
# Keras's configs contain the operations on masks as layers; here masks are passed separately
MASK_OPS = frozenset({"NotEqual", "Any", "LogicalOr", "ExpandDims", "OnesLike", "ZerosLike", "Concatenate"})
_MASKS = ("mask", "query_mask", "value_mask", "key_mask")  # arguments that Keras fills in itself
MODELS = ("Functional", "Model")  # input_layers and output_layers count the calls of these from 1, as in Keras


def input_layer(shape: Sequence[int | None], dtype: str | None = None, name: str | None = None) -> Config:
    """Return the entry for an input: its shape, batch first."""
    kind = {"dtype": dtype or "float32", "sparse": False, "ragged": False, "optional": False}
    config = {"name": name, "batch_shape": list(shape), **kind}
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def input_shape(entry: Any) -> list | None:
    """Return the shape, batch first, of an entry for an input, or None for any other entry."""
    if not isinstance(entry, Mapping) or entry.get("class_name") != "InputLayer":
        return None
    config = entry["config"]
    return config["batch_shape"] if "batch_shape" in config else config["batch_input_shape"]  # Keras 3, Keras 2


# -- writing


def write(graph: Graph, sources: Sequence[Any], structure: Any) -> Config:
    """Return "layers", "input_layers" and "output_layers" of a graph with these inputs, in this structure."""
    children = dict(graph.children)
    origin: list[list] = [[source.name, 0, 0] for source in sources]  # of each value: layer, number of its call, output
    about = [{"shape": list(source.shape), "dtype": source.dtype or "float32"} for source in sources]
    nodes: dict[str, list] = {name: [] for name in children}
    for name, inputs, form in graph.calls:
        shapes = form.unflatten(tuple(about[index]["shape"]) for index in inputs)
        out = children[name].output_structure.flatten_up_to(children[name].output_shape(shapes))
        tensors = form.unflatten(_tensor(about[index], origin[index]) for index in inputs)
        origin += [[name, len(nodes[name]), index] for index in range(len(out))]
        about += [{"shape": list(shape), "dtype": children[name].policy.compute.name} for shape in out]
        nodes[name].append(_node(children[name], tensors))
    entries = [input_layer(shape, dtype, name) | {"name": name, "inbound_nodes": []} for name, shape, dtype in sources]
    for name, layer in graph.children:
        entry = layers.serialize(layer) | {"name": name, "inbound_nodes": nodes[name]}
        entry["config"] = {key: value for key, value in entry["config"].items() if key not in layer.call_options}
        entries.append(entry)
    models = {entry["name"] for entry in entries if entry["class_name"] in MODELS}

    def described(value: int) -> list:
        name, call, output = origin[value]
        return [name, call + (name in models), output]

    return {
        "layers": entries,
        "input_layers": structure.unflatten(map(described, range(len(sources)))),
        "output_layers": graph.structure.unflatten(map(described, graph.outputs)),
    }


def _node(layer: Layer, tensors: Any) -> Config:
    """Return the record of a call with the arguments that Keras passes to the layer."""
    if not layer.input_names:
        states = getattr(layer, "state_argument", None) if isinstance(tensors, list) else None
        return {"args": [tensors[0]], "kwargs": {states: tensors[1:]}} if states else {"args": [tensors], "kwargs": {}}
    named = dict(zip(layer.input_names, tensors, strict=False))
    options = {name: True for name in layer.call_options if getattr(layer, name)}
    return {"args": [named.pop(name) for name in layer.input_names[:2]], "kwargs": named | options}


def _tensor(about: Config, history: list) -> Config:
    return {"class_name": "__keras_tensor__", "config": {**about, "keras_history": list(history)}}


# -- reading


def read(config: Mapping[str, Any], make: Callable[[Any], Layer] = layers.get) -> tuple[Any, Any]:
    """Return the inputs and outputs of the graph in a config. Each layer is called as soon as its inputs exist.

    ``make`` maps a layer's entry to the layer. Raises ValueError for a missing part, an unknown layer, or calls that
    depend on each other or on a missing layer.
    """
    for part in ("layers", "input_layers", "output_layers"):
        if part not in config:
            raise ValueError(f"Model: the config has no {part!r}; the config of a functional model has all three")
    made: Config = {}
    known: dict[tuple, SymbolicTensor] = {}
    ready: deque[tuple[str, int, Any]] = deque()
    waiting: dict[tuple, list] = {}  # tensor that does not exist yet -> calls that need it
    masks_only = mask_ops(config["layers"], config["output_layers"])
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        if name in masks_only:
            continue
        shape = input_shape(entry)
        if shape is not None:
            own = entry["config"]
            known[name, 0, 0] = Input(batch_shape=shape, dtype=own.get("dtype"), name=name)
            continue
        with explain(f"Model: layer {name!r} of the config"):
            made[name] = make(_completed(entry, name))
        nodes = [_without_mask(node, masks_only) for node in entry["inbound_nodes"]]
        ready += [(name, number, node) for number, node in enumerate(nodes)]
    while ready:
        name, number, node = ready.popleft()
        try:
            outputs = _call(made, known, name, number, node)
        except KeyError as missing:
            waiting.setdefault(missing.args[0], []).append((name, number, node))
            continue
        for key in outputs:
            ready += waiting.pop(key, ())
    if waiting:
        late = sorted({name for calls in waiting.values() for name, *_ in calls})
        reason = "depend on each other, or on a layer that is not in the config"
        raise ValueError(f"Model: the calls of {late} {reason}; a graph has no cycles and no missing layers")
    models = {entry.get("name") for entry in config["layers"] if entry["class_name"] in MODELS}
    return tuple(_find(config[part], known, models, part) for part in ("input_layers", "output_layers"))


def mask_ops(entries: Sequence[Mapping[str, Any]], outputs: Any) -> set[str]:
    """Return the names of the entries that compute only masks: no layer takes their outputs, nor are they ``outputs``.

    outputs: the model's "output_layers".
    """
    ops = {
        entry["name"]
        for entry in entries
        if str(entry.get("module")).startswith("keras.src.ops") and entry["class_name"] in MASK_OPS
    } - _ends(outputs)
    while ops:
        taken: set[str] = set()
        for entry in entries:
            if entry.get("name") not in ops:
                for node in entry["inbound_nodes"]:
                    if isinstance(node, Mapping):
                        named = {key: value for key, value in keywords(node).items() if key not in _MASKS}
                        taken |= {*_origins(node.get("args")), *_origins(named)}
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


def _ends(value: Any) -> set[str]:
    """Return the names of the layers in "output_layers"."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return set()
    return {value[0]} if _is_end(value) else {name for item in value for name in _ends(item)}


def _is_end(value: Any) -> bool:
    """Return whether a value of "output_layers" is one tensor: a layer, the number of its call, and of the output."""
    return len(value) == 3 and isinstance(value[0], str)


def _without_mask(node: Any, masks_only: set[str]) -> Any:
    """Return a call without the masks that Keras added; a mask that the user passed stays and raises an error later."""
    if not isinstance(node, Mapping):
        return node
    given = node.get("kwargs", {})
    own = {key for key in _MASKS if given.get(key) is not None and set(_origins(given[key])) <= masks_only}
    return {**node, "kwargs": {key: value for key, value in given.items() if key not in own}}


def _completed(entry: Mapping[str, Any], name: str) -> Config:
    """Return an entry with its name and with the options in its calls."""
    config = {"name": name, **entry["config"]}
    kind = entry.get("class_name")
    options = call_options(layers[kind], entry["inbound_nodes"]) if kind in layers.names() else {}
    return {**entry, "config": config | {"name": config["name"] or name} | options}


def call_options(kind: type[Layer], nodes: Sequence[Any]) -> Config:
    """Return the options of a layer that Keras passes to each call. Raises ValueError if the calls differ."""
    found = [{key: True for key in kind.call_options if keywords(node).get(key)} for node in nodes]
    if any(one != found[0] for one in found):
        raise ValueError(f"its calls differ in {', '.join(kind.call_options)}, which is an option of the layer here")
    return found[0] if found else {}


def keywords(node: Any) -> Config:
    """Return the keyword arguments of a call in the form of Keras 3 or Keras 2."""
    if isinstance(node, Mapping):
        return dict(node.get("kwargs", {}))
    return {key: value for one in node if len(one) > 3 for key, value in one[3].items()}


def _call(made: Config, known: dict, name: str, number: int, node: Any) -> list[tuple]:
    """Call a layer as a node describes, and return the keys of its outputs.

    Raises KeyError if an input does not exist yet.
    """
    with explain(f"Model: call {number} of {name!r} in the config"):
        out = made[name](_arguments(node, known, made[name]))
    outputs = {(name, number, i): one for i, one in enumerate(made[name].output_structure.flatten_up_to(out))}
    known.update(outputs)
    return list(outputs)


def _arguments(node: Any, known: dict, layer: Layer) -> Any:
    """Return the inputs of a call. Raises KeyError if a tensor does not exist yet."""
    if not isinstance(node, Mapping):  # Keras 2: a list of [layer, call, output, keyword arguments]
        found = [known[tuple(one[:3])] for one in node]
        args = [found[0] if len(found) == 1 else found]
    else:
        args = [_revive(arg, known) for arg in node["args"]]
    # Keras writes training=False as the default; the call of the model determines it
    odd = {k: v for k, v in keywords(node).items() if v is not None and (k, v) != ("training", False)}
    if layer.input_names:
        return _named_inputs(layer, args, odd, known)
    if len(args) == 1 and odd.get(states := getattr(layer, "state_argument", "")):
        given = _revive(odd.pop(states), known)
        args = [[args[0], *(given if isinstance(given, list) else [given])]]
    if odd or not args:
        raise ValueError(f"the layer is called with {odd or 'nothing'}; a call has only inputs here")
    return args[0] if len(args) == 1 else args  # Keras writes x + y as a call of Add with two arguments


def _named_inputs(layer: Layer, args: list, odd: Config, known: dict) -> list:
    """Return the inputs of a layer whose arguments have names in Keras, in the order used here."""
    first, second, third, last = layer.input_names
    given = dict(zip((first, second, third), args, strict=False))
    given |= {name: _revive(odd[name], known) for name in layer.input_names if name in odd}
    odd = {k: v for k, v in odd.items() if k not in (*layer.input_names, *layer.call_options) and v is not False}
    if odd or len(args) > 3 or second not in given:
        raise ValueError(f"the layer is called with {odd or f'{len(args)} inputs'}; it takes {layer.input_names} here")
    if last in given:
        given.setdefault(third, given[second])
    return [given[name] for name in layer.input_names if name in given]


def _revive(value: Any, known: dict) -> Any:
    if isinstance(value, list | tuple):
        named = len(value) == 3 and isinstance(value[0], str)  # a keyword argument of Keras 2
        return known[tuple(value)] if named else [_revive(item, known) for item in value]
    if not isinstance(value, Mapping):
        raise ValueError(f"the layer is called with {value!r}; a call has only tensors here")
    if value.get("class_name") == "__keras_tensor__":
        return known[tuple(value["config"]["keras_history"])]
    if value.get("class_name") == "__tuple__":
        return [_revive(item, known) for item in value["items"]]
    return {key: _revive(item, known) for key, item in value.items()}


def _find(value: Any, known: Mapping[tuple, SymbolicTensor], models: set, part: str) -> Any:
    """Return the structure of tensors that "input_layers" or "output_layers" names."""
    if isinstance(value, Mapping):
        return {key: _find(item, known, models, part) for key, item in value.items()}
    if not _is_end(value):
        found = [_find(item, known, models, part) for item in value]
        return found[0] if len(found) == 1 else found
    name, call, index = value
    key = (name, call - (name in models), index)
    if key not in known:
        raise ValueError(f"Model: {part} names output {index} of call {call} of {name!r}, which the config lacks")
    return known[key]
