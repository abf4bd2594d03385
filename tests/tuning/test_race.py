"""Races of programs on a clock that the programs advance."""

import functools

import pytest

from jaxconv.tuning.race import DROP_OUT, MAX_ROUNDS, MIN_ROUNDS, race


class Clock:
    """A clock that stands still except while a program runs."""

    def __init__(self):
        self.now, self.runs = 0.0, {}

    def __call__(self):
        return self.now

    def program(self, name, *seconds):
        def run():
            number = self.runs[name] = self.runs.get(name, 0) + 1
            self.now += seconds[min(number, len(seconds)) - 1]

        return run


def test_programs_take_turns_and_get_medians():
    clock = Clock()
    programs = {"a": clock.program("a", 0.02, 0.02, 0.02, 0.03, 0.9), "b": clock.program("b", 0.04)}
    assert race(programs, 0.0, clock) == pytest.approx({"a": 30, "b": 40})  # two runs before, then 20, 30 and 900 ms
    assert clock.runs == {"a": 2 + MIN_ROUNDS, "b": 2 + MIN_ROUNDS}


def test_the_order_of_the_turns_changes():
    turns = []
    race({name: functools.partial(turns.append, name) for name in "abc"}, 0.0, lambda: 0.0)
    turns = turns[6:]  # each runs twice before the race
    rounds = {tuple(turns[i : i + 3]) for i in range(0, len(turns), 3)}
    assert len(turns) == 3 * MIN_ROUNDS
    assert len(rounds) > 1
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)


def test_a_race_ends_after_its_time_or_its_maximum_of_rounds():
    clock = Clock()
    race({"a": clock.program("a", 0.01)}, 0.1, clock)
    assert clock.runs["a"] in (12, 13)  # two before, and ten; or one more, where ten sum to less than 0.1
    clock = Clock()
    race({"a": clock.program("a", 0.0)}, 1.0, clock)
    assert clock.runs["a"] == 2 + MAX_ROUNDS


def test_a_slow_program_drops_out_after_one_run_unless_the_run_was_short():
    clock = Clock()
    programs = {
        "first": clock.program("first", 1.0),
        "best": clock.program("best", 0.05),
        "slow": clock.program("slow", 1.01 * DROP_OUT * 0.05),
        "cold": clock.program("cold", 0.09, 0.06),
    }
    found = race(programs, 0.0, clock)
    assert list(found) == ["first", "best", "cold"]  # the first is what the others are compared with
    assert clock.runs["slow"] == 1
