"""Medians of several programs that take turns in one process. Knows nothing of what they compute."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

LEAST, MOST = 3, 40  # rounds, whatever the seconds say
REST = 0.02  # seconds: PyTorch's threads (libgomp's) go to sleep after a few milliseconds
LONG = 0.1  # seconds: what takes more does not notice how it was woken
PACE = 0.01  # seconds: what takes less is repeated, so that a turn is longer than what the change of turns disturbs


class Program(NamedTuple):
    """One way to compute something, ready to be timed.

    Args:
        run: computes once and waits for the result.
        calls: how often ``run`` computes, for what is too quick to time alone.
    """

    run: Callable[[], object]
    calls: int = 1


def paced(run: Callable[[], object]) -> Program:
    """Give a program that computes often enough to take a hundredth of a second, or once if that takes longer.

    >>> paced(lambda: None).calls > 10
    True
    """
    run()
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < PACE:
        run()
        calls += 1

    def repeated() -> None:
        for _ in range(calls):
            run()

    return Program(repeated, calls)


def medians(programs: Mapping[str, Program], seconds: float) -> dict[str, float]:
    """Give the median milliseconds of each program, all of them taking turns.

    A machine that is now slow and now fast then disturbs all alike. Another process at work does not: programs whose
    threads wait for each other suffer most. A turn begins with a rest, because a library's threads may look for more
    work for milliseconds, and would take a core from the next one; then comes a run that is not measured, which wakes
    the program's own.

    Args:
        programs: what to time, by name.
        seconds: how long to go on, for each program; never under 3 rounds nor over 40.

    >>> medians({"nothing": Program(lambda: None)}, 0.0)["nothing"] < 1
    True
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    end = time.perf_counter() + seconds * len(programs)
    for number in range(MOST):
        if number >= LEAST and time.perf_counter() >= end:
            break
        # there and back: what one leaves behind, in the caches say, meets all others alike
        for name, program in list(programs.items())[:: -1 if number % 2 else 1]:
            time.sleep(REST)
            if not times[name] or times[name][-1] * program.calls < LONG:
                program.run()
            start = time.perf_counter()
            program.run()
            times[name].append((time.perf_counter() - start) / program.calls)
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
