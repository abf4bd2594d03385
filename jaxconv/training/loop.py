"""The training loop: it runs epochs until all are done or there is a reason to stop.

``fit`` has checked the arguments. Only callbacks print.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.training.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    EndEvent,
    EpochEvent,
    EpochLog,
    Event,
    ProgressDisplay,
    StepEvent,
    TensorBoard,
    improved,
)
from jaxconv.training.checkpoint import Progress
from jaxconv.training.data import Batch, Loader, reading
from jaxconv.training.evaluation import Accumulator, batch_sums
from jaxconv.training.interrupt import StopRequest
from jaxconv.training.metrics import Metric
from jaxconv.training.options import Options
from jaxconv.training.placement import Placement
from jaxconv.training.run_data import RunData
from jaxconv.training.step import averaged_params
from jaxconv.training.terms import metric_values

# callbacks whose result does not stop training; the loop itself evaluates EarlyStopping, in all processes
DECIDE_NOTHING = (CSVLogger, EarlyStopping, ProgressDisplay, TensorBoard)


class Fitted(NamedTuple):
    """The result of training.

    params: the weights of the best epoch if ``best_weights`` was given, otherwise the last ones; with ``ema``, the
        averaged ones.
    history: one log per epoch, as passed to the callbacks.
    best_epoch: the epoch of ``params``, counted from 1, if ``best_weights`` was given; otherwise None.
    stopped: ``"epochs"`` (all done), ``"early_stopping"``, ``"callback"`` (one returned True), or ``"interrupted"``
        (inside :class:`Interrupted` only).
    classes: the label of each output if the targets were labels other than 0, 1, ...; otherwise None.
    """

    params: Params
    history: list[EpochLog]
    best_epoch: int | None
    stopped: str
    classes: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        leaves = jax.tree.leaves(self.params)
        last = f", the last {self.history[-1]}" if self.history else ""
        return (
            f"Fitted(params of {sum(leaf.size for leaf in leaves):,} numbers, {len(self.history)} epochs{last}, "
            f"best_epoch={self.best_epoch}, stopped={self.stopped!r}, classes={self.classes})"
        )


class NonFiniteLoss(FloatingPointError):
    """Training stopped because the loss, or a weight, is NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """Training stopped on Ctrl-C or SIGTERM, after the current step.

    Attributes:
        fitted: the result so far.
        epoch, step: the current epoch, counted from 1, and the steps completed in it.
        checkpoint: the file from which ``resume=True`` continues, or None if there is no checkpoint.
        signal: the number of the signal.
    """

    def __init__(self, message: str, fitted: Fitted, progress: Progress, checkpoint: Path | None, signal: int):
        super().__init__(message)
        self.fitted, self.checkpoint, self.signal = fitted, checkpoint, signal
        self.epoch, self.step = progress.epoch + 1, progress.step


@dataclasses.dataclass(frozen=True)
class Loop:
    """The arguments of one run, resolved and checked. The methods map a ``Progress`` to the next one.

    Args:
        step: ``(state, batches, epoch, step) -> (state, sums)``: one update from ``options.accumulate`` batches.
        data: training and validation data.
        learning_rate: a function from the number of completed steps to the learning rate of the next step, or None if
            it is unknown.
        save: a function that writes a ``Progress`` to ``checkpoint``; it does nothing if ``checkpoint`` is None.
        placement: the devices of the batches and weights.
        others: as in ``fit``.
    """

    apply_fn: Any
    options: Options
    step: Callable[..., Any]
    data: RunData
    loss: Any
    metrics: Sequence[Metric]
    learning_rate: Callable[[int], float] | None
    callbacks: Sequence[Callback]
    checkpoint: Path | None
    save: Callable[[Progress], None]
    placement: Placement

    @property
    def steps(self) -> int | None:
        """Return the number of steps per epoch, or None if it is not known."""
        batches = self.data.training.steps
        return None if batches is None else math.ceil(batches / self.options.accumulate)

    @property
    def maximized(self) -> frozenset[str]:
        """Return the names of the metrics that are maximized."""
        return frozenset(m.name for m in self.metrics if m.higher_is_better)

    def run(self, progress: Progress, stop: StopRequest) -> Fitted:
        """Train until all epochs are done or there is a reason to stop, then send the callbacks an ``EndEvent``."""
        ended, history = "error", progress.history
        try:
            read = progress.step * self.options.accumulate
            with reading(
                self.data.training, progress.epoch, self.options.epochs, read, progress.data,
                place=lambda batch: self.placement.batch(self.data.prepare(batch)),
            ) as stream:  # fmt: skip
                fitted = self.run_epochs(progress, stop, stream)
            ended, history = fitted.stopped, tuple(fitted.history)
            return fitted
        except Interrupted as interrupted:
            ended, history = "interrupted", tuple(interrupted.fitted.history)
            raise
        finally:
            self.tell(EndEvent(ended, list(history)))

    def run_epochs(self, progress: Progress, stop: StopRequest, stream: Iterator[Batch | None]) -> Fitted:
        """Run the remaining epochs, or fewer if there is a reason to stop."""
        stopped = self.stopped_early(progress)
        while progress.epoch < self.options.epochs and not stopped:
            progress, by_callback = self.train_epoch(progress, stop, stream)
            if by_callback and not stop:
                self.save(progress)
                return self.fitted(progress, "callback")
            params = averaged_params(self.apply_fn, progress.state)
            log = self.epoch_log(progress, params, stop)
            if stop:
                self.interrupt(progress, stop)
            progress = self.end_epoch(progress, log, params)
            stopped = self.stopped_early(progress)
            done = progress.epoch == self.options.epochs or bool(stopped)
            saved = done or progress.epoch % self.options.checkpoint_every == 0
            if saved:
                self.save(progress)
            history = list(progress.history)
            event = EpochEvent(progress.epoch, self.options.epochs, log, history, params, self.maximized)
            if self.tell(event) and not stopped:
                stopped = "callback"
                if not saved:
                    self.save(progress)
        if stop:
            self.interrupt(progress, stop)
        return self.fitted(progress, stopped or "epochs")

    def tell(self, event: Event) -> bool:
        """Call all callbacks, in the first process only, and return whether one of them returned True."""
        told = self.placement.writes and any([_stops(callback, event) for callback in self.callbacks])
        if isinstance(event, EndEvent) or all(isinstance(callback, DECIDE_NOTHING) for callback in self.callbacks):
            return told
        return self.placement.agree(told)

    def stopped_early(self, progress: Progress) -> str:
        """Return "early_stopping" if an ``EarlyStopping`` callback stops training, otherwise an empty string."""
        rules = [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]
        stop = any(rule.should_stop(progress.history, self.maximized) for rule in rules)
        return "early_stopping" if progress.history and stop else ""

    def train_epoch(
        self, progress: Progress, stop: StopRequest, stream: Iterator[Batch | None]
    ) -> tuple[Progress, bool]:
        """Run the remaining steps of the current epoch, or fewer; also return whether a callback requested a stop."""
        accumulator, by_callback = Accumulator(progress.sums), False
        state, done, data = progress.state, progress.step, progress.data
        batches: Iterator[Any] = iter(stream.__next__, None)
        while group := list(itertools.islice(batches, self.options.accumulate)):
            state, sums = self.step(state, group, np.int32(progress.epoch), done)
            done, data = done + 1, group[-1].state
            accumulator.add(sums)
            self.check_finite(accumulator, progress)
            if not all(isinstance(callback, EarlyStopping) for callback in self.callbacks):
                so_far = metric_values(accumulator.total, self.metrics) if accumulator.total else {}
                event = StepEvent(progress.epoch + 1, self.options.epochs, done, self.steps, so_far)
                by_callback = self.tell(event)
            if stop or by_callback:
                break
        accumulator.collect()
        self.check_finite(accumulator, progress)
        updates = progress.updates + done - progress.step
        if not _all_finite(state.trainable):  # no loss has been computed from the weights of the last update
            raise self.nonfinite_error("a weight is not finite", progress.epoch, done, updates)
        changed = {"state": state, "step": done, "sums": accumulator.total, "updates": updates, "data": data}
        return dataclasses.replace(progress, **changed), by_callback

    def check_finite(self, accumulator: Accumulator, before: Progress) -> None:
        """Raise NonFiniteLoss if a loss was not finite; ``before`` is the progress at the accumulator's first batch."""
        batch = accumulator.nonfinite_batch
        if batch is not None:
            what = f"the loss became {accumulator.nonfinite_loss}"
            raise self.nonfinite_error(what, before.epoch, before.step + batch + 1, before.updates + batch + 1)

    def nonfinite_error(self, what: str, epoch: int, step: int, updates: int) -> NonFiniteLoss:
        """Return the error for a number that is not finite; the message says where it appeared and what to try."""
        rate = "" if self.learning_rate is None else f" (it was {self.learning_rate(updates - 1):.3g})"
        saved = self.checkpoint is not None and self.checkpoint.exists()
        last = f"; the last good checkpoint is {self.checkpoint}" if saved else ""
        remedy = f"try a smaller learning rate{rate}, clip gradients (clip_norm)"
        where = f"{what} in epoch {epoch + 1}, step {self._position(step)}"
        return NonFiniteLoss(f"{where}; {remedy}, or look for values in the data that are not finite{last}")

    def _position(self, step: int) -> str:
        """Return a step as text, with the number of steps per epoch if it is known."""
        return str(step) if self.steps is None else f"{step} of {self.steps}"

    def epoch_log(self, progress: Progress, params: Params, stop: StopRequest) -> EpochLog:
        """Compute the epoch's log, including validation with ``params``; it is incomplete if a stop is requested."""
        log: EpochLog = {"epoch": progress.epoch + 1, **metric_values(progress.sums, self.metrics)}
        if self.data.validation is not None:
            accumulator, prepare = Accumulator(), self.data.prepare_validation
            arguments = self.data.validation, prepare, self.loss, self.metrics, self.placement
            for sums in batch_sums(self.apply_fn, params, *arguments):
                accumulator.add(sums)
                if stop:
                    return log
            log |= {f"val_{name}": value for name, value in metric_values(accumulator.collect(), self.metrics).items()}
            if not math.isfinite(log["val_loss"]):
                what = f"the validation loss became {log['val_loss']}"
                raise self.nonfinite_error(what, progress.epoch, progress.step, progress.updates)
        if self.learning_rate is not None:
            log["learning_rate"] = self.learning_rate(progress.updates - 1)
        return log

    def end_epoch(self, progress: Progress, log: EpochLog, params: Params) -> Progress:
        """Append the epoch's log to the history and compare it with the best epoch so far."""
        new: dict[str, Any] = {"epoch": progress.epoch + 1, "step": 0, "sums": {}}
        loader = self.data.training
        if not (isinstance(loader, Loader) and (loader.continues or loader.keeps_state)):
            new["data"] = None  # the next epoch is a separate pass
        best = self.options.best_weights
        if best is not None and improved(best, log[best], progress.best_value, self.maximized):
            new |= {"best_value": log[best], "best_epoch": log["epoch"], "best_params": params}
        return dataclasses.replace(progress, history=(*progress.history, log), **new)

    def fitted(self, progress: Progress, stopped: str) -> Fitted:
        """Return the result so far."""
        params = progress.best_params
        params = averaged_params(self.apply_fn, progress.state) if params is None else params
        params, history = self.placement.returned(params), list(progress.history)
        return Fitted(params, history, progress.best_epoch, stopped, self.data.classes)

    def interrupt(self, progress: Progress, stop: StopRequest) -> None:
        """Save the progress and raise Interrupted."""
        self.save(progress)
        where = f"in epoch {progress.epoch + 1}, after step {self._position(progress.step)}"
        if progress.step == 0:
            where = f"after epoch {progress.epoch}, the last one"
        to = self.checkpoint
        saved = "nothing was saved" if to is None else f"saved to {to}; resume=True continues from there"
        fitted = self.fitted(progress, "interrupted")
        raise Interrupted(f"interrupted {where}; {saved}", fitted, progress, self.checkpoint, stop.signal or 0)


def _stops(callback: Callback, event: Event) -> bool:
    """Call a callback and return whether it returned True. Raises TypeError if it returned neither None nor a bool."""
    result = callback(event)
    if result is None or isinstance(event, EndEvent):
        return False
    if isinstance(result, bool):
        return result
    if isinstance(result, np.bool_ | np.ndarray | jax.Array) and result.dtype == bool and result.ndim == 0:
        return bool(result)
    name = getattr(callback, "__name__", type(callback).__name__)
    raise TypeError(f"fit: the callback {name} returned {result!r}; return True to stop training, or False or None")


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.array(True), *(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))]).all()
