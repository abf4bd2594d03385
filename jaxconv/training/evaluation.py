"""Evaluation and prediction batch by batch, in order, over data that may be larger than memory.

Knows ``apply_fn``, losses and metrics. It does not train and writes no files.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import Metric
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.mistakes import check_output, output_for, warn_channels_first
from jaxconv.training.step import Sums, eval_step, metric_values

_MOST_PENDING = 32  # batches
_LONGEST_WAIT = 0.5  # seconds


def evaluate(
    apply_fn: Any, params: Params, x: Any, y: Any, *, loss: Any, metrics: Any = (), batch_size: int = 32
) -> dict[str, float]:
    """Return the mean loss over all samples (penalties included, as in Keras) and each metric.

    Args:
        apply_fn, params: the model.
        x, y: arrays ``(samples, ...)``; of memory maps only the rows of one batch are read at a time.
        loss, metrics: names, tables or objects; see ``losses.loss`` and ``metrics.metric``.
        batch_size: samples per step; the results do not depend on it.

    Raises:
        ValueError: no samples, x and y of different lengths, labels that are not classes of the output, or shapes that
            do not fit the model or the loss.
        TypeError: ``apply_fn, params`` are not a model.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1, kernel_initializer="ones").init(jax.random.key(0), (None, 2))
    >>> evaluate(apply_fn, params, np.ones((3, 2)), np.ones((3, 1)), loss="mse", metrics="mae")
    {'loss': 1.0, 'mae': 1.0}
    """
    check_model(apply_fn, params)
    x, y = as_samples(x, y)
    loss, metrics = resolve_loss(loss), resolve_metrics(metrics)
    check_labels(apply_fn, params, loss, (x, y))
    accumulator = Accumulator()
    for sums in batch_sums(apply_fn, params, x, y, loss, metrics, batch_size):
        accumulator.add(sums)
    return metric_values(accumulator.collect(), metrics)


def batch_sums(
    apply_fn: Any, params: Params, x: Any, y: Any, loss: Any, metrics: Sequence[Metric], batch_size: int
) -> Iterator[Sums]:
    """Yield the sums of each batch. The arguments are resolved and checked already."""
    step = _compiled(apply_fn, loss, tuple(metrics))
    for rows in batch_slices(len(x), batch_size):
        yield step(params, host_batch(x, rows), host_batch(y, rows))


def cached(make: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that compiles: equal arguments give the same compiled object.

    If an argument is not hashable, such as a user's own metric, the function is called every time.
    """
    cached_make = functools.lru_cache(maxsize=16)(make)

    @functools.wraps(make)
    def get(*arguments: Any) -> Any:
        try:
            hash(arguments)
        except TypeError:
            return make(*arguments)
        return cached_make(*arguments)

    return get


@cached
def _compiled(apply_fn: Any, loss: Any, metrics: tuple[Metric, ...]) -> Callable[..., Sums]:
    return jax.jit(eval_step(apply_fn, loss, metrics))


def predict_batches(apply_fn: Any, params: Params, x: Any, batch_size: int = 32) -> Iterator[Any]:
    """Yield the model's output for each batch of ``x``, in order.

    Args as in :func:`evaluate`; ``x`` may also be a dict of arrays, for a model of several inputs. Several outputs are
    yielded in their structure.
    """
    check_model(apply_fn, params)
    inputs = dict(zip(x, as_samples(*x.values()), strict=True)) if isinstance(x, Mapping) else as_samples(x)[0]
    if not isinstance(x, Mapping):
        output_for(apply_fn, params, inputs)
    step = jax.jit(apply_fn)
    for rows in batch_slices(len(jax.tree.leaves(inputs)[0]), batch_size):
        y = step(params, jax.tree.map(lambda array: host_batch(array, rows), inputs))  # noqa: B023
        yield jax.tree.map(np.asarray, y)


def predict(apply_fn: Any, params: Params, x: Any, batch_size: int = 32) -> np.ndarray:
    """Return the model's output for all of ``x``: ``(samples, ...)``. Args as in :func:`evaluate`.

    >>> from jaxconv.layers.reshaping import Flatten
    >>> params, apply_fn = Flatten().init(jax.random.key(0), (None, 2, 2))
    >>> predict(apply_fn, params, np.ones((5, 2, 2)), batch_size=2).shape
    (5, 4)
    """
    return np.concatenate(list(predict_batches(apply_fn, params, x, batch_size)))


def host_batch(array: np.ndarray, rows: Any) -> np.ndarray:
    """Return rows of an array in the dtype that the device will have, with the same values.

    Without 64-bit types JAX converts int64 to int32, and integers outside int32 wrap. Such a batch becomes float32.
    Foreign byte order, which JAX refuses, becomes native.
    """
    batch = np.asarray(array[rows])
    dtype = device_dtype(batch.dtype)
    if dtype.kind in "iu" and dtype.itemsize < batch.dtype.itemsize and batch.size:
        limits = np.iinfo(dtype)
        if batch.min() < limits.min or batch.max() > limits.max:
            return batch.astype(np.float32)
    return batch.astype(batch.dtype.newbyteorder("="), copy=False)


def device_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of an array of this dtype on the device.

    >>> device_dtype(np.dtype(">i8"))
    dtype('int32')
    """
    return jax.dtypes.canonicalize_dtype(dtype.newbyteorder("="))


def batch_slices(count: int, batch_size: int) -> Iterator[slice]:
    """Yield the rows of each batch; the last one may be smaller."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; legal: an integer of at least 1")
    for start in range(0, count, batch_size):
        yield slice(start, min(start + batch_size, count))


def check_model(apply_fn: Any, params: Any) -> None:
    """Check that the arguments are what ``layer.init`` returns, in this order. Raises TypeError."""
    if not callable(apply_fn) or hasattr(apply_fn, "init") or not isinstance(params, Mapping):
        hint = "; of the result of fit, pass .params" if hasattr(params, "params") else ""
        raise TypeError(
            f"the model is given as {type(apply_fn).__name__} and {type(params).__name__}; "
            f"give apply_fn and params, in this order: params, apply_fn = layer.init(key, x){hint}"
        )


def check_labels(apply_fn: Any, params: Params, loss: Any, *data: tuple[Any, Any] | None) -> None:
    """Check all samples, and targets if the loss has a method ``check``, before anything is computed."""
    check_output(apply_fn, loss)
    for x, y in (pair for pair in data if pair is not None):
        output = output_for(apply_fn, params, x)
        warn_channels_first(apply_fn, x)
        if hasattr(loss, "check"):
            loss.check(y, output.shape)


def as_samples(x: Any, *y: Any) -> tuple[Any, ...]:
    """Return arrays of numbers with the same number of samples, at least one. Memory maps are not read.

    Raises:
        TypeError: an array that does not contain numbers.
        ValueError: no samples, or different numbers of them.
    """
    arrays = tuple(array if isinstance(array, np.ndarray) else np.asarray(array) for array in (x, *y))
    for name, array in zip("xy", arrays, strict=False):
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{name} has shape {array.shape}; at least one sample is expected, samples first")
        if not (array.dtype.kind in "biufc" or jax.numpy.issubdtype(array.dtype, np.number)):
            raise TypeError(f"{name} has dtype {array.dtype}; numbers are expected")
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(f"x has {len(arrays[0])} samples and y has {len(arrays[1])}; the numbers must be equal")
    return arrays


class Accumulator:
    """Adds the sums of batches in float64, with a delay, so that the device does not wait for Python.

    Args:
        total: the sums so far.
    """

    def __init__(self, total: dict[str, np.ndarray] | None = None):
        self.total = dict(total or {})
        self.nonfinite_batch: int | None = None  # the first one whose loss is not finite, counted from 0
        self.nonfinite_loss = 0.0
        self._pending: list[Sums] = []
        self._added = 0
        self._last_collected = time.monotonic()

    def add(self, sums: Sums) -> None:
        """Add the sums of one batch, which the device may still be computing."""
        self._pending.append(sums)
        if len(self._pending) >= _MOST_PENDING or time.monotonic() - self._last_collected > _LONGEST_WAIT:
            self.collect(keep=1)

    def collect(self, keep: int = 0) -> dict[str, np.ndarray]:
        """Wait for all batches except the last ``keep`` and return the total."""
        ready = self._pending[: len(self._pending) - keep]
        self._pending = self._pending[len(ready) :]
        for sums in jax.device_get(ready):
            if self.nonfinite_batch is None and not np.isfinite(sums["loss"]):
                self.nonfinite_batch, self.nonfinite_loss = self._added, float(sums["loss"])
            self._added += 1
            for name, value in sums.items():
                self.total[name] = self.total.get(name, 0.0) + np.asarray(value, np.float64)
        self._last_collected = time.monotonic()
        return self.total
