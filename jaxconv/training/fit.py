"""``fit``: training in one call. It resolves and checks every option, then runs the loop; only callbacks print."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.errors import explain
from jaxconv.models import remat as rematerialized
from jaxconv.training.callbacks import Callback, EarlyStopping, ProgressDisplay, check_column
from jaxconv.training.checkpoint import Progress, checkpoint_path, load, save
from jaxconv.training.evaluation import cached, check_model
from jaxconv.training.interrupt import stop_on_signal
from jaxconv.training.loop import Fitted, Loop
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import default_metrics
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.optimizers import learning_rate
from jaxconv.training.optimizers import optimizer as resolve_optimizer
from jaxconv.training.options import Options
from jaxconv.training.placement import Placement, shardings
from jaxconv.training.run_data import RunData, run_data
from jaxconv.training.step import gradient_step, init_state, train_step, update_step


def fit(
    apply_fn: Any,
    params: Params,
    x: Any,
    y: Any = None,
    *,
    loss: Any,
    optimizer: Any = "adam",
    metrics: Any = None,
    weighted_metrics: Any = (),
    epochs: int = 1,
    batch_size: int = 32,
    steps_per_epoch: int | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    classes: Sequence[Any] | None = None,
    shuffle: bool = True,
    seed: int = 0,
    validation_data: Any = None,
    validation_split: float = 0.0,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    remat: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    best_weights: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = False,
    sharding: Any = None,
) -> Fitted:
    """Train a model.

    As in Keras's ``fit``: the last, smaller batch of an epoch is used; ``validation_split`` takes the last samples
    before shuffling; the log's loss includes the regularizers. Unlike in Keras, the order of the samples and the
    dropout keys of an epoch depend only on (seed, epoch), so the same seed gives the same numbers, whether the run is
    interrupted and resumed or not.

    The log of an epoch contains ``epoch`` (from 1), ``loss``, the metrics, the same with the prefix ``val_``, and
    ``learning_rate`` (of the epoch's last step) if the optimizer is given by name.

    With ``sharding``, each batch is split over the devices, and the results equal those of one device up to rounding:
    the order and the dropout are the same, statistics are those of the whole batch, and means are over all samples. A
    batch that cannot be split evenly (the last one of an epoch) is computed in full on each device. The weights are
    replicated, except for leaves of ``params`` that are already sharded over the same mesh: these leaves and their
    moments in the optimizer stay sharded. With several processes (``jax.distributed.initialize``) each process calls
    ``fit`` with the same arguments. A process reads only the part of the arrays that its devices need; loaders must
    yield the same whole batches in each process. Only the first process calls callbacks and writes the checkpoint,
    which all processes must be able to read. A checkpoint contains whole arrays, so a run resumes on any number of
    devices.

    A *loader* is an object that yields batches ``(x, y)`` or ``(x, y, sample_weight)``: a list, a generator, any object
    with ``len`` and items, a ``DataLoader`` of PyTorch, a dataset or loader of grain, or a ``tf.data.Dataset``. Like
    arrays, it is read in a background thread, two batches ahead. It has its own batch size and order. A resumed run
    reads it up to the position where the interrupted run stopped, so the results are equal bit for bit if the loader
    yields the same batches again in each pass. For an iterator with ``get_state`` and ``set_state`` (grain), or a
    loader with ``state_dict`` and ``load_state_dict`` (torchdata's ``StatefulDataLoader``, with a sampler of
    torchdata), the state is saved instead. For PyTorch's own ``DataLoader`` nothing is saved: neither its generator nor
    random augmentation.

    Args:
        apply_fn, params: the model, as returned by ``layer.init``. ``params`` is not changed.
        x, y: arrays ``(samples, ...)``; memory maps may be larger than memory, as they are read one batch at a time.
            For a model with several inputs, ``x`` is a dict of arrays by the names of the inputs, such as ``{"a": a,
            "b": b}``. Or a loader as ``x``. The model has one output. Targets of a loss that takes class indices may be
            any labels: strings, or as many different integers as there are classes; their sorted order is the order of
            the classes in the output.
        loss: a name, a table or a callable; see ``losses.loss``.
        optimizer: a name, a table or an optax transformation; see ``optimizers.optimizer``. Schedules without a length
            have the length of the whole run.
        metrics: names, tables or objects; see ``metrics.metric``. By default the accuracy if the loss is a
            crossentropy. A metric without a threshold has that of the loss: 0 for ``binary_crossentropy`` of logits,
            otherwise 0.5.
        weighted_metrics: metrics whose values are multiplied by the sample weights.
        epochs: passes over the data, including those before the run was resumed.
        batch_size: samples per step; a loader has its own.
        steps_per_epoch: the number of batches of a loader in an epoch; each epoch continues where the previous one
            stopped. Required for generators and for infinite loaders.
        sample_weight: factors of the loss, ``(samples,)``, or ``(samples, steps)`` if there is a target for each step.
        class_weight: a dict from a class to the factor of the loss of its samples; other classes have the factor 1. Not
            used for validation.
        classes: the label of each output, if ``y`` does not contain all of them or comes from a loader.
        shuffle: whether each epoch has a new order of the samples.
        seed: from 0 to 2³² - 1; for order and dropout, not for ``params``.
        validation_data: ``(x, y)``, ``(x, y, sample_weight)`` or a loader, on which the model is evaluated after each
            epoch.
        validation_split: the fraction of the samples, taken from the end, to use for validation instead.
        clip_norm: the largest norm of the gradient of all weights together.
        accumulate: the number of batches per update. The update is the same as with all their samples in one batch,
            except for batch statistics, and needs less memory.
        ema: the share of the old value that an exponential moving average of the weights keeps at each step. The
            averaged weights are validated and returned; running statistics are those of the trained weights.
        remat: whether each block of the model, a layer directly inside a Sequential or Model, is computed again for the
            gradient, which needs less memory; see ``jaxconv.models.remat``.
        callbacks: functions of a ``StepEvent``, ``EpochEvent`` or ``EndEvent``; training stops if one returns True. The
            result is None or a boolean, of Python, NumPy or JAX.
        progress: whether to show epochs, loss, metrics, validation and the remaining time.
        best_weights: the column of the log, such as ``"val_loss"``, whose best epoch determines the returned weights.
        checkpoint: the file for the run's progress, or the folder for a file ``checkpoint.npz``. A file that exists is
            not overwritten by another run: give ``resume=True``, or delete the file first.
        checkpoint_every: epochs between checkpoints; one is also saved at the end and on an interruption.
        resume: whether to continue from ``checkpoint`` if it exists; otherwise training starts at the beginning.
        sharding: the sharding of a batch: ``"data"`` splits it over all devices of all processes; a ``NamedSharding``;
            or a ``PartitionSpec``, over the mesh of ``jax.set_mesh``, or over all devices if none is set. Further axes
            of the spec, as in ``PartitionSpec("data", "rows")``, split further axes of ``x``, and of targets and
            weights that have the same lengths.

    Returns:
        A ``Fitted``: the weights, the history, the best epoch, the reason why training stopped, and the class labels.

    Raises:
        ValueError, TypeError: invalid arguments, before anything is trained.
        NonFiniteLoss: the loss or a weight is NaN or infinite. The last good checkpoint is kept.
        Interrupted: Ctrl-C or SIGTERM in the main thread, after the current step is finished and the checkpoint is
            saved. A second Ctrl-C stops at once.

    >>> from jaxconv.layers.dense import Dense
    >>> params, apply_fn = Dense(1).init(jax.random.key(0), (None, 2))
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> fitted = fit(apply_fn, params, x, x.sum(1, keepdims=True), loss="mse", metrics=(), epochs=30, batch_size=8)
    >>> fitted.stopped, fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    ('epochs', True)
    """
    check_model(apply_fn, params)
    with explain("fit"):
        options = Options(
            epochs=epochs, batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=shuffle, seed=seed,
            validation_split=validation_split, best_weights=best_weights, checkpoint_every=checkpoint_every, ema=ema,
            clip_norm=clip_norm, accumulate=accumulate, remat=remat)  # fmt: skip
    loss = resolve_loss(loss)
    metrics = resolve_metrics(default_metrics(loss) if metrics is None else metrics, weighted_metrics)
    if sharding is None and jax.process_count() > 1:
        raise ValueError(f"fit: {jax.process_count()} processes would train a model each; give sharding='data'")
    placement = Placement.of(sharding, (x, y, sample_weight, validation_data))
    with placement.active():
        params = placement.put(params)
        data = run_data(options, apply_fn, params, loss, (x, y, sample_weight), validation_data, class_weight, classes)
        placement.check(data.training)
        _check_columns([m.name for m in metrics], data.validation is not None, best_weights, callbacks)
        steps = options.updates(data.training.steps)
        transformation = resolve_optimizer(optimizer, steps, options.clip_norm)
        path = checkpoint_path(checkpoint, resume)
        same = _identity(options, data, apply_fn, loss, metrics, class_weight, optimizer)
        state = placement.put(init_state(apply_fn, params, transformation, ema=options.ema))
        loop = Loop(
            apply_fn=apply_fn, options=options, data=data, loss=loss, metrics=metrics, placement=placement,
            step=_compiled(apply_fn, loss, transformation, metrics, options, placement, state),
            learning_rate=learning_rate(optimizer, steps), save=functools.partial(_save, path, same, placement),
            checkpoint=path, callbacks=(*callbacks, *([ProgressDisplay()] if progress else [])),
        )  # fmt: skip
        with stop_on_signal() as stop:
            return loop.run(_start(path if resume else None, state, same, placement), stop)


def _start(path: Path | None, state: Any, same: dict[str, Any], placement: Placement) -> Progress:
    """Return the progress in a checkpoint if there is one, otherwise the progress of a new run from ``state``."""
    if path is None or not path.exists():
        return Progress(state)
    start = load(path, state, same)
    return dataclasses.replace(start, state=placement.put(start.state, state))


def _save(path: Path | None, same: dict[str, Any], placement: Placement, progress: Progress) -> None:
    """Write a checkpoint; with several processes, only the first one writes."""
    if path is not None:
        state, best = placement.whole((progress.state, progress.best_params))
        if placement.writes:
            save(path, dataclasses.replace(progress, state=state, best_params=best), same)


def _compiled(
    apply_fn: Any, loss: Any, transformation: Any, metrics: Any, options: Options, placement: Placement, state: Any
) -> Callable[..., Any]:
    """Return ``(state, batches, epoch, step) -> (state, sums)``, with dropout keys from (seed, epoch, batch)."""
    if options.remat:
        apply_fn = rematerialized(apply_fn)
    layout = None if placement.mesh is None else shardings(state)
    key, accumulate = jax.random.key(options.seed), options.accumulate
    if accumulate == 1:
        whole = _train_step(apply_fn, loss, transformation, metrics, options.ema, placement, layout)
        return lambda state, batches, epoch, step: whole(key, epoch, np.int32(step), batches[0][:3], state)
    gradient, update = _accumulating_steps(apply_fn, loss, transformation, metrics, options.ema, placement, layout)

    def step(state: Any, batches: Sequence[Any], epoch: Any, index: int) -> Any:
        gradients, total = None, None
        for i, batch in enumerate(batches):
            number = np.int32(index * accumulate + i)
            state, gradients, sums = gradient(key, epoch, number, batch[:3], state, gradients)
            total = sums if total is None else {name: total[name] + value for name, value in sums.items()}
        return update(state, gradients), total

    return step


@cached
def _train_step(
    apply_fn: Any, loss: Any, transformation: Any, metrics: Any, ema: float | None, placement: Placement, layout: Any
) -> Callable[..., Any]:
    step = train_step(apply_fn, loss, transformation, metrics, ema=ema)
    return _keyed(step, (_state_shardings(layout), placement.replicated))


@cached
def _accumulating_steps(
    apply_fn: Any, loss: Any, transformation: Any, metrics: Any, ema: float | None, placement: Placement, layout: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    states = _state_shardings(layout)
    gradient = _keyed(gradient_step(apply_fn, loss, metrics), (states, None, placement.replicated))
    return gradient, jax.jit(update_step(apply_fn, transformation, ema=ema), out_shardings=states)


def _state_shardings(layout: Any) -> Any:
    """Return the shardings of a state as a tree; a step does not change them."""
    return None if layout is None else jax.tree.unflatten(*layout)


def _keyed(step: Callable[..., Any], out_shardings: Any) -> Callable[..., Any]:
    """Return the jitted step that derives its dropout key from the run's key, the epoch and the batch number."""

    def step_with_key(key: Any, epoch: Any, number: Any, batch: Any, *states: Any) -> Any:
        x, y, weight = batch
        return step(*states, x, y, jax.random.fold_in(jax.random.fold_in(key, epoch), number), weight)

    return jax.jit(step_with_key, out_shardings=out_shardings)


def _check_columns(
    metrics: list[str], has_validation: bool, best_weights: str | None, callbacks: Sequence[Callback]
) -> None:
    """Check that callbacks can be called, and that the log will have the monitored columns."""
    if not isinstance(callbacks, Sequence):
        raise TypeError(f"fit: callbacks is a {type(callbacks).__name__}; give a list: callbacks=[...]")
    for callback in callbacks:
        if not callable(callback) or isinstance(callback, type):
            got = f"fit: a callback is {callback!r}"
            raise TypeError(f"{got}; give functions of an event, or objects like EarlyStopping()")
    wanted = [callback.monitor for callback in callbacks if isinstance(callback, EarlyStopping)]
    with explain("fit"):
        for name in wanted + ([best_weights] if best_weights is not None else []):
            check_column(name, metrics, has_validation)


def _identity(
    options: Options, data: RunData, apply_fn: Any, loss: Any, metrics: Any, class_weight: Any, optimizer: Any
) -> dict[str, Any]:
    """Return, as plain values, the options that a resumed run must share with the interrupted one."""
    spec = {"name": optimizer} if isinstance(optimizer, str) else optimizer
    plain = {"loss": loss, "metrics": [m.name for m in metrics], "class_weight": class_weight, "optimizer": spec}
    return {**options.kept(), "data": data.identity, "model": _model_digest(apply_fn), **_plain(plain)}


def _model_digest(apply_fn: Any) -> str | None:
    """Return a short hash of a model's options, or None if they have no plain form, such as a user's function.

    Shapes do not identify a model: a run must not be resumed after its activation was changed.
    """
    try:
        text = json.dumps(apply_fn.layer.get_config(), sort_keys=True)
    except (AttributeError, TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "init"):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value) if dataclasses.is_dataclass(value) else getattr(value, "__name__", type(value).__name__)
