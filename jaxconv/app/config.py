"""A config file: read, overridden by ``--set``, checked to the last key, and written back as resolved.

Knows the sections of a config and whose arguments each one holds. It runs nothing, and what a layer, a data source or
an optimizer means it leaves to them.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.app import data
from jaxconv.app.fine_tuning import Start, read_start
from jaxconv.app.model_table import build_model, layer_table, trace_shapes
from jaxconv.app.schema import ConfigError, Place, fit_table, one_line
from jaxconv.app.toml import override, read_toml
from jaxconv.contract import Layer
from jaxconv.models import Sequential
from jaxconv.registry import nearest, snake_case
from jaxconv.training.fit import EarlyStopping
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.losses import losses
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.optimizers import learning_rate, optimizers
from jaxconv.training.optimizers import optimizer as resolve_optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """The section ``[train]``: arguments of ``fit``, under the same names.

    Args:
        loss: a name, or a table with a name and options.
        optimizer: a name, or a table with a name and options; ``learning_rate`` in it is a number or a table.
        metrics: names or tables.
        epochs: passes over the training set.
        batch_size: samples per step.
        seed: of the initial weights, the order of the samples, and dropout.
        shuffle: whether each epoch takes the samples in a new order.
        validation_split: the fraction of the training set, at its end, that is evaluated after each epoch instead.
        early_stopping: a table with the arguments of ``EarlyStopping``: monitor, patience, ...
        best_weights: the column of metrics.csv whose best epoch gives the model; left out, it is the last epoch's.
        checkpoint_every: epochs between savings.
    """

    loss: str | dict[str, Any]
    optimizer: str | dict[str, Any] = "adam"
    metrics: tuple[str | dict[str, Any], ...] = ()
    epochs: int = 100
    batch_size: int = 32
    seed: int = 0
    shuffle: bool = True
    validation_split: float = 0.0
    early_stopping: dict[str, Any] | None = None
    best_weights: str | None = None
    checkpoint_every: int = 10


@dataclasses.dataclass(frozen=True)
class Config:
    """A config whose every key is known and whose every value is legal by itself.

    Args:
        file: where it came from, for messages.
        name: of the run.
        data: the section ``[data]`` with all defaults.
        model: the layers.
        train: the section ``[train]`` with all defaults.
        start: where the model came from, if that is a file.
    """

    file: str
    name: str
    data: dict[str, Any]
    model: Layer
    train: Train
    start: Start | None = None

    def tree(self) -> dict[str, Any]:
        """Give the config as resolved: what ``read_config`` reads back to an equal one."""
        return {
            "name": self.name,
            "data": self.data,
            "model": self._model_table(),
            "train": _without_none(dataclasses.asdict(self.train)),
        }

    def _model_table(self) -> dict[str, Any]:
        if self.start is not None:
            return {"file": self.start.file.name, "freeze": list(self.start.freeze)}
        return {"layers": [layer_table(layer) for layer in self.model.children.values()]}


def read_config(
    path: str | Path, settings: Sequence[str] = (), *, start: Path | None = None, freeze: Sequence[str] = ()
) -> Config:
    """Read a config file, put ``--set`` settings in, and check every key and value by itself.

    Args:
        path: the TOML file.
        settings: see :func:`override`.
        start: a model file in place of the section ``[model]``.
        freeze: patterns of its layers that are not trained; see :func:`frozen`.

    Raises:
        ConfigError: the first mistake, in one line: file, dotted key, value, and what would be legal.
    """
    tree = read_toml(path)
    if start is not None:
        model = [setting for setting in settings if setting.partition("=")[0].strip().partition(".")[0] == "model"]
        if model:
            raise ConfigError(f"--set {model[0]}: with --from, the model is that of {start}")
        tree["model"] = {"file": str(start.resolve()), "freeze": list(freeze)}
    override(tree, settings)
    return build_config(tree, str(path), default_name=Path(path).stem)


def build_config(tree: Mapping[str, Any], file: str, default_name: str = "run") -> Config:
    """Check a config given as nested dicts; see :func:`read_config`."""
    top = Place(file)
    sections = ("name", "data", "model", "train")
    for key, value in tree.items():
        if key not in sections:
            meant = f"did you mean 'train.{key}'? {nearest('', sections)}" if key in _fields(Train) else None
            raise top.error(key, value, f"unknown key; {meant or nearest(key, sections)}")
    for key in sections[1:]:
        if not isinstance(tree.get(key, {}), Mapping):
            raise top.error(key, tree[key], "expected a table")
        if key not in tree:
            raise top.missing(key, f"a config has the tables {', '.join(f'[{name}]' for name in sections[1:])}")
    name = tree.get("name", default_name)
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set('/\\:*?"<>|\n'):
        raise top.error("name", name, "expected a word that can name a folder")
    data_table, (model, start) = _check_data(tree["data"], top / "data"), _model(tree["model"], top / "model")
    train = _check_train(tree["train"], top / "train")
    return Config(file=file, name=name, data=data_table, model=model, train=train, start=start)


def _model(table: Any, place: Place) -> tuple[Layer, Start | None]:
    """Build the model from its layers, or read it from a file, whose path begins where the config is."""
    if not isinstance(table, Mapping) or not {"file", "freeze"} & set(table):
        return build_model(table, place), None
    for key, value in table.items():
        if key not in ("file", "freeze"):
            hint = "a model has either layers or a file" if key == "layers" else nearest(key, ["file", "freeze"])
            raise place.error(key, value, f"unknown key beside file; {hint}")
    if not isinstance(table.get("file"), str):
        raise place.error("file", table.get("file"), "expected the path of a model file")
    freeze = table.get("freeze", [])
    if not isinstance(freeze, list) or not all(isinstance(pattern, str) for pattern in freeze):
        raise place.error("freeze", freeze, 'expected patterns of names, such as ["conv*"]')
    try:
        return read_start(Path(place.file).parent / table["file"], freeze)
    except ValueError as error:
        raise ConfigError(one_line(str(error))) from None


def _check_data(table: Mapping[str, Any], place: Place) -> dict[str, Any]:
    source = table.get("source")
    if "source" not in table:
        raise place.missing("source", nearest("", data.sources))
    if not isinstance(source, str) or source not in data.sources:
        raise place.error("source", source, f"there is no such source; {nearest(str(source), data.sources)}")
    given = {key: value for key, value in table.items() if key != "source"}
    return {"source": source, **_without_none(fit_table(given, data.sources[source], place, legal=["source"]))}


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _check_train(table: Mapping[str, Any], place: Place) -> Train:
    if "learning_rate" in table:
        hint = "unknown key; did you mean 'train.optimizer.learning_rate'?"
        raise place.error("learning_rate", table["learning_rate"], f"{hint} {nearest('', _fields(Train))}")
    if "loss" not in table:
        raise place.missing("loss", "such as 'sparse_categorical_crossentropy' for classes, 'mse' for numbers")
    if isinstance(table.get("metrics"), str):
        table = {**table, "metrics": [table["metrics"]]}
    if isinstance(table.get("optimizer"), Mapping):  # --set train.optimizer.learning_rate=... means the default one's
        table = {**table, "optimizer": {"name": Train.optimizer, **table["optimizer"]}}
    train = Train(**fit_table(table, Train, place))
    for key in ("epochs", "batch_size", "checkpoint_every"):
        if getattr(train, key) < 1:
            raise place.error(key, getattr(train, key), "legal: at least 1")
    if not 0 <= train.seed < 2**32:
        raise place.error("seed", train.seed, "legal: 0 to 4294967295")
    if not 0 <= train.validation_split < 1:
        raise place.error("validation_split", train.validation_split, "legal: from 0 up to, not including, 1")
    loss = _resolve(resolve_loss, train.loss, place, "loss")
    if isinstance(train.loss, dict) and "class_name" not in train.loss:
        fit_table(train.loss, type(loss), place / "loss", legal=["name"])  # types: a loss takes any option it knows
    metrics = _resolve(resolve_metrics, train.metrics, place, "metrics")
    if isinstance(train.optimizer, dict):
        _check_option_types(train.optimizer, place / "optimizer")
    _resolve(_try_optimizer, train.optimizer, place, "optimizer")
    columns = ["loss", *(metric.name for metric in metrics)]
    if train.validation_split:
        columns += [f"val_{name}" for name in columns]
    hint = "" if train.validation_split else " (val_ columns need train.validation_split)"
    if train.best_weights is not None and train.best_weights not in columns:
        message = f"no such column in metrics.csv; {nearest(train.best_weights, columns)}{hint}"
        raise place.error("best_weights", train.best_weights, message)
    stopping = None
    if train.early_stopping is not None:
        here = place / "early_stopping"
        arguments = fit_table(train.early_stopping, EarlyStopping, here)
        if arguments["monitor"] not in columns:
            message = f"no such column in metrics.csv; {nearest(arguments['monitor'], columns)}{hint}"
            raise here.error("monitor", arguments["monitor"], message)
        stopping = dataclasses.asdict(_resolve(lambda spec: EarlyStopping(**spec), arguments, place, "early_stopping"))
    return dataclasses.replace(
        train, loss=_full_loss(train.loss, loss), optimizer=_full_optimizer(train.optimizer), early_stopping=stopping
    )


def _resolve(function: Callable[[Any], Any], value: Any, place: Place, key: str) -> Any:
    """Let the owner of a name or table read it, and put the place in front of what it complains about."""
    try:
        return function(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise place.blame(key, value, str(error)) from None


def _check_option_types(table: Mapping[str, Any], place: Place) -> None:
    """Find words where an optimizer wants numbers: optax looks at its options only when it computes with them."""
    factory = optimizers().get(str(table.get("name")))
    known = {} if factory is None else inspect.signature(factory).parameters
    for key, value in table.items():
        default = known[key].default if key in known else None
        if isinstance(default, bool) and not isinstance(value, bool):
            raise place.error(key, value, "expected true or false")
        if key in known and isinstance(value, str) and not isinstance(default, str) and "dtype" not in key:
            raise place.error(key, value, "expected a number")


def _try_optimizer(spec: Any) -> None:
    """Build an optimizer and trace an update of one weight: many options are not looked at before."""
    optimizer = resolve_optimizer(spec, steps=1000)

    def update(weights: Any) -> Any:
        extra = {"value": jnp.sum(weights["w"]), "grad": weights, "value_fn": lambda some: jnp.sum(some["w"])}
        return optimizer.update(weights, optimizer.init(weights), weights, **extra)

    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(update, {"w": jax.ShapeDtypeStruct((2, 2), np.dtype("float32"))})


def _full_loss(spec: Any, loss: Any) -> Any:
    options = loss.get_config() if hasattr(loss, "get_config") else {}
    if isinstance(spec, str):
        return {"name": spec, **options} if options else spec
    return spec if "class_name" in spec else spec | options


def _full_optimizer(spec: Any) -> Any:
    """Write out the learning rate, the one default of an optimizer that is ours and not optax's."""
    spec = {"name": spec} if isinstance(spec, str) else dict(spec)
    if not {"learning_rate", "max_learning_rate"} & set(spec):
        rate = learning_rate(spec, steps=1)
        spec |= {} if rate is None else {"learning_rate": float(rate(0))}
    return spec


def load_data(config: Config) -> data.Splits:
    """Load a config's data. Raises ConfigError where the source refuses; ImportError where it needs a package."""
    try:
        return data.load(config.data)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(one_line(f"{config.file}: {error}")) from None


def check_shapes(config: Config, splits: data.Splits) -> None:
    """Check the model against the data: every layer's input, and the output against the targets and the loss.

    Raises:
        ConfigError: the first layer, loss or metric that does not fit.
    """
    top, train = Place(config.file), config.train
    shape = (min(train.batch_size, len(splits.x_train)), *splits.x_train.shape[1:])
    if isinstance(config.model, Sequential) and config.start is None:
        shapes = trace_shapes(config.model, shape, top / "model")
    else:
        shapes = [_shape_of_start(config, shape)]
    loss = resolve_loss(train.loss)
    y = jax.ShapeDtypeStruct((shape[0], *splits.y_train.shape[1:]), np.dtype("int32" if splits.classes else "float32"))
    prediction = jax.ShapeDtypeStruct(shapes[-1], np.dtype("float32"))
    _check_width(config, [shape, *shapes], splits)
    _check_softmax(config, shapes[-1])
    try:
        jax.eval_shape(loss, y, prediction)
    except (ValueError, TypeError) as error:
        own = {type(resolve_loss(name)).__name__ for name in losses.names()}  # the rest are second names
        fitting = [name for name in map(snake_case, sorted(own)) if _fits(name, y, prediction)]
        legal = f"; legal for these shapes: {', '.join(fitting)}" if fitting else ""
        if y.ndim == 1 and prediction.ndim > 2:
            legal += "; a Flatten or global pooling layer before the last one gives one prediction for each sample"
        here, key, spec = top / "train", "loss", train.loss
        if isinstance(spec, dict) and "name" in spec:
            here, key, spec = here / "loss", "name", spec["name"]
        raise here.error(key, spec, f"{error}{legal}") from None
    for i, (spec, metric) in enumerate(zip(train.metrics, resolve_metrics(train.metrics), strict=True)):
        try:
            jax.eval_shape(metric, y, prediction)
        except (ValueError, TypeError) as error:
            raise (top / "train" / "metrics").error(i, spec, str(error)) from None


def _shape_of_start(config: Config, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Give the output shape of a model from a file. Raises ConfigError where it does not take the data."""
    file = config.start.file if config.start is not None else config.file
    try:
        kinds = jax.ShapeDtypeStruct(shape, np.dtype("float32"))
        given = jax.eval_shape(config.model.apply_fn, config.start.params if config.start else {}, kinds)
    except (ValueError, TypeError) as error:
        raise ConfigError(one_line(f"{file} does not take the data, of shape {(None, *shape[1:])}: {error}")) from None
    if not hasattr(given, "shape"):
        raise ConfigError(f"{file} gives {len(jax.tree.leaves(given))} outputs; a run trains models of one")
    return given.shape


def _fits(name: str, y: Any, prediction: Any) -> bool:
    try:
        jax.eval_shape(resolve_loss(name), y, prediction)
    except (ValueError, TypeError):
        return False
    return True


def _check_width(config: Config, shapes: Sequence[tuple[Any, ...]], splits: data.Splits) -> None:
    """Check that the model has one output per class, or as many as the targets, and name the layer that decides it."""
    if hasattr(resolve_loss(config.train.loss), "check") and splits.classes:
        names = ", ".join(splits.classes[:10]) + (", ..." if len(splits.classes) > 10 else "")
        wanted, what = len(splits.classes), f"the data has {len(splits.classes)} classes ({names})"
    elif splits.classes is None and splits.y_train.ndim == 2:
        wanted = splits.y_train.shape[1]
        what = f"each target has {wanted} numbers" if wanted > 1 else "each target is one number"
        if hasattr(resolve_loss(config.train.loss), "check"):
            what += " (y holds floats: targets; class labels are integers or strings)"
    else:
        return
    given = shapes[-1][-1]
    if given == wanted or len(shapes[-1]) != 2:
        return
    if config.start is not None:
        raise ConfigError(f"{config.start.file} gives {given} outputs, but {what}; legal: a model of {wanted}")
    i = max(i for i in range(len(shapes) - 1) if i == 0 or shapes[i][-1] != shapes[i + 1][-1])
    table = layer_table([*config.model.children.values()][i])
    keys = [key for key, value in table.items() if type(value) is int and value == given]
    place, key = Place(config.file) / "model" / "layers" / i, keys[0] if keys else None
    message = f"the model gives {given} output{'s' * (given != 1)}, but {what}; legal: {wanted}"
    raise place.error(key, table[keys[0]] if keys else table["layer"], message)


def _check_softmax(config: Config, shape: tuple[Any, ...]) -> None:
    """Refuse a softmax over a single output, which Keras warns of: it is 1 whatever the weights."""
    if config.start is not None:
        return
    last = len(config.model.children) - 1
    if shape[-1] == 1 and layer_table([*config.model.children.values()][last]).get("activation") == "softmax":
        place = Place(config.file) / "model" / "layers" / last
        raise place.error("activation", "softmax", "the softmax of a single output is always 1; legal: sigmoid")


def _without_none(value: Any) -> Any:
    """Leave out what is None: TOML has no word for it, and it is always the default."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
