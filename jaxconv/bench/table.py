"""The results as text: a row for each thing measured, ratios below. Knows rows of results."""

from collections.abc import Mapping, Sequence
from typing import Any

EXTRAS = {"compile": "compile s", "memory": "memory x", "error": "error"}


def heading(libraries: Sequence[str], modes: Sequence[str], extras: Sequence[str]) -> str:
    """Give the two lines over the table.

    >>> print(heading(["lax", "jaxconv"], ["forward"], []))
                               forward, ms
    name                           lax  jaxconv
    """
    wide = 10 * len(libraries)
    above = " " * 24 + "".join(f"   {f'{mode}, ms':<{wide}}" for mode in modes)
    above += "".join(f"   {EXTRAS[extra]:<{9 * len(compiling(libraries))}}" for extra in extras)
    names = f"{'name':<24}" + "".join("   " + "".join(f"{name:>8}  " for name in libraries) for _ in modes)
    names += "".join("   " + "".join(f"{name:>7}  " for name in compiling(libraries)) for _ in extras)
    return "\n".join((above.rstrip(), names.rstrip()))


def line(row: Mapping[str, Any], libraries: Sequence[str], modes: Sequence[str], extras: Sequence[str]) -> str:
    """Give one line of the table; a dash stands where nothing was measured."""
    cells = [f"{row['name']:<24.24}"]
    for mode in modes:
        times = row["milliseconds"].get(mode, {})
        cells.append("".join(f"{_short(times.get(name)):>8}  " for name in libraries))
    for extra in extras:
        values = row.get(extra, {})
        form = "{:.0e}" if extra == "error" else "{:.2f}"
        cells.append(
            "".join(f"{form.format(values[name]) if name in values else '-':>7}  " for name in compiling(libraries))
        )
    wrong = f"   other values: {', '.join(row['wrong'])}" if row.get("wrong") else ""
    return "   ".join(cells).rstrip() + wrong


def compiling(libraries: Sequence[str]) -> list[str]:
    """Give the libraries that compile."""
    return [name for name in libraries if name != "torch"]


def _short(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"
