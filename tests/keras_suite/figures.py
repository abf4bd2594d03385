"""How many of Keras's cases pass, counted from the lists that test_suite.py checks.

``python -m tests.keras_suite.figures`` prints them.
"""

from typing import Any, NamedTuple

from tests.keras_suite import collect, left_out

CONVOLUTIONS = {case: cls for name in collect.CONVOLUTIONS for case, cls in collect.cases(name)}
OTHERS = {case: cls for name in collect.OTHERS for case, cls in collect.cases(name)}
RECURRENT = {case: cls for name in collect.RECURRENT for case, cls in collect.cases(name)}


class Figures(NamedTuple):
    """Numbers of cases: all, left out, failing by design, skipped by Keras."""

    cases: int
    left_out: int
    differ: int
    skipped: int

    @property
    def passed(self) -> int:
        """Return the number of the other cases, which pass."""
        return self.cases - self.left_out - self.differ - self.skipped

    @property
    def share(self) -> float:
        """Return the percentage of passing cases among those that Keras runs."""
        return 100 * self.passed / (self.cases - self.skipped)

    def __str__(self) -> str:
        return (
            f"{self.passed} pass ({self.share:.1f} % of those that Keras runs), {self.left_out} left out, "
            f"{self.differ} differ, {self.skipped} skipped by Keras: {self.cases} cases"
        )


def figures(cases: dict[str, Any]) -> Figures:
    """Count the cases of one table."""
    out = {case for case in cases if left_out.reason(case, left_out.LEFT_OUT)}
    differ = {case for case in cases if left_out.reason(case, left_out.DIFFERS)} - out
    skipped = {case for case, cls in cases.items() if collect.skipped(case, cls)} - out
    return Figures(len(cases), len(out), len(differ), len(skipped))


if __name__ == "__main__":
    print("convolutions:", figures(CONVOLUTIONS))
    print("others:      ", figures(OTHERS))
    print("recurrent:   ", figures(RECURRENT))
