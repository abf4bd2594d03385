"""The rows of results as a text table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Names = Sequence[str]
EXTRAS = {"compile": "compile s", "memory": "memory x", "error": "error"}
MIN_WIDTH, MAX_WIDTH = 24, 48  # of the name column, in characters


def width(names: Iterable[str]) -> int:
    """Return the width of the name column.

    >>> width(["fcn", "a name that is somewhat longer"])
    30
    """
    return min(max(MIN_WIDTH, *map(len, names)), MAX_WIDTH)


def heading(libraries: Names, modes: Names, extras: Names, names: int = MIN_WIDTH) -> str:
    """Return the two header lines of a table whose name column is ``names`` characters wide.

    >>> print(heading(["lax", "jaxconv"], ["forward"], []))
                               forward, ms
    name                           lax  jaxconv
    """
    columns = 10 * len(libraries)
    above = " " * names + "".join(f"   {f'{mode}, ms':<{columns}}" for mode in modes)
    above += "".join(f"   {EXTRAS[extra]:<{9 * len(compiling(libraries))}}" for extra in extras)
    below = f"{'name':<{names}}" + "".join("   " + "".join(f"{name:>8}  " for name in libraries) for _ in modes)
    below += "".join("   " + "".join(f"{name:>7}  " for name in compiling(libraries)) for _ in extras)
    return "\n".join((above.rstrip(), below.rstrip()))


def line(row: Mapping[str, Any], libraries: Names, modes: Names, extras: Names, names: int = MIN_WIDTH) -> str:
    """Return one line of the table, with a dash for each missing figure."""
    cells = [f"{row['name']:<{names}.{names}}"]
    for mode in modes:
        times = row["milliseconds"].get(mode, {})
        cells.append("".join(f"{_short(times.get(name)):>8}  " for name in libraries))
    for extra in extras:
        values = row.get(extra, {})
        form = "{:.0e}" if extra == "error" else "{:.2f}"
        texts = [form.format(values[name]) if name in values else "-" for name in compiling(libraries)]
        cells.append("".join(f"{text:>7}  " for text in texts))
    wrong = f"   other values: {', '.join(row['wrong'])}" if row.get("wrong") else ""
    return "   ".join(cells).rstrip() + wrong


def compiling(libraries: Names) -> list[str]:
    """Return the libraries that compile."""
    return [name for name in libraries if name != "torch"]


def _short(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"
