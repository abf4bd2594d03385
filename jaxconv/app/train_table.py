"""The ``[train]`` section of a config: the arguments of ``fit``, checked, with defaults filled in."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.app.schema import Location, read_arguments
from jaxconv.registry import nearest
from jaxconv.training.callbacks import EarlyStopping, check_column
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.optimizers import learning_rate, optimizers
from jaxconv.training.optimizers import optimizer as resolve_optimizer
from jaxconv.training.options import Options
from jaxconv.training.targets import class_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainTable:
    """The section ``[train]``: arguments of ``fit``, under the same names.

    Args:
        loss: a name, or a table with a name and options.
        optimizer: a name, or a table with a name and options; its ``learning_rate`` is a number or a table.
        metrics: names or tables.
        weighted_metrics: the same, for metrics that use the class weights.
        epochs: passes over the training set.
        batch_size: samples per step.
        class_weight: class -> factor of the loss of its samples, under the labels of the data; by default 1.
        clip_norm: the largest norm of the gradient of all weights together; by default it is not clipped.
        accumulate: batches of which one step is made.
        remat: whether each block, a layer directly inside the model, is computed again for the gradient: less memory.
        ema: the share that a moving average of the weights keeps at each step; the averaged weights are the result.
        seed: of the initial weights, the order of the samples, and dropout.
        shuffle: whether each epoch has a new order of the samples.
        validation_split: the fraction of the training set, at the end, that is used for validation instead.
        early_stopping: a table with the arguments of ``EarlyStopping``: monitor, patience, ...
        best_weights: the column of metrics.csv whose best epoch gives the model; by default the last epoch.
        checkpoint_every: epochs between checkpoints.
    """

    loss: str | dict[str, Any]
    optimizer: str | dict[str, Any] = "adam"
    metrics: tuple[str | dict[str, Any], ...] = ()
    weighted_metrics: tuple[str | dict[str, Any], ...] = ()
    epochs: int = 100
    batch_size: int = 32
    class_weight: dict[str, float] | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    remat: bool = False
    ema: float | None = None
    seed: int = 0
    shuffle: bool = True
    validation_split: float = 0.0
    early_stopping: dict[str, Any] | None = None
    best_weights: str | None = None
    checkpoint_every: int = 10


def check_train_table(table: Mapping[str, Any], location: Location) -> TrainTable:
    """Check the section and fill in its defaults. Raises ConfigError."""
    train = _read(table, location)
    for field in dataclasses.fields(Options):
        value = getattr(train, field.name, None)
        options = {} if value is None else {field.name: value}
        _resolve(lambda _: Options(**options), value, location, field.name)  # noqa: B023
    _resolve(lambda weights: class_weights(weights, [*weights]), train.class_weight or {}, location, "class_weight")
    loss = _resolve(resolve_loss, train.loss, location, "loss")
    if isinstance(train.loss, dict) and "class_name" not in train.loss:
        # for the types: the constructor of a loss checks only the names
        read_arguments(train.loss, type(loss), location / "loss", allowed=["name"])
    _resolve(resolve_metrics, train.metrics, location, "metrics")
    both = functools.partial(resolve_metrics, train.metrics)
    metrics = _resolve(both, train.weighted_metrics, location, "weighted_metrics")
    if isinstance(train.optimizer, dict):
        _check_option_types(train.optimizer, location / "optimizer")
    _resolve(_try_optimizer, train.optimizer, location, "optimizer")
    stopping = _check_columns(train, [metric.name for metric in metrics], location)
    return dataclasses.replace(
        train,
        loss=_complete_loss(train.loss, loss),
        optimizer=_complete_optimizer(train.optimizer),
        early_stopping=stopping,
    )


def _read(table: Mapping[str, Any], location: Location) -> TrainTable:
    for key in {"learning_rate", "lr"} & set(table):
        allowed = nearest("", [field.name for field in dataclasses.fields(TrainTable)])
        message = f"unknown key; did you mean 'train.optimizer.learning_rate'? {allowed}"
        raise location.error(key, table[key], message)
    if "loss" not in table:
        raise location.missing("loss", "such as 'sparse_categorical_crossentropy' for classes, 'mse' for numbers")
    for key in ("metrics", "weighted_metrics"):
        if isinstance(table.get(key), str):
            table = {**table, key: [table[key]]}
    if not isinstance(stopping := table.get("early_stopping", {}), Mapping):
        raise location.error("early_stopping", stopping, 'expected a table: {monitor = "val_loss", patience = 5}')
    if isinstance(table.get("optimizer"), Mapping):  # --set train.optimizer.learning_rate=... keeps the default name
        table = {**table, "optimizer": {"name": TrainTable.optimizer, **table["optimizer"]}}
    return TrainTable(**read_arguments(table, TrainTable, location))


def _check_columns(train: TrainTable, metrics: Sequence[str], location: Location) -> dict[str, Any] | None:
    """Check the names of columns of metrics.csv, and return the table ``early_stopping`` with all defaults."""
    has_validation, needs = bool(train.validation_split), "train.validation_split"
    check = functools.partial(check_column, metrics=metrics, has_validation=has_validation, needs=needs)
    if train.best_weights is not None:
        _resolve(check, train.best_weights, location, "best_weights")
    if train.early_stopping is None:
        return None
    stopping = location / "early_stopping"
    arguments = read_arguments(train.early_stopping, EarlyStopping, stopping)
    _resolve(check, arguments["monitor"], stopping, "monitor")
    return dataclasses.asdict(_resolve(lambda spec: EarlyStopping(**spec), arguments, location, "early_stopping"))


def _resolve(function: Callable[[Any], Any], value: Any, location: Location, key: str) -> Any:
    """Call the function that interprets a name or table, and add the location to its error."""
    try:
        return function(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise location.nested_error(key, value, str(error)) from None


def _check_option_types(table: Mapping[str, Any], location: Location) -> None:
    """Check that options of an optimizer are numbers, not strings: optax does not check them when it is built."""
    factory = optimizers().get(str(table.get("name")))
    parameters = {} if factory is None else inspect.signature(factory).parameters
    for key, value in table.items():
        default = parameters[key].default if key in parameters else None
        if isinstance(default, bool) and not isinstance(value, bool):
            raise location.error(key, value, "expected true or false")
        if key in parameters and isinstance(value, str) and not isinstance(default, str) and "dtype" not in key:
            raise location.error(key, value, "expected a number")


def _try_optimizer(spec: Any) -> None:
    """Build an optimizer and trace an update of one weight, because many options are only checked then."""
    optimizer = resolve_optimizer(spec, steps=1000)

    def update(weights: Any) -> Any:
        extra = {"value": jnp.sum(weights["w"]), "grad": weights, "value_fn": lambda some: jnp.sum(some["w"])}
        return optimizer.update(weights, optimizer.init(weights), weights, **extra)

    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(update, {"w": jax.ShapeDtypeStruct((2, 2), np.dtype("float32"))})


def _complete_loss(spec: Any, loss: Any) -> Any:
    options = loss.get_config() if hasattr(loss, "get_config") else {}
    if isinstance(spec, str):
        return {"name": spec, **options} if options else spec
    return spec if "class_name" in spec else spec | options


def _complete_optimizer(spec: Any) -> Any:
    """Add the learning rate, the only default of an optimizer that optax does not have."""
    spec = {"name": spec} if isinstance(spec, str) else dict(spec)
    if not {"learning_rate", "max_learning_rate"} & set(spec):
        rate = learning_rate(spec, steps=1)
        spec |= {} if rate is None else {"learning_rate": float(rate(0))}
    return spec
