"""Checks for mistakes: logits instead of probabilities, reversed arguments, channels on the wrong axis, wrong inputs.

Without most of them, such a model trains without an error and learns nothing useful. Must not import layers: models are
read through the contract.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.contract.output_values import output_origin
from jaxconv.errors import caller_level
from jaxconv.registry import snake_case

_PROBABILITIES = {"softmax", "sigmoid", "hard_sigmoid"}
# activations with negative values, whose logarithm a loss of probabilities would take
_NEGATIVE = {"linear", "log_softmax", "log_sigmoid", "tanh", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"}
_PREDICTIONS = ("logit", "log_pred", "y_pred", "pred", "output", "log_prob")
_TARGETS = ("label", "target", "y_true", "true")


def check_output(apply_fn: Any, loss: Any) -> None:
    """Check that the model's output is what the loss expects: probabilities, or logits with ``from_logits=True``.

    Raises ValueError if a loss of probabilities gets an output that may be negative, or a loss of logits gets
    probabilities.
    """
    layer, name = getattr(apply_fn, "layer", None), type(loss).__name__
    if not getattr(loss, "of_probabilities", False) or not hasattr(layer, "output_structure"):
        return
    origin = output_origin(layer)
    if origin is None:
        return
    logits = getattr(loss, "from_logits", None)
    output = f"{name}: the model's output is that of {origin.layer!r}, whose activation is {origin.activation}"
    if logits and origin.activation in _PROBABILITIES:
        reason = "these are probabilities, and the loss expects logits (from_logits=True)"
        raise ValueError(f"{output}: {reason}; give from_logits=False, or a last layer without activation")
    if not logits and origin.activation in _NEGATIVE:
        table = f'{{"name": "{snake_case(name)}", "from_logits": True}}'
        remedy = f"from_logits=True, {table}, or " if logits is False else ""
        right = "sigmoid" if name == "BinaryCrossentropy" else "softmax"
        reason = "these are not probabilities, which the loss expects"
        raise ValueError(f'{output}: {reason}; give {remedy}activation="{right}" in the last layer')


def check_inputs(apply_fn: Any, x: Any, what: str = "x") -> None:
    """Check that the arrays of a model with several inputs are in a dict, by the names of the inputs.

    Raises TypeError otherwise; ``what`` is the name of ``x`` in the message.
    """
    names = _input_names(getattr(apply_fn, "layer", None))
    if len(names) > 1 and not isinstance(x, Mapping):
        example = ", ".join(f'"{name}": ...' for name in names)
        got = f"{what} is a {type(x).__name__}, and the model has {len(names)} inputs"
        raise TypeError(f"{got}; give a dict of arrays by the names of the inputs: {{{example}}}")


def _input_names(layer: Any) -> list[str]:
    shape = getattr(layer, "known_input_shape", None)
    if isinstance(shape, Mapping):
        return list(shape)
    while layer is not None and not hasattr(layer, "sources"):  # a Sequential has the inputs of its first layer
        layer = next(iter(getattr(layer, "layers", ())), None)
    return [source.name for source in getattr(layer, "sources", ())]


def check_targets(apply_fn: Any, y: Any) -> None:
    """Check that the model has one output. Raises ValueError otherwise, and TypeError for a dict of targets."""
    structure = getattr(getattr(apply_fn, "layer", None), "output_structure", None)
    if structure is not None and structure.num_leaves > 1:
        raise several_outputs(str(structure.num_leaves))
    if isinstance(y, Mapping):
        raise TypeError(f"y is a {type(y).__name__}, and the model has one output; give one array of targets")


def several_outputs(which: str) -> ValueError:
    """Return the error for a model with several outputs; ``which`` is their number or their shapes."""
    what = f"the model has several outputs ({which}), and fit and evaluate take a model with one output"
    return ValueError(f"{what}; give such a model, or write a loop with apply_fn.forward and a loss of all outputs")


def check_argument_order(loss: Any) -> None:
    """Check that a function takes (y_true, y_pred), unlike many losses of optax, which take (logits, labels).

    optax's losses of ``predictions`` are symmetric, so they are valid. Raises TypeError if the names of the arguments
    imply the opposite order.
    """
    try:
        names = [*inspect.signature(loss).parameters][:2]
    except (TypeError, ValueError):
        return
    reversed_order = len(names) == 2 and names[0].lower().startswith(_PREDICTIONS)
    symmetric = str(getattr(loss, "__module__", "")).startswith("optax") and names[:1] == ["predictions"]
    if reversed_order and names[1].lower().startswith(_TARGETS) and not symmetric:
        name = getattr(loss, "__name__", type(loss).__name__)
        reason = f"the loss {name} takes ({', '.join(names)}), and is called with (y_true, y_pred), as in Keras"
        raise TypeError(f"{reason}; give lambda y_true, y_pred: {name}(y_pred, y_true)")


def output_for(apply_fn: Any, params: Params, x: Any) -> Any:
    """Return the shape and dtype of the model's output for all samples of ``x``, without computing it.

    Raises ValueError for samples that the model does not accept, with a hint if their channels are the first axis.
    """

    def try_shape(shape: tuple[int, ...]) -> Any:
        return jax.eval_shape(apply_fn, params, jax.ShapeDtypeStruct(shape, dtype))

    dtype = jax.dtypes.canonicalize_dtype(x.dtype.newbyteorder("="))
    known = getattr(getattr(apply_fn, "layer", None), "known_input_shape", None)
    fixed = known[0] if isinstance(known, tuple) and known and isinstance(known[0], int) else None
    shape = (fixed or len(x), *x.shape[1:])
    try:
        return try_shape(shape)
    except ValueError as error:
        if len(shape) > 2:
            try:
                try_shape((shape[0], *shape[2:], shape[1]))
            except (ValueError, TypeError):
                raise error from None
            raise ValueError(f"x has shape {x.shape}, {channels_hint(x.shape)}; {error}") from None
        raise


def channels_hint(shape: tuple[int, ...]) -> str:
    """Return the remedy, for a message, for an array of this shape whose channels are the first axis."""
    return (
        f"channels_first, and this model expects channels last; give np.moveaxis(x, 1, -1), of shape "
        f'{(shape[0], *shape[2:], shape[1])}, or layers with data_format="channels_first"'
    )


def warn_channels_first(apply_fn: Any, x: Any) -> None:
    """Warn about samples that look like channels_first if the first layer takes channels last.

    The warning is given if the input has at least 8 times as many channels as steps along its first axis, and this axis
    is shorter than the window of the first convolution or pooling, or has at most 4 steps.
    """
    layer: Any = getattr(apply_fn, "layer", None)
    while getattr(layer, "graph", None) is not None and layer.graph.calls:
        layer = dict(layer.graph.children)[layer.graph.calls[0].name]
    shape = np.shape(x)
    if getattr(layer, "data_format", None) != "channels_last" or len(shape) < 3 or not hasattr(layer, "windows"):
        return
    widest = max((window.extent for window in layer.windows((None, *shape[1:]))[:1] if not window.reads_all), default=1)
    if shape[1] < max(widest, 5) and widest > 1 and shape[-1] >= 8 * shape[1]:
        warnings.warn(
            f"x has shape {shape}: {layer.label} takes it as {shape[1]} steps of {shape[-1]} channels, channels last; "
            f"if axis 1 contains the channels, it is {channels_hint(shape)}",
            stacklevel=caller_level(),
        )
