"""A Keras model's config as a tree of entries, whatever version wrote it, and that tree cut off at a layer.

Knows how models are written down, and not what any one layer's options mean.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from jaxconv.models.functional import MASK_OPS
from jaxconv.registry import nearest

Config = dict[str, Any]

LAYERS = 5_000  # the most layers that a model may have
CALLS = 50_000  # the most tensors that calls take, and the most calls, those of models inside counted each time
DEPTH = 64  # of models inside models
_MODELS = ("Functional", "Model", "Sequential")


@dataclasses.dataclass
class Entry:
    """One layer of the config.

    stored: its name in the file. name: the same without "/", which separates names here.
    class_name, config: as the file says. module, registered: where its class is from, as far as the file says.
    inside: for a model, its layers, InputLayers included; None for any other layer.
    calls: its ``inbound_nodes``. ends: a functional model's input_layers and output_layers.
    needed: False beyond the point where reading stops. shared: a number that the same layer has wherever it stands.
    """

    stored: str
    class_name: str
    config: Config
    module: str = ""
    registered: str | None = None
    inside: list["Entry"] | None = None
    calls: list[Any] = dataclasses.field(default_factory=list)
    ends: tuple[Any, Any] | None = None
    needed: bool = True
    shared: int | None = None

    @property
    def name(self) -> str:
        return self.stored.replace("/", ".")

    @property
    def is_input(self) -> bool:
        return self.class_name == "InputLayer"

    @property
    def is_modern(self) -> bool:
        """Tell whether its calls are in Keras 3's form."""
        return any(isinstance(call, Mapping) for call in self.calls)

    @property
    def is_function(self) -> bool:
        """Tell whether it is one of Keras 3's functions of arrays, which is not trainable; HDF5 names no module."""
        alone = not self.module and self.is_modern and "trainable" not in self.config
        return self.module.startswith("keras.src.ops") or alone

    @property
    def names(self) -> list[str]:
        """Give the names of the layers inside."""
        return [entry.stored for entry in self.inside or () if not entry.is_input]

    @property
    def wrapped(self) -> "Entry | None":
        """Give the entry of the layer that a wrapper's config holds; None for any other layer."""
        inside = self.config.get("layer")
        return entry_of(inside, "the layer inside") if isinstance(inside, Mapping) else None


def outline(config: Any) -> Entry:
    """Read the tree of a model's config.

    Raises:
        ValueError: no model; a layer without class or name; too many of them.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"the model's config is a {type(config).__name__}, no table of names")
    root = entry_of(config, "the model")
    if root.inside is None:
        raise ValueError(
            f"the model is of class {root.class_name!r}, which is code that the file does not hold; "
            "a Sequential or functional model has its layers in the config"
        )
    if _calls(root) > CALLS:
        raise ValueError(
            f"the model makes more than {CALLS} calls of layers, in models that are called again and again"
        )
    return root


def _calls(entry: Entry) -> int:
    return max(1, len(entry.calls)) * (1 + sum(_calls(one) for one in entry.inside or ()))


def entry_of(config: Mapping[str, Any], where: str) -> Entry:
    """Read one layer's config, with all that is inside. Raises ValueError, which begins with ``where``."""
    return _entry(config, where, [LAYERS, CALLS], DEPTH)


def _entry(config: Mapping[str, Any], where: str, left: list[int], depth: int) -> Entry:
    left[0] -= 1
    if left[0] < 0 or not depth:
        raise ValueError(f"the model has more than {LAYERS} layers, or models inside models inside {DEPTH} models")
    class_name, options = config.get("class_name"), config.get("config")
    if not isinstance(class_name, str):
        raise ValueError(f"{where} has no class_name")
    if isinstance(options, list) and class_name == "Sequential":
        options = {"layers": options}  # until Keras 2.2 the list was the config
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}, a {class_name}, has no config")
    name = config.get("name") or options.get("name")
    if name is None and class_name in _MODELS:
        name = "model" if where == "the model" else None
    if name is None and class_name == "Merge":
        name = "merge"
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}, a {class_name}, has the name {name!r}; a layer's is a text")
    calls = config.get("inbound_nodes") or []
    entry = Entry(name, class_name, dict(options), str(config.get("module") or ""), config.get("registered_name"))
    entry.calls = list(calls) if isinstance(calls, list) else []
    entry.shared = number if type(number := config.get("shared_object_id")) is int else None
    if class_name not in _MODELS or "layers" not in options:
        return entry
    if not isinstance(options["layers"], list):
        raise ValueError(f"model {name!r} has {type(options['layers']).__name__} where its layers should be")
    if class_name != "Sequential":
        for part in ("input_layers", "output_layers"):
            if not isinstance(options.get(part), list | Mapping):
                raise ValueError(f"model {name!r} has no {part}, which say where its graph begins and ends")
        entry.ends = (options["input_layers"], options["output_layers"])
    entry.inside = []
    for number, one in enumerate(options["layers"]):
        place = f"layer {number} of {name!r}"
        if not isinstance(one, Mapping):
            raise ValueError(f"{place} is a {type(one).__name__}, no table of names")
        entry.inside.append(_entry(one, place, left, depth - 1))
    twice = next((one for one, times in Counter(entry.names).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"model {name!r} has two layers with the name {twice!r}")
    left[1] -= sum(1 for one in entry.inside for _ in _origins(one.calls))
    if left[1] < 0:
        raise ValueError(f"the calls of layers in the model take more than {CALLS} tensors")
    if entry.ends is not None and not _is_keras_3(entry):
        _count_from_zero(entry)
    return entry


def _count_from_zero(entry: Entry) -> None:
    """Count the calls of models inside from 0, in place. tf.keras counted them from 1, Keras 2.0 to 2.2 from 0.

    Each call is taken by something, so what is taken tells the two apart.
    """
    models = {one.stored: len(one.calls) for one in entry.inside or () if one.inside is not None}
    taken: dict[str, list[list]] = {name: [] for name in models}
    for origin in [*_origins([one.calls for one in entry.inside or ()]), *_triples(entry.ends)]:
        if origin[0] in taken:
            taken[origin[0]].append(origin)
    for name, origins in taken.items():
        if max((origin[1] for origin in origins), default=0) >= models[name] > 0:
            for origin in origins:
                origin[1] -= 1


def cut(root: Entry, until: str) -> None:
    """Make the model end with the layer ``until``, in place; what it does not need is marked, not removed.

    Of a layer that is called several times, the first call counts.

    Raises:
        ValueError: there is no such layer.
    """
    inside = root.inside or []
    if until not in root.names:
        raise ValueError(f"until={until!r} is no layer of this model; {nearest(until, root.names)}")
    if root.ends is None:
        place = [entry.stored for entry in inside].index(until)
        for entry in inside[place + 1 :]:
            entry.needed = False
        return
    by_name = {entry.stored: entry for entry in inside}
    needed: set[tuple[str, int]] = set()
    waiting = [(until, 0)]
    while waiting:
        name, number = call = waiting.pop()
        if call in needed:
            continue
        needed.add(call)
        if name in by_name and number < len(by_name[name].calls):
            waiting += [(origin[0], origin[1]) for origin in _origins(by_name[name].calls[number])]
    # the calls in front of the last needed one stay, so that the numbers of calls do; what these take stays, too
    last = {name: max(number for other, number in needed if other == name) for name, _ in needed}
    more = [(name, number) for name, top in last.items() for number in range(top) if (name, number) not in needed]
    for name, number in more:
        needed.add((name, number))
        reach = [(origin[0], origin[1]) for origin in _origins(by_name[name].calls[number])]
        unknown = [one for one in reach if one not in needed]
        if unknown:
            raise ValueError(
                f"until={until!r} needs call {last[name]} of {name!r}, whose call {number} needs layers after it"
            )
    for entry in inside:
        entry.needed = entry.stored in last
        entry.calls = entry.calls[: last.get(entry.stored, -1) + 1]
    outputs = _count(by_name[until])
    base = 1 if by_name[until].class_name in ("Functional", "Model") and _is_keras_3(root) else 0
    ends = [[until, base, index] for index in range(outputs)]
    starts = [one for one in _triples(root.ends[0]) if by_name[one[0]].needed]
    root.ends = (starts, ends[0] if outputs == 1 else ends)


def _is_keras_3(root: Entry) -> bool:
    """Tell whether calls are in Keras 3's form, where the ends of a graph count those of models inside from 1."""
    return any(entry.is_modern for entry in root.inside or ())


def _count(entry: Entry) -> int:
    return 1 if entry.ends is None else max(1, len(list(_triples(entry.ends[1]))))


def _triples(value: Any) -> Iterator[list]:
    """Give each [layer, call, output] in a structure of them."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _triples(item)
    elif isinstance(value, list) and _is_triple(value):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _triples(item)


def _origins(call: Any) -> Iterator[list]:
    """Give each [layer, call, output] that a call takes, in the forms of Keras 1, 2 and 3."""
    if isinstance(call, Mapping):
        if call.get("class_name") == "__keras_tensor__":
            yield call["config"]["keras_history"]
            return
        for item in call.values():
            yield from _origins(item)
    elif isinstance(call, list):
        yield from _triples(call) if _is_triple(call) else (one for item in call for one in _origins(item))
        if _is_triple(call) and len(call) > 3 and isinstance(call[3], Mapping):
            yield from _origins(list(call[3].values()))  # tensors among the keyword arguments


def _is_triple(value: list) -> bool:
    return len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def graph_config(entry: Entry) -> Config:
    """Give a functional model's config in the form that ``models.functional`` reads, each layer by its name alone.

    Names have no "/" in it, and calls of models inside count as Keras 3 counts them.
    """
    inside = [one for one in entry.inside or () if one.needed]
    taken: set[str] = set()
    for one in inside:
        if one.name in taken:
            raise ValueError(f"model {entry.stored!r} has two layers with the name {one.name!r}")
        taken.add(one.name)
    modern = _is_keras_3(entry)
    assert entry.ends is not None
    entries = []
    for one in inside:
        kind = one.class_name if one.is_input or (modern and one.class_name in ("Functional", "Model")) else "Layer"
        own = _input(one) if one.is_input else {"name": one.name}
        calls = [_clean(call) for call in one.calls]
        read = {"class_name": kind, "name": one.name, "config": own, "inbound_nodes": calls}
        computes_mask = one.class_name in MASK_OPS and one.is_function
        entries.append(read | {"class_name": one.class_name, "module": "keras.src.ops"} if computes_mask else read)
    return {"layers": entries, "input_layers": _clean(entry.ends[0]), "output_layers": _clean(entry.ends[1])}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        if _is_triple(value):
            return [value[0].replace("/", "."), *(_clean(item) for item in value[1:])]
        return [_clean(item) for item in value]
    return value


def _input(entry: Entry) -> Config:
    if entry.config.get("sparse") or entry.config.get("ragged"):
        raise ValueError(f"input {entry.stored!r} is sparse or ragged, which JAX has no arrays for")
    shape = input_shape(entry)
    if shape is None:
        raise ValueError(f"input {entry.stored!r} has no batch_shape")
    dtype = entry.config.get("dtype", entry.config.get("input_dtype"))
    return {"name": entry.name, "batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else None}


def input_shape(entry: Entry) -> list | None:
    """Give the input's shape, batch first, that a layer's config says; None where it says none."""
    for key in ("batch_shape", "batch_input_shape"):
        shape = entry.config.get(key)
        if isinstance(shape, Mapping) and shape.get("class_name") == "__tuple__":
            shape = shape.get("items")
        if shape is not None:
            if not isinstance(shape, list) or not all(one is None or isinstance(one, int) for one in shape):
                raise ValueError(f"layer {entry.stored!r} has {key}={ascii(shape)[:80]}, which is no shape")
            return shape
    return None
