"""Speed ratios over the rows of results: geometric mean, worst and best."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

FASTEST_PEER = "the fastest JAX peer"


class Ratio(NamedTuple):
    """The speed of ``who`` relative to ``other`` over several rows, in one mode.

    mean: the geometric mean. worst, least: the row with the smallest ratio, and the ratio. best, most: the largest.
    """

    who: str
    other: str
    mode: str
    rows: int
    mean: float
    worst: str
    least: float
    best: str
    most: float

    def __str__(self) -> str:
        return (
            f"{self.who} runs {self.mode} {self.mean:.2f} times as fast as {self.other} "
            f"(geometric mean of {self.rows}); worst {self.least:.2f} {self.worst}, best {self.most:.2f} {self.best}"
        )


def speedup(row: Mapping[str, Any], mode: str, who: str, other: str, peers: Sequence[str] = ()) -> float | None:
    """Return the speed of ``who`` relative to the other library in one row, or None if one of the two was not measured.

    other: a library, or :data:`FASTEST_PEER`, chosen from ``peers``.

    >>> speedup({"milliseconds": {"forward": {"a": 2.0, "b": 3.0}}}, "forward", "a", "b")
    1.5
    """
    times = row["milliseconds"].get(mode, {})
    others = [times[name] for name in (peers if other == FASTEST_PEER else [other]) if name in times]
    return min(others) / times[who] if who in times and others else None


def ratios(
    rows: Iterable[Mapping[str, Any]], mode: str, who: str, other: str, peers: Sequence[str] = ()
) -> Ratio | None:
    """Compare two libraries over all rows with both; None if there is no such row. Arguments as in :func:`speedup`."""
    found = {row["name"]: speedup(row, mode, who, other, peers) for row in rows}
    each = {name: ratio for name, ratio in found.items() if ratio is not None}
    if not each:
        return None
    mean = statistics.geometric_mean(each.values())
    worst, best = min(each, key=each.__getitem__), max(each, key=each.__getitem__)
    return Ratio(who, other, mode, len(each), mean, worst, each[worst], best, each[best])
