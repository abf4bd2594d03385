"""The quality of the table of lowerings on this machine: its choices for random convolutions against the fastest.

The regret of a choice is its time divided by that of the fastest lowering. Times are kept in a JSON file, so that a
measurement can be interrupted and continued, and the regret computed again after the table has changed.
"""

import functools
import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxconv.files.atomic import replacing
from jaxconv.kernels import choice
from jaxconv.kernels.problem import standard_form
from jaxconv.progress import Display
from jaxconv.tuning.convolutions import Convolution, convolutions
from jaxconv.tuning.race import race
from jaxconv.tuning.shapes import draw

FORMAT = "jaxconv times of lowerings 1"
DROP_OUT = 3.0  # a lowering that is this many times as slow as the best in its first run is not measured further
CLOSE = 1.25  # within this factor of the best, lowerings are measured again: the best of many may be so by chance
PLATFORM = "cpu"  # the table is used only there


class Item(NamedTuple):
    """One map of one random convolution, with its seed, number and kind."""

    seed: int
    number: int
    kind: str
    convolution: Convolution

    @property
    def key(self) -> str:
        return f"{self.seed}.{self.number} {self.convolution.name}"


def items(seed: int, count: int) -> Iterator[Item]:
    """Yield the maps of the first ``count`` shapes of a sample, if they have several lowerings."""
    for number in range(count):
        shape = draw(seed, number)
        for one in convolutions(*shape.gradients()):
            yield Item(seed, number, shape.kind, one)


def candidates(one: Convolution) -> list[str]:
    """List the lowerings worth a measurement, the table's choice first.

    XLA's own computation is left out if it is a generic loop, up to 400 times slower: groups, a dilated input, and
    kernel gradients on three axes. Otherwise "xla_nhwc" is the same program.
    """
    form = standard_form(one.name, one.geometry, one.a, one.b)
    assert form is not None
    left_out = {"xla"}
    if form.problem.groups > 1:
        left_out |= {"xla_nhwc", "xla_extra_row", "leading_axis"}
    if form.map == "correlate" and form.problem.rank == 3:
        left_out |= {"xla_nhwc"}
    table = one.default(PLATFORM)
    return [table, *(name for name in one.supported() if name != table and name not in left_out)]


def digest(one: Convolution, lowering: str) -> str:
    """Return a short hash of the program of a lowering, which depends on the lowerings of its parts too."""
    compute = functools.partial(choice.compute, one.name, platform=PLATFORM, **{**one.params, "lowering": lowering})
    return hashlib.sha256(str(jax.make_jaxpr(compute)(one.a, one.b)).encode()).hexdigest()[:12]


def measured(one: Convolution, stored: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """Measure the candidates of a map, and return the entry to store, without the times of those that dropped out.

    Return None if all of them already have a time of the same program, or if there is no choice.
    """
    names = candidates(one)
    digests = {name: digest(one, name) for name in names}
    if len(names) == 1 or all(stored.get(name, {}).get("program") == digests[name] for name in names):
        return None
    operands = one.operands()
    runs = {name: run for name in names if (run := one.program(name, PLATFORM, operands)) is not None}
    times = race(runs, seconds, drop_out=DROP_OUT)
    close = [name for name in times if times[name] <= CLOSE * min(times.values())]
    if len(close) > 1:
        times |= race({name: runs[name] for name in close}, 2 * seconds, drop_out=DROP_OUT)
    return {name: {"program": digests[name], "ms": times.get(name)} for name in runs}


class Times:
    """The measured times: a JSON file of ``{key: {lowering: {"program", "ms"}}}``, replaced atomically."""

    def __init__(self, file: str | Path) -> None:
        self.file, self.entries = Path(file), dict[str, dict[str, Any]]()
        if self.file.exists():
            try:
                stored = json.loads(self.file.read_bytes())
            except ValueError:
                stored = None
            if not isinstance(stored, dict) or stored.get("format") != FORMAT:
                raise ValueError(f"{self.file} is not a file of times of lowerings; name another file")
            self.entries = stored["entries"]

    def save(self) -> None:
        """Write the file."""
        content = {"format": FORMAT, "jax": jax.__version__, "entries": self.entries}
        with replacing(self.file) as handle:
            handle.write(json.dumps(content, indent=1).encode())


def measure(file: str | Path, seed: int, count: int, seconds: float, limit: float) -> str:
    """Measure the maps of a sample that the file lacks, for at most ``limit`` seconds, and return the report."""
    times, end, todo = Times(file), time.monotonic() + limit, list(items(seed, count))
    try:
        with Display(len(todo), unit="map") as bar:
            for number, item in enumerate(todo, 1):
                if time.monotonic() > end:
                    break
                entry = measured(item.convolution, times.entries.get(item.key, {}), seconds)
                if entry is not None:
                    times.entries[item.key] = entry
                    times.save()
                bar.update(number)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; what was measured is in {file}, and the next call continues") from None
    return report(times, todo)


def regret(entry: dict[str, Any], chosen: str) -> float | None:
    """Return the regret of a choice, or None if it was not measured. If it dropped out, it counts as DROP_OUT."""
    taken = [one["ms"] for one in entry.values() if one["ms"] is not None]
    if chosen not in entry or not taken:
        return None
    ms = entry[chosen]["ms"]
    return max(DROP_OUT, 1.0) if ms is None else ms / min(taken)


def summarize(regrets: Sequence[tuple[float, str]]) -> tuple[int, float, float, float, str]:
    """Return the number of regrets, their geometric mean, 95th percentile, and the largest with its text."""
    values = sorted(value for value, _ in regrets)
    mean = statistics.geometric_mean(values)
    percentile = values[min(len(values) - 1, math.ceil(0.95 * len(values)) - 1)]
    return (len(values), mean, percentile, *max(regrets))


def report(times: Times, todo: Sequence[Item]) -> str:
    """Format the regret of the table by map and by kind of convolution."""
    found: list[tuple[str, str, float, str]] = []
    for item in todo:
        one, entry = item.convolution, times.entries.get(item.key, {})
        chosen = one.default(PLATFORM)
        value = 1.0 if len(candidates(one)) == 1 else regret(entry, chosen)
        if value is not None:
            form = standard_form(one.name, one.geometry, one.a, one.b)
            assert form is not None
            best = min((n for n in entry if entry[n]["ms"] is not None), key=lambda n: entry[n]["ms"], default=chosen)
            found.append((item.kind, form.map, value, f"{one}: {chosen}, not {best}"))
    rows = [["map", "kind", "count", "mean", "95th", "worst", "of"]]
    kinds, maps = sorted({kind for kind, *_ in found}), ("convolve", "transpose", "correlate")
    for name, kind in [*itertools.product(maps, kinds), *((name, None) for name in maps), (None, None)]:
        some = [(r, text) for k, m, r, text in found if (name is None or m == name) and (kind is None or k == kind)]
        if some:
            count, *numbers, text = summarize(some)
            figures = [str(count), *(f"{number:.2f}" for number in numbers), text if numbers[-1] > 1 else ""]
            rows.append([name or "all", kind or "all", *figures])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
