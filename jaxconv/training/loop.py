"""The training loop: epoch after epoch, until all are done or there is a reason to stop.

Knows the steps, the accumulator and the checkpoint. It prints nothing; its arguments were checked by ``fit``.
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
from jaxconv.training.evaluation import Accumulator, batch_slices, batch_sums, host_batch
from jaxconv.training.interrupt import StopRequest
from jaxconv.training.metrics import Metric
from jaxconv.training.step import metric_values

EpochLog = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when a metric has not improved for some epochs.

    Args:
        monitor: a column of the log: ``"loss"``, ``"val_loss"``, ``"val_accuracy"``, ...
        patience: epochs without improvement before training stops; 0 stops at the first.
        min_delta: the smallest change that counts as an improvement, in units of the metric.
        mode: ``"min"``, ``"max"``, or ``"auto"``: as declared by the metric; a loss is minimized.
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
    """The result of training.

    params: the weights: those of the best epoch if ``best_weights`` was given, otherwise the last ones.
    history: one log per epoch, as passed to ``on_epoch``.
    best_epoch: the epoch of ``params``, counted from 1, if ``best_weights`` was given; otherwise None.
    stopped: ``"epochs"`` (all done), ``"early_stopping"``, or ``"interrupted"`` (inside :class:`Interrupted` only).
    """

    params: Params
    history: list[EpochLog]
    best_epoch: int | None
    stopped: str


class StepEvent(NamedTuple):
    """The progress of training after a step, for a progress bar.

    epoch, epochs: the current epoch, counted from 1, and their number.
    step, steps: the steps completed in this epoch, and their number.
    metrics: loss and metrics over the epoch so far, without the most recent steps; empty at first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: dict[str, float]


class NonFiniteLoss(FloatingPointError):
    """Training stopped because the loss, or a weight, is NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on Ctrl-C or SIGTERM, after the current step.

    Attributes:
        fitted: the result so far.
        epoch, step: the current epoch, counted from 1, and the steps completed in it.
        checkpoint: the file from which ``resume=True`` continues; None if there is no checkpoint.
        signal: the number of the signal.
    """

    def __init__(self, message: str, fitted: Fitted, progress: Progress, checkpoint: Path | None, signal: int):
        super().__init__(message)
        self.fitted, self.checkpoint, self.signal = fitted, checkpoint, signal
        self.epoch, self.step = progress.epoch + 1, progress.step


@dataclasses.dataclass(frozen=True)
class Loop:
    """The arguments of one run, resolved and checked. Its methods map one progress to the next.

    Args:
        step: ``(state, x, y, epoch, step) -> (state, sums)``, compiled.
        sample_order: epoch, from 0 -> the order of its samples.
        learning_rate: steps completed -> the learning rate of the next one; None if unknown.
        save: writes a progress to ``checkpoint``; does nothing if that is None.
        others: as in ``fit``.
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
    sample_order: Callable[[int], np.ndarray]
    learning_rate: Callable[[int], float] | None
    early_stopping: EarlyStopping | None
    best_weights: str | None
    checkpoint: Path | None
    checkpoint_every: int
    save: Callable[[Progress], None]
    on_epoch: Callable[[list[EpochLog], Params], None] | None
    on_step: Callable[[StepEvent], None] | None

    @property
    def steps(self) -> int:
        """Return the number of steps per epoch."""
        return math.ceil(len(self.x) / self.batch_size)

    def run(self, progress: Progress, stop: StopRequest) -> Fitted:
        """Train until all epochs are done or there is a reason to stop."""
        while progress.epoch < self.epochs and not self.should_stop(progress):
            progress = self.train_epoch(progress, stop)
            log = self.epoch_log(progress, stop)
            if stop:
                self.interrupt(progress, stop)
            progress = self.end_epoch(progress, log)
            done = progress.epoch == self.epochs or self.should_stop(progress)
            if done or progress.epoch % self.checkpoint_every == 0:
                self.save(progress)
            if self.on_epoch is not None:
                self.on_epoch(list(progress.history), progress.state.params)
        if stop:
            self.interrupt(progress, stop)
        return self.fitted(progress, "early_stopping" if self.should_stop(progress) else "epochs")

    def train_epoch(self, progress: Progress, stop: StopRequest) -> Progress:
        """Run the remaining steps of the current epoch, or fewer if a stop is requested."""
        order, accumulator = self.sample_order(progress.epoch), Accumulator(progress.sums)
        state, done = progress.state, progress.step
        for rows in itertools.islice(batch_slices(len(order), self.batch_size), done, None):
            index = order[rows]
            x, y = host_batch(self.x, index), host_batch(self.y, index)
            state, sums = self.step(state, x, y, np.int32(progress.epoch), np.int32(done))
            done += 1
            accumulator.add(sums)
            self.check_finite(accumulator, progress)
            if self.on_step is not None:
                so_far = metric_values(accumulator.total, self.metrics) if accumulator.total else {}
                self.on_step(StepEvent(progress.epoch + 1, self.epochs, done, self.steps, so_far))
            if stop:
                break
        accumulator.collect()
        self.check_finite(accumulator, progress)
        if not _all_finite(state.trainable):  # no loss has been computed from the weights of the last update
            raise self.nonfinite_error("a weight is not finite", progress.epoch, done)
        return dataclasses.replace(progress, state=state, step=done, sums=accumulator.total)

    def check_finite(self, accumulator: Accumulator, before: Progress) -> None:
        """Raise if a loss was not finite; ``before`` is the progress at the start of the accumulator."""
        batch = accumulator.nonfinite_batch
        if batch is not None:
            what = f"the loss became {accumulator.nonfinite_loss}"
            raise self.nonfinite_error(what, before.epoch, before.step + batch + 1)

    def nonfinite_error(self, what: str, epoch: int, step: int) -> NonFiniteLoss:
        """Return the error for a number that is not finite: where it appeared and what to try."""
        rate = ""
        if self.learning_rate is not None:
            rate = f" (it was {self.learning_rate(epoch * self.steps + step - 1):.3g})"
        last = ""
        if self.checkpoint is not None and self.checkpoint.exists():
            last = f"; the last good checkpoint is {self.checkpoint}"
        return NonFiniteLoss(
            f"{what} in epoch {epoch + 1}, step {step} of {self.steps}; try a smaller learning rate{rate}, clip "
            f"gradients (global_clipnorm), or look for values in the data that are not finite{last}"
        )

    def epoch_log(self, progress: Progress, stop: StopRequest) -> EpochLog:
        """Compute the epoch's log, validation included; incomplete if a stop is requested."""
        log: EpochLog = {"epoch": progress.epoch + 1, **metric_values(progress.sums, self.metrics)}
        if self.validation is not None:
            accumulator, params = Accumulator(), progress.state.params
            for sums in batch_sums(self.apply_fn, params, *self.validation, self.loss, self.metrics, self.batch_size):
                accumulator.add(sums)
                if stop:
                    return log
            log |= {f"val_{name}": value for name, value in metric_values(accumulator.collect(), self.metrics).items()}
            if not math.isfinite(log["val_loss"]):
                what = f"the validation loss became {log['val_loss']}"
                raise self.nonfinite_error(what, progress.epoch, progress.step)
        if self.learning_rate is not None:
            log["learning_rate"] = self.learning_rate((progress.epoch + 1) * self.steps - 1)
        return log

    def end_epoch(self, progress: Progress, log: EpochLog) -> Progress:
        """Append the epoch's log to the history and compare it with the best epoch so far."""
        new: dict[str, Any] = {"epoch": progress.epoch + 1, "step": 0, "sums": {}}
        if self.best_weights is not None:
            value = log[self.best_weights]
            if self.improved(self.best_weights, value, progress.best_value):
                new |= {"best_value": value, "best_epoch": log["epoch"], "best_params": progress.state.params}
        rule = self.early_stopping
        if rule is not None and progress.epoch >= rule.start_from_epoch:
            value = log[rule.monitor]
            improved = self.improved(rule.monitor, value, progress.stop_value, rule.min_delta, rule.mode)
            new |= {"stop_value": value, "waited": 0} if improved else {"waited": progress.waited + 1}
        return dataclasses.replace(progress, history=(*progress.history, log), **new)

    def improved(self, name: str, value: float, best: float | None, min_delta: float = 0.0, mode: str = "auto") -> bool:
        """Return whether a metric is better than the best value so far; NaN never is."""
        maximized = {m.name for m in self.metrics if m.higher_is_better}
        sign = -1.0 if mode == "max" or (mode == "auto" and name.removeprefix("val_") in maximized) else 1.0
        return not math.isnan(value) and (best is None or sign * value < sign * best - min_delta)

    def should_stop(self, progress: Progress) -> bool:
        """Return whether the patience of early stopping is used up."""
        return self.early_stopping is not None and progress.waited >= max(1, self.early_stopping.patience)

    def fitted(self, progress: Progress, stopped: str) -> Fitted:
        """Return the result so far."""
        best = progress.best_params
        params = progress.state.params if best is None else best
        return Fitted(params, list(progress.history), progress.best_epoch, stopped)

    def interrupt(self, progress: Progress, stop: StopRequest) -> None:
        """Save the progress and raise Interrupted."""
        self.save(progress)
        where = f"in epoch {progress.epoch + 1}, after step {progress.step} of {self.steps}"
        if progress.step == 0:
            where = f"after epoch {progress.epoch}, the last one"
        saved = "nothing was saved"
        if self.checkpoint is not None:
            saved = f"saved to {self.checkpoint}; resume=True continues from there"
        fitted = self.fitted(progress, "interrupted")
        raise Interrupted(f"interrupted {where}; {saved}", fitted, progress, self.checkpoint, stop.signal or 0)


@jax.jit
def _finite(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _all_finite(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return not leaves or bool(_finite(leaves))
