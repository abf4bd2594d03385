"""Ratios of medians: geometric means, worst and best. Knows rows of results, not where they come from."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

FASTEST_PEER = "the fastest JAX peer"


class Ratio(NamedTuple):
    """How many times as fast ``who`` is as ``other`` over several rows.

    Args:
        rows: how many.
        mean: geometric.
        worst, best: names of the rows where it is least and most.
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


def compared(row: Mapping[str, Any], mode: str, who: str, other: str, peers: Sequence[str] = ()) -> float | None:
    """Give how many times as fast ``who`` is in one row; None where one of the two was not measured.

    Args:
        peers: what :data:`FASTEST_PEER` stands for.

    >>> compared({"milliseconds": {"forward": {"a": 2.0, "b": 3.0}}}, "forward", "a", "b")
    1.5
    """
    times = row["milliseconds"].get(mode, {})
    others = [times[name] for name in (peers if other == FASTEST_PEER else [other]) if name in times]
    return min(others) / times[who] if who in times and others else None


def ratios(
    rows: Iterable[Mapping[str, Any]], mode: str, who: str, other: str, peers: Sequence[str] = ()
) -> Ratio | None:
    """Compare two libraries over all rows where both were measured; None where there is no such row."""
    found = {row["name"]: compared(row, mode, who, other, peers) for row in rows}
    each = {name: ratio for name, ratio in found.items() if ratio is not None}
    if not each:
        return None
    mean = math.exp(statistics.fmean(map(math.log, each.values())))
    worst, best = min(each, key=each.__getitem__), max(each, key=each.__getitem__)
    return Ratio(who, other, mode, len(each), mean, worst, each[worst], best, each[best])
