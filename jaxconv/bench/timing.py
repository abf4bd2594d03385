"""Median times of several programs that take turns in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

MIN_ROUNDS, MAX_ROUNDS = 3, 40
PAUSE = 0.02  # seconds between programs; PyTorch's threads (libgomp's) go idle after a few milliseconds
# seconds of untimed runs, until the threads of a program are as fast as in a loop; programs longer than LONG have none
WARM_UP, LONG = 0.04, 0.2
MIN_TURN = 0.01  # seconds; a shorter program is repeated, so that switching programs does not dominate its time


class Program(NamedTuple):
    """A program to time: ``run`` computes ``calls`` times, several times if it is short, and waits."""

    run: Callable[[], object]
    calls: int = 1


def repeated(run: Callable[[], object]) -> Program:
    """Return a program that calls ``run`` repeatedly for at least :data:`MIN_TURN` seconds.

    >>> repeated(lambda: None).calls > 10
    True
    """
    run()
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < MIN_TURN:
        run()
        calls += 1

    def run_all() -> None:
        for _ in range(calls):
            run()

    return Program(run_all, calls)


def medians(programs: Mapping[str, Program], seconds: float) -> dict[str, float]:
    """Return the median milliseconds of each program.

    The programs take turns, so that changes of the machine's speed affect all of them. Other processes still affect
    programs most whose threads wait for each other. Before each program is a pause, in which the threads of the
    previous library go idle, and then untimed runs, which wake its own. seconds: time for each program, in 3 to 40
    rounds.

    >>> medians({"nothing": Program(lambda: None)}, 0.0)["nothing"] < 1
    True
    """
    times: dict[str, list[float]] = {name: [] for name in programs}
    end = time.perf_counter() + seconds * len(programs)
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and time.perf_counter() >= end:
            break
        # alternate the direction, so that no program always runs after the same other one
        for name, program in list(programs.items())[:: -1 if number % 2 else 1]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            if not times[name] or times[name][-1] * program.calls < LONG:
                program.run()
                while time.perf_counter() - start < WARM_UP:
                    program.run()
            start = time.perf_counter()
            program.run()
            times[name].append((time.perf_counter() - start) / program.calls)
    return {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
