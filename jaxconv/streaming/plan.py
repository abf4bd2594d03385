"""The plan of a stream: every call in a model with its operation, the delay lines before merges, and the block."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.contract import Layer
from jaxconv.errors import explain
from jaxconv.layers.reparametrization import Reparametrization
from jaxconv.models.container import call_params
from jaxconv.streaming.choice import Choice, Heads, channels_advice, choose, reads_early, refuse
from jaxconv.streaming.operation import Pass, append
from jaxconv.streaming.signal import Signal

MOST_PACKED = 4096  # the largest row of a state that is kept in one array with others: copying it costs little


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of one layer.

    key: its name. store: the name of its state, or of the array of which its state is a part. path: the path of its
    params. wrappers: the layers around it that compute its kernel. values: the indices of the values that it is called
    on. waits: the number of steps by which each of these is delayed first.
    """

    key: str
    store: str
    path: tuple[str, ...]
    wrappers: tuple[Reparametrization, ...]
    choice: Choice
    values: tuple[int, ...]
    waits: tuple[int, ...]

    def params(self, params: Any) -> Any:
        """Return the params of this call from those of the model."""
        return call_params(params, self.path, self.wrappers)

    @property
    def shared(self) -> bool:
        """Return whether the state is a part of an array."""
        return self.store != self.key

    @property
    def lines(self) -> list[tuple[str, Signal, int]]:
        """Return the delay lines of the call: (key, delayed signal, number of steps)."""
        pairs = enumerate(zip(self.choice.operation.inputs, self.waits, strict=True))
        found = [(f"{self.key}/input {number}", signal, wait) for number, (signal, wait) in pairs if wait]
        late = self.choice.late
        return found + ([(f"{self.key}/output", self.choice.signal, late)] if late else [])

    def init(self, batch: int) -> dict[str, Any]:
        """Return the state of the call before the first step: arrays, batch first."""
        operation = self.choice.operation
        own, dtype = operation.init(batch), operation.layer.policy.compute
        kept = {} if own is None else {self.store: own}
        return kept | {key: jnp.zeros(signal.array_shape(batch, steps), dtype) for key, signal, steps in self.lines}

    def state_bytes(self) -> int:
        """Return the size of the state for one row."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(lambda: self.init(1))))

    def multiply_adds(self, block: int) -> int | None:
        """Return the multiply-adds for one block of the stream's input, for one row, or None if they are not known."""
        operation = self.choice.operation
        return operation.multiply_adds(int(operation.signal.rate * block))


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The calls of a stream in order, and the signals of all values: the inputs, then the result of each call.

    outputs: the indices of the values that the stream returns. block: the number of steps that must arrive together.
    """

    steps: tuple[Step, ...]
    signals: tuple[Signal, ...]
    inputs: int
    outputs: tuple[int, ...]
    block: int

    def init(self, batch: Any) -> dict[str, Any]:
        """Return the states of all calls before the first step."""
        kept: dict[str, Any] = {}
        for step in self.steps:
            for key, own in step.init(batch).items():
                kept[key] = append(kept[key], own, step.choice.operation.signal.time) if key in kept else own
        return kept

    @functools.cached_property
    def small(self) -> dict[str, dict[str, tuple]]:
        """Return the shapes of the small states without the batch: by the type of their numbers, then by their name."""
        found: dict[str, dict[str, tuple]] = {}
        for key, own in jax.eval_shape(lambda: self.init(1)).items():
            if isinstance(own, jax.ShapeDtypeStruct) and own.size <= MOST_PACKED:
                found.setdefault(own.dtype.name, {})[key] = own.shape[1:]
        return {kind: shapes for kind, shapes in found.items() if len(shapes) > 1}

    def pack(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return the states with the small ones of a type in one array: each array costs a microsecond per call."""
        packed = {}
        for kind, shapes in self.small.items():
            packed[kind] = jnp.concatenate([kept[key].reshape(kept[key].shape[0], -1) for key in shapes], 1)
        inside = {key for shapes in self.small.values() for key in shapes}
        return packed | {key: value for key, value in kept.items() if key not in inside}

    def unpack(self, packed: dict[str, Any]) -> dict[str, Any]:
        """Return the states by their names: the inverse of ``pack``."""
        kept = dict(packed)
        for kind, shapes in self.small.items():
            array, at = kept.pop(kind), 0
            for key, shape in shapes.items():
                kept[key] = array[:, at : at + math.prod(shape)].reshape(array.shape[0], *shape)
                at += math.prod(shape)
        return kept

    @property
    def span(self) -> int:
        """Return a number of input steps after which nothing depends on where the sequence began.

        It is a power of two of blocks, and of at least as many as any ring has slots, so that rings wrap around, too.
        """
        reaches = [signal.delay / signal.rate for signal in self.signals]
        reaches += [Fraction(abs(offset)) for signal in self.signals for _, offset, _ in signal.lengths.windows]
        rings = [getattr(step.choice.operation, "ring", 0) for step in self.steps]
        blocks = max(math.ceil((4096 + 4 * max(reaches, default=0)) / self.block) + 1, *rings, 1)
        return self.block << (blocks - 1).bit_length()

    @property
    def results(self) -> list[Signal]:
        """Return the signals of the outputs."""
        return [self.signals[index] for index in self.outputs]

    def steps_needed(self, length: int, signals: Sequence[Signal]) -> int:
        """Return the number of steps, a multiple of the block, that complete these values for ``length`` steps."""
        most = max([Fraction(length), *((one.lengths(length) + one.delay) / one.rate for one in signals)])
        return math.ceil(most / self.block) * self.block

    def flush(self, signals: Sequence[Signal]) -> int:
        """Return the largest number of steps to feed after the end until all of these values are complete."""
        start = 64 * self.block * math.ceil((self.span + 1) / self.block)
        lengths = range(start, start + self.block)
        return max(0, *(self.steps_needed(n, signals) - math.ceil(n / self.block) * self.block for n in lengths))

    def check_length(self, length: int) -> None:
        """Check that the outputs for this many steps are those of ``apply_fn``.

        Raises ValueError, which names the nearest valid lengths, if there is no output, if "same" padding with a stride
        differs from that in the stream, or if branches differ in length.
        """
        least = max(signal.lengths.least for signal in self.results)
        if length < least:
            raise ValueError(f"stream: {length} steps are too few for an output; the shortest valid input is {least}")

        def wrong(length: int) -> str | None:
            for step in self.steps:
                same = step.choice.same
                own = [signal.lengths(length) for signal in step.choice.operation.inputs]
                if len(set(own)) > 1:
                    return f"{step.key} merges {' and '.join(map(str, own))} steps"
                if same is not None and own[0] > 0 and same[0].pads(own[0])[0] != same[1]:
                    return f"{step.key} pads 'same' differently than at multiples of the block of {self.block}"
            return None

        reason = wrong(length)
        if reason is not None:
            ways = range(1, self.block + 1)
            near = [
                next((n for n in (length + sign * d for d in ways) if n >= least and wrong(n) is None), None)
                for sign in (-1, 1)
            ]
            raise ValueError(
                f"stream: with {length} steps, {reason}; expected {' or '.join(str(n) for n in near if n)}"
            )


class _Walk:
    """Collects the calls of a model while its graph is traversed."""

    def __init__(self, signals: list[Signal], heads: Heads):
        self.signals, self.heads, self.steps = signals, heads, list[Step]()
        self.seen: dict[str, int] = {}

    def visit(self, layer: Layer, path: tuple[str, ...], inputs: list[int]) -> list[int]:
        """Add the calls inside a layer, or its own; return the indices of its outputs."""
        if layer.graph is None:
            return [self._add(layer, path, inputs)]
        values, children = list(inputs), layer.children
        for call in layer.graph.calls:
            values += self.visit(children[call.name], (*path, call.name), [values[index] for index in call.inputs])
        return [values[index] for index in layer.graph.outputs]

    def _add(self, layer: Layer, path: tuple[str, ...], values: list[int]) -> int:
        name = "/".join(path) or layer.label
        number = self.seen[name] = self.seen.get(name, -1) + 1
        wrappers = []
        while isinstance(layer, Reparametrization):
            wrappers.append(layer)
            layer = layer.layer
        given = [self.signals[value] for value in values]
        late = max(signal.delay for signal in given)
        late = late if reads_early(layer, given[0]) else max(late, *(signal.on_time for signal in given))
        alike = tuple(dataclasses.replace(signal, delay=late) for signal in given)
        with explain(f"{name}, given shape {' and '.join(str(signal.shape) for signal in alike)}"):
            choice = choose(name, layer, alike, self.heads)
        waits = tuple(late - signal.delay for signal in given)
        key = f"{name}#{number}" if number else name
        self.steps.append(Step(key, key, path, tuple(wrappers), choice, tuple(values), waits))
        self.signals.append(choice.signal)
        return len(self.signals) - 1

    def on_time(self, index: int, layer: Layer) -> int:
        """Return the index of a value that is not early: this one, or this one after a delay."""
        signal = self.signals[index]
        if signal.delay >= signal.on_time:
            return index
        on_time = dataclasses.replace(signal, delay=signal.on_time)
        choice = Choice(Pass(layer, (on_time,)), on_time)
        key = f"output {index}"
        self.steps.append(Step(key, key, (), (), choice, (index,), (on_time.delay - signal.delay,)))
        self.signals.append(on_time)
        return len(self.signals) - 1


def make_plan(layer: Layer, shapes: list[tuple], axis: int, heads: Heads) -> Plan:
    """Return the plan of a stream of a model whose inputs have these shapes, with time at ``axis`` of each.

    Raises ValueError for a layer that cannot run step by step, or a window that the block does not divide.
    """
    signals = []
    for number, shape in enumerate(shapes):
        if not isinstance(shape, tuple):
            raise ValueError(f"stream: the model takes {shape} as one input; make it a Model with an Input for each")
        if not 0 < axis < len(shape):
            what = f"axis={axis} is not a time axis of input {number} of shape {shape}"
            raise ValueError(f"stream: {what}; expected 1 to {len(shape) - 1}")
        open_shape = tuple(None if place in (0, axis) else size for place, size in enumerate(shape))
        source = "the input" if len(shapes) == 1 else f"input {number}"
        signals.append(Signal(open_shape, axis, shape[axis], source=source))
    walk = _Walk(signals, heads)
    outputs = [walk.on_time(index, layer) for index in walk.visit(layer, (), list(range(len(shapes))))]
    block = math.lcm(*(Fraction(signal.rate).denominator for signal in signals))
    if heads.window is not None and heads.window % block:
        low = heads.window // block * block
        what = f"window={heads.window} is not a multiple of the block of {block} steps"
        raise ValueError(f"stream: {what}; give {low or block} or {low + block}")
    _check_sizes(walk)
    return Plan(_share_rings(walk.steps), tuple(signals), len(shapes), tuple(outputs), block)


def _share_rings(steps: list[Step]) -> tuple[Step, ...]:
    """Return the calls with rings of the same width in one array: each array costs a microsecond per call."""
    places: dict[Any, int] = {}
    shared = []
    for step in steps:
        operation, signal = step.choice.operation, step.choice.operation.signal
        if getattr(operation, "ring", 0):
            store = f"rings {signal.array_shape(None, None)} {operation.layer.policy.compute}"
            operation = dataclasses.replace(operation, base=places.get(store, 0))  # type: ignore[call-arg]
            places[store] = operation.base + operation.ring  # type: ignore[attr-defined]
            step = dataclasses.replace(step, store=store, choice=dataclasses.replace(step.choice, operation=operation))
        shared.append(step)
    return tuple(shared)


def _check_sizes(walk: _Walk) -> None:
    """Raise ValueError for a call whose state would have an unknown shape."""
    for step in walk.steps:
        for signal in step.choice.operation.inputs:
            if None in [size for axis, size in enumerate(signal.shape) if axis not in (0, signal.axis)]:
                layer = step.choice.operation.layer
                reason = f"gets shape {signal.shape}, in which a size other than time is unknown"
                instead = channels_advice(layer, signal) or "name it in input_shape"
                raise refuse(step.key, layer, None, reason, instead)
