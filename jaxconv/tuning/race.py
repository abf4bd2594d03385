"""Medians of programs that take turns, where those that cannot win drop out early. Knows nothing of what they do."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

LEAST, MOST = 3, 200  # rounds, whatever the seconds say
HOPELESS = 5.0  # times as slow as the best so far
PATIENCE = 0.1  # seconds; below, a first run may be slow by accident and is repeated


def race(
    programs: Mapping[str, Callable[[], object]], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Give the median milliseconds of each program; one that is five times slower than the best has none.

    A program that runs once and is hopeless is not run again. The others take turns, so that what disturbs the machine
    disturbs all of them.

    Args:
        programs: each computes once and waits for the result. The first is in the race to the end.
        seconds: how long to go on, for each program; never under 3 rounds nor over 200.
        clock: gives the time in seconds.

    >>> list(race({"nothing": lambda: None}, 0.0))
    ['nothing']
    """

    def timed(run: Callable[[], object]) -> float:
        start = clock()
        run()
        return clock() - start

    best = math.inf
    racing: dict[str, Callable[[], object]] = {}
    for name, run in programs.items():
        took = timed(run)
        if took < PATIENCE:
            took = min(took, timed(run))
        best = min(best, took)
        if not racing or took <= HOPELESS * best:
            racing[name] = run
    times: dict[str, list[float]] = {name: [] for name in racing}
    end = clock() + seconds * len(racing)
    for number in range(MOST):
        if number >= LEAST and clock() >= end:
            break
        for name, run in racing.items():
            times[name].append(timed(run))
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
