"""The config of a Keras model, from any version, as a tree of entries."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from jaxconv.files.keras.calls import Reference, references, without_slashes
from jaxconv.models.functional import MASK_OPS
from jaxconv.registry import nearest

Config = dict[str, Any]

LAYERS = 2_500  # the largest number of layers in a model; the largest of Keras's own have 1,041
CALLS = 20_000  # the largest number of calls, those of nested models counted each time, and of tensors they take
DEPTH = 20  # the deepest nesting of models
_GRAPHS = ("Functional", "Model")
_MODELS = (*_GRAPHS, "Sequential")


@dataclasses.dataclass
class Entry:
    """One layer of the config; ``class_name`` and ``config`` are unchanged from the file.

    stored_name: its name in the file. name: the same with "." for "/", which separates names here. module,
    registered_name: where its class is defined, if the file says so. layers: for a model, its layers, InputLayers
    included, or None for any other layer. calls: its ``inbound_nodes``. ends: a functional model's input_layers and
    output_layers. needed: False for a layer after the one where reading stops. shared_id: a number that all
    occurrences of a shared layer have.
    """

    stored_name: str
    class_name: str
    config: Config
    module: str = ""
    registered_name: str | None = None
    layers: list["Entry"] | None = None
    calls: list[Any] = dataclasses.field(default_factory=list)
    ends: tuple[Any, Any] | None = None
    needed: bool = True
    shared_id: int | None = None

    @property
    def name(self) -> str:
        return self.stored_name.replace("/", ".")

    @property
    def is_input(self) -> bool:
        return self.class_name == "InputLayer"

    @property
    def has_keras3_calls(self) -> bool:
        return any(isinstance(call, Mapping) for call in self.calls)

    @property
    def is_keras3_graph(self) -> bool:
        """Return whether its layers are called in Keras 3's form, which counts calls of models from 1 in ``ends``."""
        return any(entry.has_keras3_calls for entry in self.layers or ())

    @property
    def is_operation(self) -> bool:
        """Return whether it is a function of arrays in Keras 3's form."""
        # not trainable; HDF5 files omit its module
        without_module = not self.module and self.has_keras3_calls and "trainable" not in self.config
        return self.module.startswith("keras.src.ops") or without_module

    @property
    def layer_names(self) -> list[str]:
        return [entry.stored_name for entry in self.layers or () if not entry.is_input]

    @property
    def wrapped(self) -> "Entry | None":
        """Return the entry of the layer in a wrapper's config, or None for any other layer."""
        return self.held("layer")

    def held(self, option: str) -> "Entry | None":
        """Return the entry of a layer that is an option of this one, or None if there is none."""
        config = self.config.get(option)
        return read_entry(config, "the wrapped layer") if isinstance(config, Mapping) else None

    @property
    def input_shape(self) -> list | None:
        """Return the input shape in a layer's config, batch first, or None. Raises ValueError."""
        for key in ("batch_shape", "batch_input_shape"):
            shape = self.config.get(key)
            if isinstance(shape, Mapping) and shape.get("class_name") == "__tuple__":
                shape = shape.get("items")
            if shape is not None:
                if not isinstance(shape, list) or not all(size is None or isinstance(size, int) for size in shape):
                    raise ValueError(f"layer {self.stored_name!r} has {key}={ascii(shape)[:80]}, which is not a shape")
                return shape
        return None


def read_model_config(config: Any) -> Entry:
    """Return the tree of a model's config. Raises ValueError."""
    if not isinstance(config, Mapping):
        raise ValueError(f"the model's config is of type {type(config).__name__}; a dict is expected")
    root = read_entry(config, "the model")
    if root.layers is None:
        allowed = "a Sequential or functional model has its layers in the config"
        raise ValueError(f"the model is of class {root.class_name!r}: its code is not in the file; {allowed}")
    if _count_calls(root) > CALLS:
        raise ValueError(f"the model makes more than {CALLS} calls of layers, those in models inside included")
    return root


def _count_calls(entry: Entry) -> int:
    return max(1, len(entry.calls)) * (1 + sum(_count_calls(one) for one in entry.layers or ()))


def read_entry(config: Mapping[str, Any], where: str) -> Entry:
    """Return one layer's entry with all nested entries. Raises ValueError, whose message begins with ``where``."""
    return _Reader().entry(config, where, DEPTH)


class _Reader:
    """Reads entries, and counts them and the tensors their calls take."""

    def __init__(self) -> None:
        self.layers, self.tensors = 0, 0

    def entry(self, config: Mapping[str, Any], where: str, depth: int) -> Entry:
        self.layers += 1
        if self.layers > LAYERS or not depth:
            raise ValueError(f"the model has more than {LAYERS} layers, or models nested more than {DEPTH} deep")
        class_name, options = config.get("class_name"), config.get("config")
        if not isinstance(class_name, str):
            raise ValueError(f"{where} has no class_name")
        if isinstance(options, list) and class_name == "Sequential":
            options = {"layers": options}  # until Keras 2.2 the list was the config
        if not isinstance(options, Mapping):
            raise ValueError(f"{where}, a {class_name}, has no config")
        name = config.get("name") or options.get("name")
        if name is None and (where == "the model" or class_name == "Merge"):
            name = "merge" if class_name == "Merge" else "model"
        if not isinstance(name, str) or not name:
            given = ascii(name)[:80]
            raise ValueError(f"{where}, a {class_name}, has the name {given}; a non-empty string is expected")
        entry = Entry(name, class_name, dict(options))
        entry.module = str(config.get("module") or "")
        registered = config.get("registered_name")
        entry.registered_name = registered if isinstance(registered, str) else None
        calls = config.get("inbound_nodes")
        entry.calls = list(calls) if isinstance(calls, list) else []
        entry.shared_id = number if type(number := config.get("shared_object_id")) is int else None
        if class_name in _MODELS and "layers" in options:
            self._read_layers(entry, depth)
        return entry

    def _read_layers(self, entry: Entry, depth: int) -> None:
        """Read the layers of a model, in place."""
        name, options = entry.stored_name, entry.config
        if not isinstance(options["layers"], list):
            raise ValueError(f"the layers of model {name!r} are of type {type(options['layers']).__name__}, not a list")
        if entry.class_name in _GRAPHS:
            for part in ("input_layers", "output_layers"):
                if not isinstance(options.get(part), list | Mapping):
                    raise ValueError(f"model {name!r} has no {part}")
            entry.ends = (options["input_layers"], options["output_layers"])
        entry.layers = []
        for number, config in enumerate(options["layers"]):
            where = f"layer {number} of {name!r}"
            if not isinstance(config, Mapping):
                raise ValueError(f"{where} is of type {type(config).__name__}; a dict is expected")
            entry.layers.append(self.entry(config, where, depth - 1))
        twice = next((name for name, count in Counter(entry.layer_names).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"model {name!r} has two layers with the name {twice!r}")
        self.tensors += sum(1 for one in entry.layers for _ in references(one.calls))
        if self.tensors > CALLS:
            raise ValueError(f"the calls of layers in the model take more than {CALLS} tensors")
        if entry.ends is not None and not entry.is_keras3_graph:
            _count_calls_from_zero(entry)


def _count_calls_from_zero(entry: Entry) -> None:
    """Number the calls of nested models from 0, in place. tf.keras counted them from 1, Keras 2.0 to 2.2 from 0.

    Each call is used somewhere, so the largest number in use distinguishes the two.
    """
    counts = {one.stored_name: len(one.calls) for one in entry.layers or () if one.layers is not None}
    used: dict[str, list[Reference]] = {name: [] for name in counts}
    for reference in references([[one.calls for one in entry.layers or ()], *(entry.ends or ())]):
        if reference[0] in used:
            used[reference[0]].append(reference)
    for name, found in used.items():
        if max((reference[1] for reference in found), default=0) >= counts[name] > 0:
            for reference in found:
                reference[1] -= 1


def cut(root: Entry, until: str) -> None:
    """Make the model end with the first call of ``until``, in place; mark layers after it. Raises ValueError."""
    layers = root.layers or []
    if until not in root.layer_names:
        raise ValueError(f"until={until!r} is not a layer of this model; {nearest(until, root.layer_names)}")
    if root.ends is None:
        place = [entry.stored_name for entry in layers].index(until)
        for entry in layers[place + 1 :]:
            entry.needed = False
        return
    by_name = {entry.stored_name: entry for entry in layers}
    needed: set[tuple[str, int]] = set()
    waiting = [(until, 0)]
    while waiting:
        name, number = call = waiting.pop()
        if call not in needed:
            needed.add(call)
            waiting += _inputs_of(by_name, name, number)
    # calls before the last needed one are kept, so that the numbers of calls stay valid; they need their inputs, too
    last: dict[str, int] = {}
    for name, number in needed:
        last[name] = max(number, last.get(name, 0))
    earlier = [(name, number) for name, top in last.items() for number in range(top) if (name, number) not in needed]
    needed |= set(earlier)
    for name, number in earlier:
        if not needed.issuperset(_inputs_of(by_name, name, number)):
            raise ValueError(
                f"until={until!r} needs call {last[name]} of {name!r}, whose call {number} needs later layers"
            )
    for entry in layers:
        entry.needed = entry.stored_name in last
        entry.calls = entry.calls[: last.get(entry.stored_name, -1) + 1]
    end = by_name[until]
    outputs = 1 if end.ends is None else max(1, len(list(references(end.ends[1]))))
    first_call = 1 if end.class_name in _GRAPHS and root.is_keras3_graph else 0
    ends = [[until, first_call, index] for index in range(outputs)]
    starts = [one for one in references(root.ends[0]) if by_name[one[0]].needed]
    root.ends = (starts, ends[0] if outputs == 1 else ends)


def last_before(root: Entry, is_refused: Callable[[Entry], bool]) -> str | None:
    """Return the name of the last layer in a model that needs no unsupported layer, or None if there is none."""
    layers = [one for one in root.layers or () if not one.is_input]
    refused = [one.stored_name for one in layers if is_refused(one)]
    if root.ends is None:
        layers = list(itertools.takewhile(lambda one: one.stored_name not in refused[:1], layers))
    takers: dict[str, list[str]] = {}
    for one in layers:
        for reference in references(one.calls):
            takers.setdefault(reference[0], []).append(one.stored_name)
    names: set[str] = set()
    while refused:
        if (name := refused.pop()) not in names:
            names.add(name)
            refused += takers.get(name, [])
    return next((one.stored_name for one in reversed(layers) if one.stored_name not in names), None)


def _inputs_of(by_name: Mapping[str, Entry], name: str, number: int) -> list[tuple[str, int]]:
    """List the calls (layer, number) whose outputs a call takes."""
    calls = by_name[name].calls if name in by_name else []
    return [(one[0], one[1]) for one in references(calls[number])] if number < len(calls) else []


def graph_config(entry: Entry) -> Config:
    """Return a functional model's config for ``models.functional``: no "/" in names, calls as in Keras 3."""
    needed = [one for one in entry.layers or () if one.needed]
    twice = next((name for name, count in Counter(one.name for one in needed).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"model {entry.stored_name!r} has two layers with the name {twice!r}")
    assert entry.ends is not None
    keras3, layers = entry.is_keras3_graph, []
    for one in needed:
        kind = one.class_name if one.is_input or (keras3 and one.class_name in _GRAPHS) else "Layer"
        config = _input_config(one) if one.is_input else {"name": one.name}
        calls = [without_slashes(call) for call in one.calls]
        layers.append({"class_name": kind, "name": one.name, "config": config, "inbound_nodes": calls})
        if one.class_name in MASK_OPS and one.is_operation:
            layers[-1] |= {"class_name": one.class_name, "module": "keras.src.ops"}
    inputs, outputs = (without_slashes(end) for end in entry.ends)
    return {"layers": layers, "input_layers": inputs, "output_layers": outputs}


def _input_config(entry: Entry) -> Config:
    if entry.config.get("sparse") or entry.config.get("ragged"):
        raise ValueError(f"input {entry.stored_name!r} is sparse or ragged; JAX has no such arrays")
    if entry.input_shape is None:
        raise ValueError(f"input {entry.stored_name!r} has no batch_shape")
    dtype = entry.config.get("dtype", entry.config.get("input_dtype"))
    return {"name": entry.name, "batch_shape": entry.input_shape, "dtype": dtype if isinstance(dtype, str) else None}
