"""One measurement from the command line to the files it leaves: a table, ``bench.json``, ``bench.png``.

Knows the suites by what they measure row by row. What was measured before an interruption is kept.
"""

import difflib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxconv.bench import cases, chart, convolutions, machine, networks, ratios, table, trained, whole
from jaxconv.registry import nearest

JSON, CHART = "bench.json", "bench.png"
LIBRARIES = ("lax", "torch", "jaxconv", "flax", "equinox", "haiku", "keras")
DISPATCH = "dispatch"
INSTALL = {"torch": "torch"}  # its CPU build has an index of its own: see pytorch.org; the others are one extra


Say = Callable[[str], None]


class Suite(NamedTuple):
    """What is measured: names of the rows with their families, and a function from a name to its row.

    ``measure`` takes what prints a line above the progress bar, too. ``folder`` is the name of the new folder.
    """

    kind: str
    folder: str
    names: dict[str, str]
    libraries: list[str]
    modes: tuple[str, ...]
    extras: tuple[str, ...]
    measure: Callable[[str, Say], dict[str, Any]]

    @property
    def wide(self) -> int:
        """Give how wide the column of the names is."""
        return table.width(self.names)


def bench(
    chosen: str = "",
    *,
    models: bool = False,
    files: Sequence[str] = (),
    batch: str | None = None,
    case_file: str | None = None,
    only: str | None = None,
    seconds: float = 1.0,
    accuracy: bool = False,
    out: str | None = None,
    names_only: bool = False,
) -> Path | None:
    """Measure, print a table, leave JSON and a chart, and give the folder that holds them.

    Args:
        chosen: a part of a name, or a family; empty is all.
        models: whole networks instead of single convolutions.
        files: trained models, instead of both.
        batch: batch sizes for these, with commas; None is 1 and 32.
        case_file: another list of convolutions than the one that comes along.
        only: names of libraries, with commas; None is all that are installed.
        seconds: for each program; see :func:`~jaxconv.bench.timing.medians`.
        accuracy: compare convolutions with float64 too.
        out: the folder; None is a new one, runs/bench, runs/bench_models or runs/bench_trained.
        names_only: print the names of what would be measured, with their families, and give None.

    Raises:
        ValueError: an unknown library or name, a case file or a model that cannot be read, negative seconds, options
            that exclude each other.
        ImportError: a library that was asked for, or matplotlib, is not installed.
        OSError: the folder cannot be written.
        ArithmeticError: libraries disagree on the values.
        KeyboardInterrupt: Ctrl-C, after what was measured is saved.
    """
    if not seconds >= 0:
        raise ValueError(f"--seconds {seconds} is negative; give 0 for the least number of rounds")
    if files and (models or case_file or accuracy):
        raise ValueError("--trained measures model files alone; leave --models, --cases and --accuracy away")
    if batch is not None and not files:
        raise ValueError(f"--batch {batch} is for model files; give them with --trained FILE")
    if models and (case_file or accuracy):
        raise ValueError("--cases and --accuracy are for single convolutions; leave --models away")
    if files:
        suite = _trained(files, batch, only, seconds)
    else:
        suite = _networks(only, seconds) if models else _convolutions(case_file, only, seconds, accuracy)
    suite = suite._replace(names=_select(suite.names, chosen))
    if names_only:
        print(*(f"{name:<{suite.wide}}  {family}".rstrip() for name, family in suite.names.items()), sep="\n")
        return None
    chart.check_matplotlib()
    folder = Path(out) if out else _fresh(Path("runs") / suite.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"kind": suite.kind, **machine.facts(), "seconds": seconds, "complete": False, "rows": []}
    _write(folder, results)  # now, not after an hour of measuring
    _measure(suite, results, folder)
    return folder


def _measure(suite: Suite, results: dict[str, Any], folder: Path) -> None:
    heading = table.heading(suite.libraries, suite.modes, suite.extras, suite.wide)
    print(machine.in_words(results), heading, sep="\n\n", flush=True)
    try:
        for name, say in _progress(list(suite.names)):
            row = suite.measure(name, say)
            results["rows"].append(row)
            _write(folder, results)
            say(_said(row, suite))
        results["complete"] = True
    except KeyboardInterrupt:
        done = f"interrupted; {len(results['rows'])} of {len(suite.names)} rows are kept in {folder / JSON}"
        raise KeyboardInterrupt(done) from None
    finally:
        _finish(suite, results, folder)
    wrong = [f"{row['name']} ({', '.join(row['wrong'])})" for row in results["rows"] if row.get("wrong")]
    if wrong:
        raise ArithmeticError(f"the libraries disagree on the values of {', '.join(wrong)}")


def _finish(suite: Suite, results: dict[str, Any], folder: Path) -> None:
    """Print the ratios of the rows that are there, and save them and the chart."""
    rows = [row for row in results["rows"] if row["name"] != DISPATCH]
    who = "jaxconv" if "jaxconv" in suite.libraries else suite.libraries[0]
    others = [name for name in suite.libraries if name != who]
    peers = [name for name in others if name in whole.JAX_PEERS]
    against = others + [ratios.FASTEST_PEER] * (len(peers) > 1)
    found = [ratios.ratios(rows, mode, who, other, peers) for mode in suite.modes for other in against]
    kept = [ratio for ratio in found if ratio is not None]
    results["ratios"] = [ratio._asdict() for ratio in kept]
    _write(folder, results)
    print("", *kept, "", f"figures: {folder / JSON}", sep="\n", flush=True)
    if kept:
        bars = {mode: {row["name"]: _bars(row, mode, who, others) for row in rows} for mode in suite.modes}
        chart.draw_chart(bars, folder / CHART, who=who, caption=machine.in_words(results))
        print(f"chart:   {folder / CHART}")


def _bars(row: dict[str, Any], mode: str, who: str, others: Sequence[str]) -> dict[str, float]:
    each = {other: ratios.compared(row, mode, who, other) for other in others}
    return {other: ratio for other, ratio in each.items() if ratio is not None}


def _said(row: dict[str, Any], suite: Suite) -> str:
    if row["name"] != DISPATCH:
        return table.line(row, suite.libraries, suite.modes, suite.extras, suite.wide)
    times = {name: 1e3 * one for name, one in row["milliseconds"][whole.CALL].items()}
    return (
        f"{DISPATCH:<{suite.wide}}   a jitted apply_fn of a tiny Conv1D: {times['jaxconv']:.1f} microseconds a call; "
        f"the same in jax.lax: {times['lax']:.1f}"
    )


# -- the three suites


def _convolutions(case_file: str | None, only: str | None, seconds: float, accuracy: bool) -> Suite:
    libraries = _libraries(only, convolutions.LIBRARIES, "runs whole networks; add --models")
    listed = {case.name: case for case in cases.read_cases(case_file)}

    def measure(name: str, say: Say) -> dict[str, Any]:
        return convolutions.measure_case(listed[name], libraries, seconds, accuracy)

    names = {name: case.family for name, case in listed.items()}
    extras = () if libraries == ["torch"] else ("compile", "memory", "error") if accuracy else ("compile", "memory")
    return Suite("convolutions", "bench", names, libraries, convolutions.MODES, extras, measure)


def _networks(only: str | None, seconds: float) -> Suite:
    libraries = _libraries(only, whole.LIBRARIES, "has no networks of its own; leave --models away")

    def measure(name: str, say: Say) -> dict[str, Any]:
        if name == DISPATCH:
            return whole.measure_call(seconds)
        return whole.measure_network(networks.NETWORKS[name], libraries, seconds)

    names = dict.fromkeys([*networks.NETWORKS, *([DISPATCH] if "jaxconv" in libraries else [])], "")
    extras = ("compile",) if libraries != ["torch"] else ()
    return Suite("networks", "bench_models", names, libraries, whole.MODES, extras, measure)


def _trained(files: Sequence[str], batch: str | None, only: str | None, seconds: float) -> Suite:
    libraries = _libraries(only, trained.LIBRARIES, "opens no model files; leave --trained away")
    rows = trained.read_trained(files, trained.as_batches(batch))
    told: set[str] = set()

    def measure(name: str, say: Say) -> dict[str, Any]:
        def once(line: str) -> None:  # what is said of a file holds for every batch size
            if line not in told:
                told.add(line)
                say(line)

        return trained.measure_trained(name, rows[name], libraries, seconds, once)

    names = {name: row.file for name, row in rows.items()}
    extras = ("compile",) if libraries != ["torch"] else ()
    return Suite("trained", "bench_trained", names, libraries, trained.MODES, extras, measure)


def _libraries(only: str | None, able: Sequence[str], reason: str) -> list[str]:
    """Give the libraries to measure: those asked for, or those that are installed."""
    if only is None:
        return [name for name in able if _installed(name)]
    asked = list(dict.fromkeys(name.strip() for name in only.split(",")))
    for name in asked:
        if name not in LIBRARIES:
            raise ValueError(f"--only: unknown library {name!r}; {nearest(name, LIBRARIES)}")
        if name not in able:
            raise ValueError(f"--only: {name} {reason}")
        if not _installed(name):
            package = INSTALL.get(name, "'jaxconv[bench]'")
            raise ImportError(f"--only: {name} is not installed; install it with: pip install {package}")
    return asked


def _installed(library: str) -> bool:
    return importlib.util.find_spec("jax" if library == "lax" else library) is not None


def _select(names: dict[str, str], chosen: str) -> dict[str, str]:
    found = {name: family for name, family in names.items() if chosen in name or chosen == family}
    if not found:
        known = dict.fromkeys([*names, *filter(None, names.values())])
        close = difflib.get_close_matches(chosen, known, n=3, cutoff=0)
        raise ValueError(f"nothing to measure is called {chosen!r}; nearest: {', '.join(close)}; --list prints all")
    return found


# -- files and the screen


def _progress(names: Sequence[str]) -> Iterator[tuple[str, Say]]:
    """Go through names behind a bar on a terminal; with each comes what prints above the bar."""
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


def _fresh(folder: Path) -> Path:
    """Give the folder itself, or folder-2, folder-3, ... where it is taken."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _write(folder: Path, results: dict[str, Any]) -> None:
    (folder / JSON).write_text(json.dumps(results, indent=1) + "\n")
