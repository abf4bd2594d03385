"""Communication between devices in a compiled program, read from the text of XLA's program."""

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from jaxconv.contract.scopes import layer_path

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "ragged-all-to-all",
         "reduce-scatter")  # fmt: skip
_NAME = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = ")
# a definition: its name, its result, its operation, its operands
_COLLECTIVE = re.compile(rf"{_NAME.pattern}(\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(([^)]*)")
_PART = re.compile(rf"{_NAME.pattern}(\(.*?\)|\S+) get-tuple-element\(%?([\w.\-]+)\), index=(\d+)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_CALLEES = re.compile(r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PLACE = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
    """One collective of a compiled program.

    kind: XLA's name, such as "all-reduce". bytes: the size of its result on one device, each time that it runs.
    times: how often it runs; a loop whose length XLA does not know is counted once, and so is each branch of a
    conditional. place: the operation in the Python program that it comes from. layer: the path of the layer that this
    operation belongs to, as in ``summary``; empty for an operation outside of all layers inside a model. If XLA has
    joined the collectives of several operations into one, each of them is listed.
    """

    kind: str
    bytes: int
    times: int
    place: str
    layer: str = ""


def collectives(f: Callable, *args: Any) -> list[Collective]:
    """Return the collectives in the compiled program of a function, in the order of its text.

    The data that one device receives and sends depend on the kind and on the network; programs are usually compared by
    the bytes of the results. A program for one device has no collectives.

    Args:
        f: a function of arrays, or one that is already jitted, with its shardings.
        args: its arguments, or ``jax.ShapeDtypeStruct``; the shardings of arrays on several devices are used.

    >>> collectives(jnp.sin, jnp.ones(4))
    []
    """
    jitted: Any = f if hasattr(f, "lower") else jax.jit(f)
    return _found(jitted.lower(*args).compile().as_text())


def _found(text: str) -> list[Collective]:
    """Return the collectives in the text of a compiled module."""
    bodies, entry = _computations(text)
    times: collections.Counter[str] = collections.Counter()

    def count(name: str, factor: int) -> None:
        times[name] += factor
        for line in bodies.get(name, ()):
            trips = _TRIPS.search(line) if " while(" in line else None
            inside = [*_CALLEES.findall(line), *(n.strip(" %") for b in _BRANCHES.findall(line) for n in b.split(","))]
            for callee in inside:
                if callee in bodies:
                    count(callee, factor * (int(trips[1]) if trips else 1))

    count(entry, 1)
    return [
        Collective(kind, _bytes(result), times[name], place, layer_path(place))
        for name, lines in bodies.items()
        if times[name]
        for kind, result, place in _parts(lines)
    ]


def _parts(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the result and the place of each collective, or of each part of a joined collective."""
    places = {match[1]: place[1] for line in lines if (match := _NAME.match(line)) and (place := _PLACE.search(line))}
    taken: dict[tuple[str, int], str] = {}
    for line in lines:
        if match := _PART.match(line):
            taken[match[3], int(match[4])] = places.get(match[1], "")
    for line in lines:
        if not (match := _COLLECTIVE.match(line)):
            continue
        name, result, kind, started, operands = match.groups()
        if started and kind != "all-reduce":
            result = _split(result)[1]
        results = _split(result)
        own = places.get(name) or next(filter(None, map(places.get, _OPERAND.findall(operands))), "")
        if len(results) == 1 or started:
            yield kind, result, own
        else:
            yield from ((kind, part, taken.get((name, i)) or own) for i, part in enumerate(results))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of each computation by its name, and the name of the entry computation."""
    bodies: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            name = head[2]
            entry = name if head[1] else entry
            bodies[name] = []
        elif line.startswith("}"):
            name = ""
        elif name:
            bodies[name].append(line)
    return bodies, entry


def _split(result: str) -> list[str]:
    """Return the parts of a tuple of results, or a single result in a list."""
    if not result.startswith("("):
        return [result]
    depth, parts = 0, [""]
    for letter in result[1:-1]:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
        parts = [*parts, ""] if letter == "," and not depth else [*parts[:-1], parts[-1] + letter]
    return parts


def _bytes(result: str) -> int:
    """Return the size in bytes of a result, or of all results in a tuple."""
    total = 0
    for kind, bits, dims in _ARRAY.findall(result):
        count = 1
        for size in filter(None, dims.split(",")):
            count *= int(size)
        total += -(-count * (8 if kind == "pred" else int(bits)) // 8)
    return total
