"""The training loop itself: epoch after epoch, until all are done or there is a reason to stop.

Knows the steps, the meter and the checkpoint. It prints nothing and checks no arguments: ``fit`` did.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.registry import nearest
from jaxconv.training.checkpoint import Progress
from jaxconv.training.evaluation import Meter, batches, evaluation
from jaxconv.training.interrupt import Stop
from jaxconv.training.metrics import Metric
from jaxconv.training.step import figures

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a figure has not improved for a while.

    Args:
        monitor: a column of the log: ``"loss"``, ``"val_loss"``, ``"val_accuracy"``, ...
        patience: epochs without improvement before training stops; 0 stops at the first.
        min_delta: the least change that counts as an improvement, in units of the figure.
        mode: ``"min"``, ``"max"``, or ``"auto"``: as the metric says; a loss is better when lower.
        start_from_epoch: epochs at the beginning that do not count.
    """

    monitor: str = "val_loss"
    patience: int = 0
    min_delta: float = 0.0
    mode: Literal["auto", "min", "max"] = "auto"
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "min", "max"):
            hint = nearest(str(self.mode), ["auto", "min", "max"])
            raise ValueError(f"EarlyStopping: unknown mode {self.mode!r}; {hint}")
        for name in ("patience", "min_delta", "start_from_epoch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
                raise ValueError(f"EarlyStopping: {name} is {getattr(self, name)!r}; legal: a number of at least 0")


class Fitted(NamedTuple):
    """What training gives.

    params: the weights: the best ones where ``best_weights`` was asked for, else the last.
    history: one row per epoch, as ``on_epoch`` got them.
    best_epoch: the epoch, counted from 1, that ``params`` are from where ``best_weights`` was asked for; else None.
    stopped: ``"epochs"`` (all done), ``"early_stopping"``, or ``"interrupted"`` (inside :class:`Interrupted` only).
    """

    params: Params
    history: list[Row]
    best_epoch: int | None
    stopped: str


class Tick(NamedTuple):
    """Where training is after a step, for a progress bar.

    epoch, epochs: the epoch under way, counted from 1, of how many.
    step, steps: the steps taken of how many in this epoch.
    figures: loss and metrics over the epoch so far; some steps late, and empty at first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    figures: dict[str, float]


class NonFiniteLoss(FloatingPointError):
    """Training stopped because the loss, or a weight, is NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on Ctrl-C or SIGTERM, after the step under way.

    Attributes:
        fitted: what training has given so far.
        epoch, step: the epoch under way, counted from 1, and the steps taken of it.
        checkpoint: the file from which ``resume=True`` goes on; None where no checkpoint was asked for.
        signal: the signal's number.
    """

    def __init__(self, message: str, fitted: Fitted, progress: Progress, checkpoint: Path | None, signal: int):
        super().__init__(message)
        self.fitted, self.checkpoint, self.signal = fitted, checkpoint, signal
        self.epoch, self.step = progress.epoch + 1, progress.step


@dataclasses.dataclass(frozen=True)
class Loop:
    """The facts of one run, resolved and checked. Its methods lead from one progress to the next.

    Args:
        step: ``(state, x, y, epoch, step) -> (state, sums)``, compiled.
        order: epoch, from 0 -> the order in which it takes the samples.
        rate: steps taken -> the learning rate of the next one, where known.
        save: writes a progress to ``checkpoint``; does nothing where that is None.
        others: as ``fit``'s.
    """

    apply_fn: Any
    step: Callable[..., Any]
    x: Any
    y: Any
    validation: tuple[Any, Any] | None
    loss: Any
    metrics: Sequence[Metric]
    epochs: int
    batch_size: int
    order: Callable[[int], np.ndarray]
    rate: Callable[[int], float] | None
    early_stopping: EarlyStopping | None
    best_weights: str | None
    checkpoint: Path | None
    checkpoint_every: int
    save: Callable[[Progress], None]
    on_epoch: Callable[[list[Row], Params], None] | None
    on_step: Callable[[Tick], None] | None

    @property
    def steps(self) -> int:
        """Count the steps of an epoch."""
        return math.ceil(len(self.x) / self.batch_size)

    def run(self, progress: Progress, stop: Stop) -> Fitted:
        """Train until all epochs are done or a reason to stop comes up."""
        while progress.epoch < self.epochs and not self.has_enough(progress):
            progress = self.train_epoch(progress, stop)
            row = self.row(progress, stop)
            if stop:
                self.interrupt(progress, stop)
            progress = self.judge(progress, row)
            done = progress.epoch == self.epochs or self.has_enough(progress)
            if done or progress.epoch % self.checkpoint_every == 0:
                self.save(progress)
            if self.on_epoch is not None:
                self.on_epoch(list(progress.history), progress.state.params)
        if stop:
            self.interrupt(progress, stop)
        return self.fitted(progress, "early_stopping" if self.has_enough(progress) else "epochs")

    def train_epoch(self, progress: Progress, stop: Stop) -> Progress:
        """Take the steps that are left of the epoch under way, or some of them when a stop is asked for."""
        order, meter = self.order(progress.epoch), Meter(progress.sums)
        state, taken = progress.state, progress.step
        for rows in itertools.islice(batches(len(order), self.batch_size), taken, None):
            index = order[rows]
            x, y = np.asarray(self.x[index]), np.asarray(self.y[index])
            state, sums = self.step(state, x, y, np.int32(progress.epoch), np.int32(taken))
            taken += 1
            meter.add(sums)
            self.check(meter, progress)
            if self.on_step is not None:
                so_far = figures(meter.total, self.metrics) if meter.total else {}
                self.on_step(Tick(progress.epoch + 1, self.epochs, taken, self.steps, so_far))
            if stop:
                break
        meter.collect()
        self.check(meter, progress)
        if not _all_finite(state.trainable):  # the last update can spoil what no loss has seen yet
            raise self.trouble("a weight is not finite", progress.epoch, taken)
        return dataclasses.replace(progress, state=state, step=taken, sums=meter.total)

    def check(self, meter: Meter, before: Progress) -> None:
        """Raise where a loss was not finite; ``before`` is the progress that the meter started from."""
        if meter.bad_batch is not None:
            raise self.trouble(f"the loss became {meter.bad_loss}", before.epoch, before.step + meter.bad_batch + 1)

    def trouble(self, what: str, epoch: int, step: int) -> "NonFiniteLoss":
        """Say where a number went bad and what to do about it."""
        rate = "" if self.rate is None else f" (it was {self.rate(epoch * self.steps + step - 1):.3g})"
        kept = ""
        if self.checkpoint is not None and self.checkpoint.exists():
            kept = f"; the last good checkpoint is {self.checkpoint}"
        return NonFiniteLoss(
            f"{what} in epoch {epoch + 1}, step {step} of {self.steps}; try a smaller learning rate{rate}, clip "
            f"gradients (global_clipnorm), or look for values in the data that are not finite{kept}"
        )

    def row(self, progress: Progress, stop: Stop) -> Row:
        """Make the epoch's row, validation included; where a stop is asked for, the row ends early."""
        row: Row = {"epoch": progress.epoch + 1, **figures(progress.sums, self.metrics)}
        if self.validation is not None:
            meter, params = Meter(), progress.state.params
            for sums in evaluation(self.apply_fn, params, *self.validation, self.loss, self.metrics, self.batch_size):
                meter.add(sums)
                if stop:
                    return row
            row |= {f"val_{name}": value for name, value in figures(meter.collect(), self.metrics).items()}
            if not math.isfinite(row["val_loss"]):
                raise self.trouble(f"the validation loss became {row['val_loss']}", progress.epoch, progress.step)
        if self.rate is not None:
            row["learning_rate"] = self.rate((progress.epoch + 1) * self.steps - 1)
        return row

    def judge(self, progress: Progress, row: Row) -> Progress:
        """Close the epoch: enter its row, and compare it with the best so far."""
        new: dict[str, Any] = {"epoch": progress.epoch + 1, "step": 0, "sums": {}}
        if self.best_weights is not None:
            value = row[self.best_weights]
            if self.better(self.best_weights, value, progress.best_value):
                new |= {"best_value": value, "best_epoch": row["epoch"], "best_params": progress.state.params}
        rule = self.early_stopping
        if rule is not None and progress.epoch >= rule.start_from_epoch:
            value = row[rule.monitor]
            improved = self.better(rule.monitor, value, progress.stop_value, rule.min_delta, rule.mode)
            new |= {"stop_value": value, "waited": 0} if improved else {"waited": progress.waited + 1}
        return dataclasses.replace(progress, history=(*progress.history, row), **new)

    def better(self, name: str, value: float, best: float | None, min_delta: float = 0.0, mode: str = "auto") -> bool:
        """Say whether a figure beats the best one so far; NaN never does."""
        rising = {m.name for m in self.metrics if m.higher_is_better}
        sign = -1.0 if mode == "max" or (mode == "auto" and name.removeprefix("val_") in rising) else 1.0
        return not math.isnan(value) and (best is None or sign * value < sign * best - min_delta)

    def has_enough(self, progress: Progress) -> bool:
        """Say whether early stopping has run out of patience."""
        return self.early_stopping is not None and progress.waited >= max(1, self.early_stopping.patience)

    def fitted(self, progress: Progress, stopped: str) -> Fitted:
        """Give the result as it stands."""
        best = progress.best_params
        params = progress.state.params if best is None else best
        return Fitted(params, list(progress.history), progress.best_epoch, stopped)

    def interrupt(self, progress: Progress, stop: Stop) -> None:
        """Save, and raise Interrupted."""
        self.save(progress)
        where = f"in epoch {progress.epoch + 1}, after step {progress.step} of {self.steps}"
        if progress.step == 0:
            where = f"after epoch {progress.epoch}, the last one"
        saved = "nothing was saved"
        if self.checkpoint is not None:
            saved = f"saved to {self.checkpoint}, from where resume=True goes on"
        fitted = self.fitted(progress, "interrupted")
        raise Interrupted(f"interrupted {where}; {saved}", fitted, progress, self.checkpoint, stop.signal or 0)


@jax.jit
def _finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _all_finite(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return not leaves or bool(_finite(leaves))
