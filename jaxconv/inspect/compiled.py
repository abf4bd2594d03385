"""What a compiled program moves between devices. Knows the text of XLA's programs, and no layers."""

import collections
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute", "ragged-all-to-all",
         "reduce-scatter")  # fmt: skip
# a definition: its name, its result, its operation
_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_CALLEES = re.compile(r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_PLACE = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
    """One collective of a compiled program.

    kind: XLA's name, such as "all-reduce". bytes: the size of its result on one device, each time that it runs.
    times: how often it runs, as far as the trip counts of loops are known to XLA; a loop of unknown length counts once,
    and so does each branch of a conditional. place: the operation in the Python program that it comes from.
    """

    kind: str
    bytes: int
    times: int
    place: str


def collectives(f: Callable, *args: Any) -> list[Collective]:
    """Return the collectives in the compiled program of a function, in the order of its text.

    What one device receives and sends depends on the kind and on the network; the bytes of the result are the figure
    that programs are compared by. One device has none.

    Args:
        f: a function of arrays, or one that is jitted already, with its shardings.
        args: its arguments, or ``jax.ShapeDtypeStruct``; arrays that lie on several devices bring their sharding.

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
    found = []
    for name, lines in bodies.items():
        for line in lines:
            match = _COLLECTIVE.search(line)
            if match and times[name]:
                place = _PLACE.search(line)
                size = _bytes(match[1], paired=bool(match[3]) and match[2] != "all-reduce")
                found.append(Collective(match[2], size, times[name], place[1] if place else ""))
    return found


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of each computation by its name, and the name of the one where the program begins."""
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


def _bytes(result: str, paired: bool) -> int:
    """Return the size of a result; that of a started operation is a tuple of (operands, results, ...)."""
    parts = result
    if paired and result.startswith("("):
        depth, parts = 0, [""]  # type: ignore[assignment]
        for letter in result[1:-1]:
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
            parts = [*parts, ""] if letter == "," and not depth else [*parts[:-1], parts[-1] + letter]  # type: ignore[assignment]
        parts = parts[1]
    total = 0
    for kind, bits, dims in _ARRAY.findall(parts):
        count = 1
        for size in filter(None, dims.split(",")):
            count *= int(size)
        total += -(-count * (8 if kind == "pred" else int(bits)) // 8)
    return total
