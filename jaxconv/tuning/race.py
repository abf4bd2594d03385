"""Median times of programs that take turns; those that cannot win drop out early."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping

MIN_ROUNDS, MAX_ROUNDS = 3, 200
DROP_OUT = 5.0  # times as slow as the best until then
REPEAT_BELOW = 0.1  # seconds; a first run that is shorter may be slow by chance and is repeated


def race(
    programs: Mapping[str, Callable[[], object]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    *,
    drop_out: float = DROP_OUT,
) -> dict[str, float]:
    """Return the median milliseconds of each program, except those that are far slower than the best.

    A program that is ``drop_out`` times as slow as the best in its first run drops out; the first program never does.
    The others take turns, so that other load on the machine affects all of them. Their order changes from round to
    round, since a program is slower after one that empties the cache. seconds: the time to spend on each program, in 3
    to 200 rounds.

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
        if took < REPEAT_BELOW:
            took = min(took, timed(run))
        best = min(best, took)
        if not racing or took <= drop_out * best:
            racing[name] = run
    times: dict[str, list[float]] = {name: [] for name in racing}
    end, order, rng = clock() + seconds * len(racing), [*racing.items()], random.Random(0)
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and clock() >= end:
            break
        rng.shuffle(order)
        for name, run in order:
            times[name].append(timed(run))
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
