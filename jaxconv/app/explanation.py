"""The target of ``jaxconv explain``: a class or an output, by its index or by its label."""

from typing import Any

import jax
import numpy as np

from jaxconv.app.prediction import Predictor
from jaxconv.app.schema import ConfigError
from jaxconv.errors import explain
from jaxconv.inspect import target as targets
from jaxconv.registry import nearest


def pick_target(model: Predictor, x: Any, text: str | None) -> tuple[Any, str]:
    """Return the target of ``attribute`` for one example, and its description, such as "class 1 (wave)".

    text: the value of ``--target``: integers with commas between them, one for each axis of an example's output; the
    last one may be a label instead. None is the highest score. Raises ConfigError, or ValueError for an integer out of
    range.
    """
    if model.outputs:
        outputs = f"{len(model.outputs)} outputs, {', '.join(model.outputs)}"
        raise ConfigError(f"{model.name} has {outputs}; for one of them, use jaxconv.inspect.attribute in Python")
    (y,) = jax.tree.leaves(jax.jit(targets.logits(model.apply_fn))(model.params, x))
    labels = model.classes if model.classes and y.shape[1:] and y.shape[-1] == len(model.classes) else ()
    place = None if text is None else _read_place(model.name, text, y.shape, labels)
    with explain("explain" if text is None else f"--target {text}"):
        index = targets.fix(y, place)
    if index is None or y[0].size == 1:
        return index, "the only output"
    *steps, last = map(int, np.asarray(index[0]))
    what = f"output {','.join(map(str, [*steps, last]))}" if steps else f"class {last}"
    return index, what + (f" ({labels[last]})" if labels else "")


def _read_place(name: str, text: str, shape: tuple[int, ...], labels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the index into the output of one example from the value of ``--target``."""
    *steps, last = [text] if text in labels else text.split(",")
    try:
        place = (*map(int, steps), _class_index(last, labels))
    except ValueError:
        expected = (
            f"{nearest(last, labels)}, or an index"
            if labels
            else f"an index is expected; {name} has no labels of its {shape[-1]} classes"
        )
        raise ConfigError(f"--target {text}: {expected}") from None
    if len(place) != len(shape) - 1:
        count, example = len(shape) - 1, ",".join(str(size - 1) for size in shape[1:])
        integers = "1 integer" if count == 1 else f"{count} integers with commas between them, one for each axis"
        what = f"the output of an example has shape {shape[1:]}"
        raise ConfigError(f"--target {text}: {what}; give {integers}, such as --target {example}")
    return place


def _class_index(text: str, labels: tuple[str, ...]) -> int:
    try:
        return int(text)
    except ValueError:
        return labels.index(text)
