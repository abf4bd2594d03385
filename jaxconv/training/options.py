"""The options of a run that are plain values, and their checks."""

import dataclasses
import math
import numbers
from typing import Any

LARGEST = 2**31 - 1  # the step function gets the epoch as int32, and optax counts steps in int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Arguments of ``fit`` under the same names, converted to Python's types.

    Raises:
        ValueError: an invalid value; the message begins with the argument's name, to which the caller adds its own.
    """

    epochs: int = 1
    batch_size: int = 32
    steps_per_epoch: int | None = None
    shuffle: bool = True
    seed: int = 0
    validation_split: float = 0.0
    best_weights: str | None = None
    checkpoint_every: int = 1
    ema: float | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    remat: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every", "accumulate"):
            self._set_integer(name, 1, LARGEST)
        if self.steps_per_epoch is not None:
            self._set_integer("steps_per_epoch", 1, LARGEST)
        for name in ("shuffle", "remat"):
            self._check(isinstance(getattr(self, name), bool), name, "True or False")
        self._set_integer("seed", 0, 2**32 - 1)
        self._check(0 <= self.validation_split < 1, "validation_split", "from 0 up to, not including, 1")
        if self.ema is not None:
            self._check(_is_number(self.ema) and 0 <= self.ema < 1, "ema", "from 0 up to, not including, 1")
        if self.clip_norm is not None:
            self._check(_is_number(self.clip_norm) and self.clip_norm > 0, "clip_norm", "a number above 0")

    def _set_integer(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        self._check(integer and low <= value <= high, name, f"an integer from {low} to {high}")
        object.__setattr__(self, name, int(value))

    def _check(self, allowed: bool, name: str, what: str) -> None:
        if not allowed:
            raise ValueError(f"{name} is {getattr(self, name)!r}; expected {what}")

    def updates(self, batches: int | None) -> int | None:
        """Return the number of steps of a run from the number of batches per epoch, or None if that is not known."""
        return None if batches is None else min(math.ceil(batches / self.accumulate) * self.epochs, LARGEST)

    def kept(self) -> dict[str, Any]:
        """Return the options that a resumed run must share with the interrupted one."""
        changeable = {"epochs", "checkpoint_every", "validation_split", "remat"}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in changeable}


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
