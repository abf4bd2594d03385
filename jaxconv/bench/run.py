"""A benchmark run: a table, ``bench.json`` and ``bench.png``. The results are saved after each row."""

import difflib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxconv.bench import cases, chart, convolutions, machine, network_speed, networks, ratios, stepping, table, trained
from jaxconv.errors import require
from jaxconv.files.atomic import new_folder
from jaxconv.registry import nearest

JSON, CHART = "bench.json", "bench.png"
LIBRARIES = ("lax", "torch", "jaxconv", "flax", "equinox", "haiku", "keras", "sequence_layers")
DISPATCH = "dispatch"
# not in the extra: the CPU build of torch has its own package index, see pytorch.org; sequence-layers has many
# dependencies
INSTALL = {"haiku": "dm-haiku", "sequence_layers": "sequence-layers"}
ACCELERATED = "jaxconv.accelerate()"  # on the chart, in place of a library

Say = Callable[[str], None]


class Suite(NamedTuple):
    """A kind of benchmark.

    kind: its name in ``bench.json``. folder: name of the default output folder. names: of the rows, with their
    families. measure: ``(name, say) -> row``, where ``say`` prints a line above the progress bar. figures: additional
    columns, for libraries that compile.
    """

    kind: str
    folder: str
    names: dict[str, str]
    libraries: list[str]
    modes: tuple[str, ...]
    measure: Callable[[str, Say], dict[str, Any]]
    figures: tuple[str, ...] = ("compile",)

    @property
    def extras(self) -> tuple[str, ...]:
        """Return the additional columns."""
        return () if self.libraries == ["torch"] else self.figures

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of libraries to compare: jaxconv, or else the first one, with all others."""
        changed = [name for name in self.libraries if name.endswith(network_speed.PLUS)]
        if changed:
            return [(name, name.removesuffix(network_speed.PLUS)) for name in changed]
        who = "jaxconv" if "jaxconv" in self.libraries else self.libraries[0]
        others = [name for name in self.libraries if name != who]
        peers = [name for name in others if name in network_speed.JAX_PEERS]
        return [(who, other) for other in others + [ratios.FASTEST_PEER] * (len(peers) > 1)]

    @property
    def name_width(self) -> int:
        """Return the width of the name column."""
        return table.width(self.names)


def bench(
    chosen: str = "",
    *,
    models: bool = False,
    stream: bool = False,
    accelerate: bool = False,
    files: Sequence[str] = (),
    batch: str | None = None,
    case_file: str | None = None,
    only: str | None = None,
    seconds: float = 1.0,
    accuracy: bool = False,
    out: str | None = None,
    names_only: bool = False,
) -> Path | None:
    """Measure, print a table, write results and a chart to a folder, and return the folder.

    The arguments are the options of ``jaxconv bench``: ``chosen`` is its FILTER, ``files`` its ``--trained``,
    ``case_file`` its ``--cases``, and ``names_only`` its ``--list``, for which None is returned. Raises ValueError for
    invalid options; ImportError if a library is missing; ArithmeticError if the libraries disagree on the values.
    """
    if not seconds >= 0:
        raise ValueError(f"--seconds {seconds}: expected 0 (the fewest rounds) or more")
    kinds = {"--models": models, "--accelerate": accelerate, "--stream": stream, "--trained": files}
    given = [option for option, value in kinds.items() if value]
    given += [option for option, value in {"--cases": case_file, "--accuracy": accuracy}.items() if given and value]
    if len(given) > 1:
        raise ValueError(f"{given[0]} cannot be combined with {', '.join(given[1:])}")
    if batch is not None and not files:
        raise ValueError(f"--batch {batch} requires model files: --trained FILE")
    if stream:
        suite = _steps(only, seconds)
    elif files:
        suite = _trained(files, batch, only, seconds)
    elif models or accelerate:
        suite = _networks(only, seconds, accelerate)
    else:
        suite = _convolutions(case_file, only, seconds, accuracy)
    suite = suite._replace(names=_select(suite.names, chosen))
    if names_only:
        print(*(f"{name:<{suite.name_width}}  {family}".rstrip() for name, family in suite.names.items()), sep="\n")
        return None
    require("matplotlib", "the chart")
    folder = Path(out) if out else new_folder(Path("runs") / suite.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"kind": suite.kind, **machine.facts(), "seconds": seconds, "complete": False, "rows": []}
    _write(folder, results)  # if the folder is not writable, fail now and not after an hour
    _measure(suite, results, folder)
    return folder


def _measure(suite: Suite, results: dict[str, Any], folder: Path) -> None:
    heading = table.heading(suite.libraries, suite.modes, suite.extras, suite.name_width)
    print(machine.describe(results), heading, sep="\n\n", flush=True)
    try:
        for name, say in _progress(list(suite.names)):
            row = suite.measure(name, say)
            results["rows"].append(row)
            _write(folder, results)
            say(_format_row(row, suite))
        results["complete"] = True
    except KeyboardInterrupt:
        done = f"interrupted; {folder / JSON} has {len(results['rows'])} of {len(suite.names)} rows"
        raise KeyboardInterrupt(done) from None
    finally:
        _finish(suite, results, folder)
    wrong = [f"{row['name']} ({', '.join(row['wrong'])})" for row in results["rows"] if row.get("wrong")]
    if wrong:
        raise ArithmeticError(f"the libraries disagree on the values of {', '.join(wrong)}")


def _finish(suite: Suite, results: dict[str, Any], folder: Path) -> None:
    """Print the ratios of the measured rows, and save them and the chart."""
    rows = [row for row in results["rows"] if row["name"] != DISPATCH]
    peers = [name for name in suite.libraries if name in network_speed.JAX_PEERS]
    found = [ratios.ratios(rows, mode, who, other, peers) for mode in suite.modes for who, other in suite.pairs]
    kept = [ratio for ratio in found if ratio is not None]
    results["ratios"] = [ratio._asdict() for ratio in kept]
    _write(folder, results)
    print("", *kept, "", f"figures: {folder / JSON}", sep="\n", flush=True)
    if kept:
        bars = {mode: {row["name"]: _bars(row, mode, suite.pairs) for row in rows} for mode in suite.modes}
        first, *others = {who for who, _ in suite.pairs}
        caption = machine.describe(results)
        chart.draw_chart(bars, folder / CHART, who=ACCELERATED if others else first, caption=caption)
        print(f"chart:   {folder / CHART}")


def _bars(row: dict[str, Any], mode: str, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    each = {other: ratios.speedup(row, mode, who, other) for who, other in pairs if other != ratios.FASTEST_PEER}
    return {other: ratio for other, ratio in each.items() if ratio is not None}


def _format_row(row: dict[str, Any], suite: Suite) -> str:
    if row["name"] != DISPATCH:
        return table.line(row, suite.libraries, suite.modes, suite.extras, suite.name_width)
    times = {name: 1e3 * one for name, one in row["milliseconds"][network_speed.CALL].items()}
    return (
        f"{DISPATCH:<{suite.name_width}}   one call of a jitted tiny Conv1D: {times['jaxconv']:.1f} microseconds; "
        f"the same in jax.lax: {times['lax']:.1f}"
    )


# -- the suites


def _convolutions(case_file: str | None, only: str | None, seconds: float, accuracy: bool) -> Suite:
    libraries = _libraries(only, convolutions.LIBRARIES, "measures whole networks only; add --models")
    listed = {case.name: case for case in cases.read_cases(case_file)}

    def measure(name: str, say: Say) -> dict[str, Any]:
        return convolutions.measure_case(listed[name], libraries, seconds, accuracy)

    names = {name: case.family for name, case in listed.items()}
    figures = ("compile", "memory", "error") if accuracy else ("compile", "memory")
    return Suite("convolutions", "bench", names, libraries, convolutions.MODES, measure, figures)


def _networks(only: str | None, seconds: float, accelerate: bool) -> Suite:
    """Return the suite of whole networks, or of other libraries with and without ``jaxconv.accelerate()``."""
    if accelerate:
        plain = _libraries(only, network_speed.JAX_PEERS, "is not a library that jaxconv.accelerate changes")
        libraries = [name + plus for name in plain for plus in ("", network_speed.PLUS)]
    else:
        libraries = _libraries(only, network_speed.LIBRARIES, "measures single convolutions only; omit --models")

    def measure(name: str, say: Say) -> dict[str, Any]:
        if name == DISPATCH:
            return network_speed.measure_call(seconds)
        return network_speed.measure_network(networks.NETWORKS[name], libraries, seconds)

    names = dict.fromkeys([*networks.NETWORKS, *([DISPATCH] if "jaxconv" in libraries else [])], "")
    kind, folder = ("accelerated", "bench_accelerated") if accelerate else ("networks", "bench_models")
    return Suite(kind, folder, names, libraries, network_speed.MODES, measure)


def _steps(only: str | None, seconds: float) -> Suite:
    libraries = _libraries(only, stepping.LIBRARIES, "does not run step by step; omit --stream")
    absent = [name for name in stepping.LIBRARIES if only is None and name not in libraries]

    def measure(name: str, say: Say) -> dict[str, Any]:
        while absent:
            say(f"{absent.pop(0)} is not installed, and is left out")
        return stepping.measure_step(name, libraries, seconds, say)

    return Suite("steps", "bench_stream", dict.fromkeys(stepping.ROWS, ""), libraries, stepping.MODES, measure, ())


def _trained(files: Sequence[str], batch: str | None, only: str | None, seconds: float) -> Suite:
    libraries = _libraries(only, trained.LIBRARIES, "does not read model files; omit --trained")
    rows = trained.read_trained(files, trained.as_batches(batch))
    printed: set[str] = set()

    def measure(name: str, say: Say) -> dict[str, Any]:
        def once(line: str) -> None:  # the reason to leave out a library is the same for all batch sizes
            if line not in printed:
                printed.add(line)
                say(line)

        return trained.measure_trained(name, rows[name], libraries, seconds, once)

    names = {name: row.file for name, row in rows.items()}
    return Suite("trained", "bench_trained", names, libraries, trained.MODES, measure)


def _libraries(only: str | None, supported: Sequence[str], reason: str) -> list[str]:
    """Return the libraries named by ``only``, or all supported ones that are installed."""
    if only is None:
        return [name for name in supported if _installed(name)]
    chosen = list(dict.fromkeys(name.strip() for name in only.split(",")))
    for name in chosen:
        if name not in LIBRARIES:
            raise ValueError(f"--only: unknown library {name!r}; {nearest(name, LIBRARIES)}")
        if name not in supported:
            raise ValueError(f"--only: {name} {reason}")
        if not _installed(name):
            package = INSTALL.get(name, name)
            raise ImportError(f"--only: {name} is not installed; install it with: pip install {package}")
    return chosen


def _installed(library: str) -> bool:
    return importlib.util.find_spec("jax" if library == "lax" else library) is not None


def _select(names: dict[str, str], chosen: str) -> dict[str, str]:
    found = {name: family for name, family in names.items() if chosen in name or chosen == family}
    if not found:
        allowed = dict.fromkeys([*names, *filter(None, names.values())])
        close = difflib.get_close_matches(chosen, allowed, n=3, cutoff=0)
        raise ValueError(f"no row or family is named {chosen!r}; closest: {', '.join(close)}; --list prints all")
    return found


# -- files and the screen


def _progress(names: Sequence[str]) -> Iterator[tuple[str, Say]]:
    """Iterate over names with a progress bar on a terminal; yield each with a function that prints above the bar."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from ((name, print) for name in names)
        return
    with tqdm(total=len(names), unit="row", disable=None, leave=False, dynamic_ncols=True) as bar:
        for name in names:
            bar.set_description(name)
            yield name, tqdm.write
            bar.update()


def _write(folder: Path, results: dict[str, Any]) -> None:
    (folder / JSON).write_text(json.dumps(results, indent=1) + "\n")
