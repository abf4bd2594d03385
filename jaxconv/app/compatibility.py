"""Checks that the model of a config fits its data: shapes, loss and number of outputs. Nothing is computed."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxconv.app import data
from jaxconv.app.config import Config
from jaxconv.app.model_table import layer_output_shapes, layer_table
from jaxconv.app.pretrained import PretrainedModel
from jaxconv.app.schema import ConfigError, Location
from jaxconv.contract import Layer
from jaxconv.registry import snake_case
from jaxconv.training.losses import loss as resolve_loss
from jaxconv.training.losses import losses
from jaxconv.training.metrics import metrics as resolve_metrics
from jaxconv.training.metrics import with_threshold
from jaxconv.training.mistakes import channels_hint, check_output
from jaxconv.training.run_data import training_count
from jaxconv.training.targets import class_weights

Shape = tuple[Any, ...]


def load_data(config: Config) -> data.Splits:
    """Load the data of a config. Raises ConfigError if the source raises; ImportError if it needs a package."""
    try:
        return data.load(config.data)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        raise ConfigError(f"{config.file}: {error or 'not enough memory for the data'}") from None


def check_shapes(config: Config, splits: data.Splits) -> None:
    """Check the model, layer by layer, and loss and metrics against the data. Raises ConfigError."""
    top, train = Location(config.file), config.train
    try:
        training_count(len(splits.x_train), train.validation_split)
    except ValueError as error:
        raise (top / "train").error("validation_split", train.validation_split, str(error)) from None
    shape = (min(train.batch_size, len(splits.x_train)), *splits.x_train.shape[1:])
    if config.pretrained is None:
        shapes = _layer_shapes(config.model, shape, top / "model", splits.x_train.shape)
    else:
        shapes = [_pretrained_output_shape(config.model, config.pretrained, shape)]
    y = jax.ShapeDtypeStruct((shape[0], *splits.y_train.shape[1:]), np.dtype("int32" if splits.classes else "float32"))
    prediction = jax.ShapeDtypeStruct(shapes[-1], np.dtype("float32"))
    _check_output_size(config, [shape, *shapes], splits)
    _check_softmax(config, shapes[-1])
    _check_loss(train.loss, y, prediction, top / "train")
    try:
        check_output(config.model.apply_fn, resolve_loss(train.loss))
    except ValueError as error:
        raise (top / "train").error("loss", train.loss, str(error)) from None
    weights, classes = train.class_weight, splits.classes
    if weights is not None and classes is None:
        raise (top / "train").error("class_weight", weights, "the data has targets, not classes; omit it")
    try:
        class_weights(weights or {}, classes or ())
    except ValueError as error:
        raise (top / "train").nested_error("class_weight", weights, str(error)) from None
    for i, (spec, metric) in enumerate(zip(train.metrics, resolve_metrics(train.metrics), strict=True)):
        try:
            jax.eval_shape(with_threshold(metric, resolve_loss(train.loss)), y, prediction)
        except (ValueError, TypeError) as error:
            raise (top / "train" / "metrics").error(i, spec, str(error)) from None


def _layer_shapes(model: Layer, shape: Shape, location: Location, given: tuple[int, ...]) -> list[Shape]:
    """Return the output shape of each layer. The error has a hint if the channels are the first axis."""
    try:
        return layer_output_shapes(model, shape, location)
    except ConfigError as error:
        if len(shape) < 3:
            raise
        try:
            layer_output_shapes(model, (shape[0], *shape[2:], shape[1]), location)
        except ConfigError:
            raise error from None
        raise ConfigError(f"{error}; x_train has shape {given}, {channels_hint(given)}") from None


def _pretrained_output_shape(model: Layer, source: PretrainedModel, shape: Shape) -> Shape:
    """Return the output shape of a model from a file. Raises ConfigError if it does not accept the data."""
    try:
        x = jax.ShapeDtypeStruct(shape, np.dtype("float32"))
        output = jax.eval_shape(model.apply_fn, source.params, x)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{source.file} does not accept the data, of shape {(None, *shape[1:])}: {error}") from None
    if not hasattr(output, "shape"):
        raise ConfigError(f"{source.file} has {len(jax.tree.leaves(output))} outputs; only models of one are trained")
    return output.shape


def _check_loss(spec: Any, y: Any, prediction: Any, location: Location) -> None:
    error = _loss_error(spec, y, prediction)
    if error is None:
        return
    class_names = {type(resolve_loss(name)).__name__ for name in losses.names()}  # without the aliases
    fitting = [name for name in map(snake_case, sorted(class_names)) if _loss_error(name, y, prediction) is None]
    hint = f"; valid for these shapes: {', '.join(fitting)}" if fitting else ""
    if y.ndim == 1 and prediction.ndim > 2:
        hint += "; for one prediction per sample, add a Flatten or global pooling layer before the last layer"
    if isinstance(spec, dict) and "name" in spec:
        raise (location / "loss").error("name", spec["name"], f"{error}{hint}")
    raise location.error("loss", spec, f"{error}{hint}")


def _loss_error(spec: Any, y: Any, prediction: Any) -> str | None:
    try:
        jax.eval_shape(resolve_loss(spec), y, prediction)
    except (ValueError, TypeError) as error:
        return str(error)
    return None


def _check_output_size(config: Config, shapes: Sequence[Shape], splits: data.Splits) -> None:
    """Check that the model has one output per class or per target, and name the layer that determines the number."""
    expects_labels = hasattr(resolve_loss(config.train.loss), "check")
    if expects_labels and splits.classes:
        names = ", ".join(splits.classes[:10]) + (", ..." if len(splits.classes) > 10 else "")
        expected, reason = len(splits.classes), f"the data has {len(splits.classes)} classes ({names})"
    elif splits.classes is None and splits.y_train.ndim == 2:
        expected = splits.y_train.shape[1]
        reason = f"each target has {expected} numbers" if expected > 1 else "each target is one number"
        if expects_labels:
            reason += " (the dtype of y is float: targets; class labels are integers or strings, y.astype(int))"
    else:
        return
    size = shapes[-1][-1]
    if size == expected or len(shapes[-1]) != 2:
        return
    if config.pretrained is not None:
        raise ConfigError(f"{config.pretrained.file} has {size} outputs, but {reason}; expected a model of {expected}")
    i = max(i for i in range(len(shapes) - 1) if i == 0 or shapes[i][-1] != shapes[i + 1][-1])
    table = layer_table([*config.model.children.values()][i])
    keys = [key for key, value in table.items() if type(value) is int and value == size]
    location, key = Location(config.file) / "model" / "layers" / i, keys[0] if keys else None
    message = f"the model has {size} output{'s' * (size != 1)}, but {reason}; expected {expected}"
    raise location.error(key, table[keys[0]] if keys else table["layer"], message)


def _check_softmax(config: Config, shape: Shape) -> None:
    """Check that there is no softmax over a single output, which is always 1. Raises ConfigError; Keras warns."""
    if config.pretrained is not None:
        return
    last = len(config.model.children) - 1
    if shape[-1] == 1 and layer_table([*config.model.children.values()][last]).get("activation") == "softmax":
        location = Location(config.file) / "model" / "layers" / last
        raise location.error("activation", "softmax", "the softmax of a single output is always 1; expected sigmoid")
