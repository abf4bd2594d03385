"""The learning-rate range test: a short run whose learning rate grows at each step, and the rate that it suggests."""

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Params
from jaxconv.errors import explain, require
from jaxconv.training.data import is_loader, reading
from jaxconv.training.evaluation import check_model
from jaxconv.training.loop import NonFiniteLoss
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.optimizers import optimizer as resolve_optimizer
from jaxconv.training.optimizers import with_learning_rate
from jaxconv.training.options import LARGEST, Options
from jaxconv.training.placement import Placement
from jaxconv.training.run_data import RunData, run_data
from jaxconv.training.step import init_state, train_step
from jaxconv.training.terms import metric_values


class RangeTest(NamedTuple):
    """The result of a learning-rate range test.

    rates: the learning rate of each step, up to the step at which the loss diverged.
    losses: the loss of each step's batch, before the step's update.
    smoothed: the exponential moving average of the losses, with bias correction.
    suggestion: the rate at which the loss falls most steeply, or None if it never falls.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses against the learning rate, with a line at the suggestion, and return the figure.

        Args:
            ax: the matplotlib axes to draw on; by default those of a new figure, which is not registered with pyplot.

        Raises:
            ImportError: matplotlib is not installed.
        """
        if ax is None:
            require("matplotlib.figure", "RangeTest.plot", "matplotlib")
            from jaxconv.picture import Picture

            ax = Picture(figsize=(5.2, 3.5), dpi=110, layout="constrained").subplots()
        ax.plot(self.rates, self.losses, color="#bcd5ec", linewidth=1.0, label="loss of a batch")
        ax.plot(self.rates, self.smoothed, color="#0c3f7d", linewidth=1.6, label="smoothed")
        if self.suggestion is not None:
            label = f"suggestion {self.suggestion:.2g}"
            ax.axvline(self.suggestion, color="#d9720f", linewidth=1.2, linestyle="--", label=label)
        shown = self.smoothed[:-1] if len(self.smoothed) > 1 else self.smoothed  # the last one may be enormous
        low, high = shown.min(), shown.max()
        if high > low:
            ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend(frameon=False, fontsize=9)
        return ax.figure


def find_learning_rate(
    apply_fn: Any,
    params: Params,
    x: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    smoothing: float = 0.9,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    classes: Sequence[Any] | None = None,
    clip_norm: float | None = None,
    seed: int = 0,
) -> RangeTest:
    """Suggest a learning rate: train for a few steps while the rate grows exponentially, and observe the loss.

    The suggestion is the rate at which the loss falls most steeply against the logarithm of the rate, up to the
    smallest smoothed loss. The slope is computed from averages over the steps on both sides, since a moving average of
    earlier steps lags. With 100 steps the suggestion is 2 to 40 times smaller than the best constant rate of a convex
    problem; with more steps it is smaller, because the loss falls earlier. The test ends early if the loss diverges: if
    it is not finite, or if the smoothed loss is above 4 times the smallest one. The first tenth of the steps is ignored
    because its averages have few terms.

    Args:
        apply_fn, params: the model; ``params`` is not changed.
        x, y: arrays or a loader, as in ``fit``: the same batches in the same order, for as many passes as needed.
        loss: a name, a table or a callable; see ``losses.loss``.
        optimizer: a name, a table, whose learning rate is replaced, or a function of a schedule such as ``optax.adam``.
            Not ``optimistic_adam``, ``polyak_sgd``, ``rprop`` or ``sm3``, which do not take schedules.
        lowest, highest: the learning rates of the first and of the last step.
        steps: the number of steps, at least 5.
        batch_size: samples per step; a loader has its own.
        smoothing: the share of the old value that the moving average of the loss keeps at each step. The noise of small
            batches needs a larger share.
        sample_weight, class_weight, classes, clip_norm, seed: as in ``fit``.

    Returns:
        A ``RangeTest``: the rates, losses, smoothed losses and the suggestion; ``.plot()`` draws them.

    Raises:
        ValueError, TypeError: invalid arguments.
        NonFiniteLoss: the loss of the first batch, before any update, is NaN or infinite.

    Source: Smith 2017, arXiv:1506.01186; the suggestion is that of fast.ai.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 2))
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> found = find_learning_rate(apply_fn, params, x, x.sum(1, keepdims=True), loss="mse", optimizer="sgd")
    >>> 1e-3 < found.suggestion < 1, len(found.rates) < 100
    (True, True)
    """
    check_model(apply_fn, params)
    with explain("find_learning_rate"):
        rates = _rates(lowest, highest, steps)
    if not (isinstance(smoothing, numbers.Real) and 0 <= smoothing < 1):
        raise ValueError(f"find_learning_rate: smoothing is {smoothing!r}; expected from 0 up to, not including, 1")
    count = len(rates) if is_loader(x, numbers=y is not None) else None
    with explain("find_learning_rate"):
        options = Options(batch_size=batch_size, steps_per_epoch=count, seed=seed, clip_norm=clip_norm)
    loss = resolve_loss(loss)
    data = run_data(options, apply_fn, params, loss, (x, y, sample_weight), None, class_weight, classes)
    transformation = _growing(optimizer, rates, options.clip_norm)
    state = init_state(apply_fn, params, transformation)
    step = jax.jit(train_step(apply_fn, loss, transformation))
    return _range_test(rates, _losses(step, state, data, len(rates), options.seed), float(smoothing))


def _rates(lowest: float, highest: float, steps: int) -> np.ndarray:
    if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or not 5 <= steps <= LARGEST:
        raise ValueError(f"steps is {steps!r}; expected an integer from 5 to {LARGEST}")
    if not all(isinstance(rate, numbers.Real) and math.isfinite(rate) for rate in (lowest, highest)):
        raise ValueError(f"lowest is {lowest!r} and highest is {highest!r}; both must be finite numbers")
    if not 0 < lowest < highest:
        raise ValueError(f"lowest is {lowest!r} and highest is {highest!r}; lowest must be above 0 and below highest")
    return np.geomspace(float(lowest), float(highest), int(steps))


def _growing(optimizer: Any, rates: np.ndarray, clip_norm: float | None) -> Any:
    """Return the optimizer with these learning rates, one for each step."""
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        got = f"find_learning_rate: the optimizer is a {type(optimizer).__name__}, whose learning rate is fixed"
        raise TypeError(f"{got}; give a name, a table, or a function of the rate such as optax.adam")
    schedule = jnp.asarray(rates).__getitem__
    spec = optimizer(schedule) if callable(optimizer) else with_learning_rate(optimizer, schedule)
    return resolve_optimizer(spec, len(rates), clip_norm)


def _losses(step: Any, state: Any, data: RunData, steps: int, seed: int) -> Iterator[float]:
    """Yield the loss of each batch before its update."""
    key = jax.random.key(seed)
    place = Placement().batch
    with reading(data.training, epochs=steps, place=lambda batch: place(data.prepare(batch))) as stream:
        for index, batch in zip(range(steps), (batch for batch in stream if batch is not None), strict=False):
            x, y, weight, _ = batch
            state, sums = step(state, x, y, jax.random.fold_in(key, index), weight)
            yield metric_values(sums, ())["loss"]


def _range_test(rates: np.ndarray, batch_losses: Iterator[float], smoothing: float) -> RangeTest:
    """Smooth the losses until they diverge, and find the suggestion."""
    unjudged = len(rates) // 10
    losses: list[float] = []
    smoothed: list[float] = []
    average, smallest = 0.0, math.inf
    for done, value in enumerate(batch_losses, 1):
        if not math.isfinite(value):
            if done == 1:
                got = f"find_learning_rate: the loss of the first batch is {value}, before any update"
                raise NonFiniteLoss(f"{got}; look for values in the data or in params that are not finite")
            break
        average = smoothing * average + (1 - smoothing) * value
        losses.append(value)
        smoothed.append(average / (1 - smoothing**done))
        if done > unjudged:
            smallest = min(smallest, smoothed[-1])
            # 4 times a positive loss; a negative loss has no meaningful zero, so the first loss also sets the scale
            scale = smallest if smallest > 0 else max(-smallest, abs(smoothed[0]))
            if smoothed[-1] > smallest + 3 * scale:
                break
    found, means = np.array(losses), np.array(smoothed)
    rates = rates[: len(means)]
    return RangeTest(rates, found, means, _suggestion(rates, found, means, unjudged, smoothing))


def _suggestion(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, unjudged: int, share: float
) -> float | None:
    """Return the rate of the steepest descent up to the smallest smoothed loss, or None if there is no descent."""
    if len(smoothed) < unjudged + 2:
        return None
    last = unjudged + int(np.argmin(smoothed[unjudged:]))
    if last == unjudged:
        return None
    means = _average_both_sides(losses[: last + 1], share)
    slopes = np.gradient(means, np.log(rates[: last + 1]))[unjudged:]
    return float(rates[unjudged + int(np.argmin(slopes))])


def _average_both_sides(values: np.ndarray, share: float) -> np.ndarray:
    """Average values over their neighbours on both sides with weights ``share**distance``, so that there is no lag."""
    weights = share ** np.abs(np.arange(1.0 - len(values), len(values)))
    return np.convolve(weights, values, "valid") / np.convolve(weights, np.ones_like(values), "valid")
