"""Evaluation and prediction batch by batch, in order, over data that may be larger than memory."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.errors import explain
from jaxconv.training.data import Arrays, Batch, Loader, as_numpy, as_samples, is_loader, lists_batches, reading, source
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import Metric, default_metrics
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.mistakes import check_inputs, check_output, check_targets, output_for
from jaxconv.training.options import Options
from jaxconv.training.placement import Placement
from jaxconv.training.step import eval_step
from jaxconv.training.targets import Targets, find_classes, output_shape
from jaxconv.training.terms import Sums, metric_values

_MOST_PENDING = 32  # batches
_LONGEST_WAIT = 0.5  # seconds


def evaluate(
    apply_fn: Any,
    params: Params,
    x: Any,
    y: Any = None,
    *,
    loss: Any,
    metrics: Any = None,
    weighted_metrics: Any = (),
    sample_weight: Any = None,
    classes: Sequence[Any] | None = None,
    batch_size: int = 32,
    sharding: Any = None,
) -> dict[str, float]:
    """Return the mean loss over all samples (penalties included, as in Keras) and each metric.

    Args:
        apply_fn, params: the model.
        x, y: arrays ``(samples, ...)``; memory maps are read one batch at a time. Several inputs are a dict of arrays.
            Or a loader as ``x``, which yields batches ``(x, y)`` or ``(x, y, sample_weight)``; see ``fit``.
        loss, metrics, weighted_metrics: names, tables or objects; see ``losses.loss`` and ``metrics.metric``. By
            default the accuracy if the loss is a crossentropy, as in ``fit``.
        sample_weight: ``(samples,)``, or ``(samples, steps)`` if there is a target for each step.
        classes: the label of each output, as in the result of ``fit``; needed for labels other than 0, 1, ... if not
            all of them are in ``y``.
        batch_size: samples per step; the results do not depend on it.
        sharding: the sharding of a batch over devices; see ``fit``.

    Returns:
        The mean loss under ``"loss"``, and the value of each metric under its name.

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
    loss = resolve_loss(loss)
    check_output(apply_fn, loss)
    check_targets(apply_fn, y)
    if y is not None:
        check_inputs(apply_fn, x)
    with explain("evaluate"):
        options = Options(batch_size=batch_size)
    data = source(x, y, sample_weight, batch_size=options.batch_size)
    placement = Placement.of(sharding, (x, y, sample_weight))
    placement.check(data)
    metrics = resolve_metrics(default_metrics(loss) if metrics is None else metrics, weighted_metrics)
    with placement.active():
        params = placement.put(params)
        outputs = output_shape(apply_fn, params)
        if classes is None and isinstance(data, Arrays):
            classes = find_classes(loss, data.y, functools.partial(outputs, data.x), "y")
        data, prepare = Targets(loss, outputs, None if classes is None else tuple(classes)).prepare(data)
        accumulator = Accumulator()
        for sums in batch_sums(apply_fn, params, data, prepare, loss, metrics, placement):
            accumulator.add(sums)
    return metric_values(accumulator.collect(), metrics)


def batch_sums(
    apply_fn: Any,
    params: Params,
    data: Arrays | Loader,
    prepare: Callable[[Batch], Batch],
    loss: Any,
    metrics: Sequence[Metric],
    placement: Placement,
) -> Iterator[Sums]:
    """Yield the sums of each batch. The arguments are already resolved and checked."""
    step = _compiled(apply_fn, loss, tuple(metrics), placement)
    with reading(data, place=lambda batch: placement.batch(prepare(batch))) as stream:
        for batch in stream:
            if batch is not None:
                yield step(params, *batch[:3])


def cached(make: Callable[..., Any]) -> Callable[..., Any]:
    """Cache the results of a function that compiles: equal arguments give the same compiled object.

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
def _compiled(apply_fn: Any, loss: Any, metrics: tuple[Metric, ...], placement: Placement) -> Callable[..., Sums]:
    return jax.jit(eval_step(apply_fn, loss, metrics), out_shardings=placement.replicated)


def predict_batches(
    apply_fn: Any, params: Params, x: Any, batch_size: int = 32, *, sharding: Any = None
) -> Iterator[Any]:
    """Yield the model's output for each batch of ``x``, in order.

    Args as in :func:`evaluate`; ``x`` may also be a dict of arrays, for a model with several inputs. Targets and
    weights that a loader yields are ignored. Several outputs are yielded in their structure.
    """
    check_model(apply_fn, params)
    with explain("predict"):
        options = Options(batch_size=batch_size)
    placement = Placement.of(sharding, x)
    with placement.active():
        params = placement.put(params)
        data = placement.check(_inputs(apply_fn, params, x, options.batch_size))
    step = jax.jit(apply_fn, out_shardings=placement.replicated if placement.several_processes else None)
    with reading(data, place=lambda batch: placement.batch(Batch(batch.x))) as stream:
        for batch in stream:
            if batch is not None:
                with placement.active():  # not while the generator waits
                    output = step(params, batch.x)
                yield jax.tree.map(np.asarray, output)


def _inputs(apply_fn: Any, params: Params, x: Any, batch_size: int) -> Arrays | Loader:
    """Return the source of the batches for prediction."""
    if is_loader(x, numbers=True):
        return source(x)
    check_inputs(apply_fn, x)
    if lists_batches(x):
        _check_list(apply_fn, params, x)
        return source(x)
    inputs = as_samples(**x) if isinstance(x, Mapping) else as_samples(x=x)["x"]
    if not isinstance(x, Mapping):
        output_for(apply_fn, params, inputs)
    return Arrays(inputs, batch_size=batch_size)


def _check_list(apply_fn: Any, params: Params, batches: Sequence[Any]) -> None:
    """Raise ValueError if the model does not accept the first array of a list as a batch."""
    first = as_numpy(batches[0])
    try:
        output_for(apply_fn, params, first)
    except ValueError as error:
        got = f"x is a list of batches, and the first one has shape {first.shape}: {error}"
        raise ValueError(f"{got}; if each array is one sample, give np.stack(x)") from None


def predict(apply_fn: Any, params: Params, x: Any, batch_size: int = 32, *, sharding: Any = None) -> Any:
    """Return the model's output for all samples of ``x``, computed batch by batch.

    Args:
        apply_fn, params: the model.
        x: an array ``(samples, ...)``, or a dict of arrays for a model with several inputs; memory maps are read one
            batch at a time. Or a loader, whose targets and weights are ignored; see ``fit``. A list of arrays with two
            or more axes is a loader of batches, a list of numbers or of vectors is one array.
        batch_size: samples per step, of arrays.
        sharding: the sharding of a batch over devices; see ``fit``.

    Returns:
        ``(samples, ...)``, in the order of ``x``; several arrays in the structure of the model's outputs.

    Raises:
        ValueError: no samples, or a shape that does not fit the model.
        TypeError: ``apply_fn, params`` are not a model.

    >>> from jaxconv.layers.reshaping import Flatten
    >>> params, apply_fn = Flatten().init(jax.random.key(0), (None, 2, 2))
    >>> predict(apply_fn, params, np.ones((5, 2, 2)), batch_size=2).shape
    (5, 4)
    """
    batches = predict_batches(apply_fn, params, x, batch_size, sharding=sharding)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def check_model(apply_fn: Any, params: Any) -> None:
    """Raise TypeError unless the arguments are the ``apply_fn`` and the ``params`` of a model, in this order."""
    if not callable(apply_fn) or hasattr(apply_fn, "init") or not isinstance(params, Mapping):
        hint = "; from the result of fit, pass .params" if hasattr(params, "params") else ""
        got = f"the model is given as {type(apply_fn).__name__} and {type(params).__name__}"
        raise TypeError(f"{got}; give apply_fn and params, in this order: params, apply_fn = layer.init(key, x){hint}")


class Accumulator:
    """The total of the sums of batches, in float64, added with a delay so that the device does not wait for Python."""

    def __init__(self, total: dict[str, np.ndarray] | None = None):
        self.total = dict(total or {})
        self.nonfinite_batch: int | None = None  # the first batch whose loss is not finite, counted from 0
        self.nonfinite_loss = 0.0
        self._pending: list[Sums] = []
        self._added = 0
        self._last_collected = time.monotonic()

    def add(self, sums: Sums) -> None:
        """Add the sums of one batch, which the device may still be computing."""
        self._pending.append(sums)
        late = time.monotonic() - self._last_collected > _LONGEST_WAIT and jax.process_count() == 1
        if len(self._pending) >= _MOST_PENDING or late:  # all processes must find an error at the same step
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
