"""The targets of a run in the form that the loss takes: labels become class indices, class weights sample weights.

Labels are strings, integers or booleans; class indices are 0..n-1. Only the shape of the model's output is used.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.registry import nearest
from jaxconv.training.data import Arrays, Batch, device_dtype
from jaxconv.training.mistakes import check_inputs, output_for, several_outputs, warn_channels_first


def output_shape(apply_fn: Any, params: Params) -> Callable[[Any], tuple[int, ...]]:
    """Return a function from ``x`` to the shape of the model's output, which is not computed.

    It raises ValueError for samples that the model does not accept, and for a model with several outputs.
    """
    shapes: dict[Any, tuple[int, ...]] = {}  # by shape and dtype: every batch of a loader is checked

    def shape(x: Any) -> tuple[int, ...]:
        key = str(jax.tree.map(lambda array: (array.shape, array.dtype), x))
        if key not in shapes:
            check_inputs(apply_fn, x, "x of a batch")
            if isinstance(x, list | tuple):
                raise TypeError(f"x of a batch is a {type(x).__name__}; give one array (samples, ...)")
            if isinstance(x, Mapping):
                batch = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, device_dtype(array.dtype)), x)
                shapes[key] = _one_shape(jax.eval_shape(apply_fn, params, batch))
            else:
                output = _one_shape(output_for(apply_fn, params, x))
                if not shapes:  # once, not for each size of a batch
                    warn_channels_first(apply_fn, x)
                shapes[key] = output
        return shapes[key]

    return shape


def _one_shape(outputs: Any) -> tuple[int, ...]:
    """Return the shape of the model's output. Raises ValueError for several."""
    if hasattr(outputs, "shape"):
        return outputs.shape
    raise several_outputs("of shapes " + ", ".join(str(output.shape) for output in jax.tree.leaves(outputs)))


@dataclasses.dataclass(frozen=True)
class Targets:
    """A map from batches to batches whose targets are numbers, after all checks that are possible on the host.

    Args:
        loss: the loss; if it has a method ``check``, targets are class labels.
        outputs: a function from ``x`` to the shape of the model's output.
        classes: the label of each class, or None if the targets are used unchanged.
        class_weight: the weight of each class, by its label or index; other classes have weight 1.
    """

    loss: Any
    outputs: Callable[[Any], tuple[int, ...]]
    classes: tuple[Any, ...] | None = None
    class_weight: Mapping[Any, float] | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with class indices and weights. Raises ValueError for labels that are not classes."""
        x, y, weight = batch.x, batch.y, batch.sample_weight
        if y is None:
            raise TypeError("a batch has no targets; the loader must yield (x, y) or (x, y, sample_weight)")
        outputs = self.outputs(x)
        if self.classes is not None:
            y = indices(y, self.classes, "y")
        elif y.dtype.kind in "USO":
            raise ValueError("y contains names of classes; give classes=(...), in the order of the model's outputs")
        elif hasattr(self.loss, "check"):
            self.loss.check(y, outputs)
        if self.class_weight is not None:
            if weight is not None:
                raise ValueError("sample_weight and class_weight are both given; give only one of them")
            weight = self._weights(y, outputs)
        return batch._replace(y=y, sample_weight=weight)

    def prepare(self, data: Any) -> tuple[Any, Callable[[Batch], Batch]]:
        """Return the data, and a function that prepares its batches; the targets of arrays are prepared here."""
        if not isinstance(data, Arrays):
            return data, self
        batch = self(Batch(*data[:3]))
        return data._replace(y=batch.y, sample_weight=batch.sample_weight), lambda batch: batch

    def _weights(self, y: np.ndarray, outputs: tuple[int, ...]) -> np.ndarray:
        """Return the weight of each target: ``(samples,)``, or ``(samples, steps)`` if each step has a label."""
        one_hot = not hasattr(self.loss, "check") and y.ndim > 1 and y.shape[-1] > 1
        labels = np.argmax(y, axis=-1) if one_hot else y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 else y
        by_class = class_weights(self.class_weight or {}, self.classes or range(max(2, outputs[-1])))
        return by_class[np.round(np.asarray(labels)).astype(np.int64)]


def class_weights(weights: Mapping[Any, float], classes: Sequence[Any]) -> np.ndarray:
    """Return the weight of each class, 1 for classes that are not in ``weights``.

    Raises ValueError for a weight that is not a finite number of at least 0, or a label that is not a class.

    >>> class_weights({"dog": 3.0}, ("cat", "dog"))
    array([1., 3.], dtype=float32)
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"class_weight is {weights!r}; give a dict, class -> factor: {{0: 1.0, 1: 3.0}}")
    index = {label_text(label): i for i, label in enumerate(classes)}
    by_class = np.ones(len(index), np.float32)
    for label, weight in weights.items():
        if label_text(label) not in index:
            raise ValueError(f"class_weight has the class {label!r}; {nearest(label_text(label), list(index))}")
        number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            raise ValueError(f"class_weight of {label!r} is {weight!r}; expected a finite number of at least 0")
        by_class[index[label_text(label)]] = weight
    return by_class


def find_classes(loss: Any, y: Any, outputs: Callable[[], tuple[int, ...]], where: str) -> tuple[Any, ...] | None:
    """Return the labels in ``y`` in order, or None if the targets are used unchanged.

    Strings are always labels. Integers are labels if the loss takes class indices, some of them are not in
    ``0 .. classes - 1``, and the number of different integers equals the number of the model's classes. Raises
    ValueError if the loss takes class indices and the number of different strings does not equal it.
    """
    sparse = hasattr(loss, "check")
    strings = y.dtype.kind in "USO"
    if not strings and not (sparse and y.dtype.kind in "iu"):
        return None
    labels = tuple(sorted_labels(np.unique(y).tolist()))
    count = max(2, outputs()[-1])
    if strings and len(labels) != count and sparse:
        got = f"{where} has {len(labels)} different labels and the model's output {count} classes"
        raise ValueError(f"{got}; give a model with one output for each, or classes=(...), in the order of its outputs")
    outside = strings or labels[0] < 0 or labels[-1] >= count
    return labels if outside and (strings or len(labels) == count) else None


# -- labels


def class_indices(
    y_train: np.ndarray, y_test: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Map labels to 0..n-1 in the sorted order of the training labels: numbers by value, then other strings.

    Labels are strings, bytes (UTF-8), integers or booleans. Returns both as int32 indices, and the label of each index.
    Raises ValueError, whose message begins with ``where``, for a label of the test set that is not in the training set.

    >>> class_indices(np.array(["2", "10", "2"]), np.array(["10"]), "")
    (array([0, 1, 0], dtype=int32), array([1], dtype=int32), ('2', '10'))
    """
    classes = tuple(label_text(label) for label in sorted_labels(np.unique(y_train).tolist()))
    return indices(y_train, classes, where), indices(y_test, classes, f"{where}: the test set"), classes


def indices(y: Any, classes: Sequence[Any], where: str) -> np.ndarray:
    """Return the index of each label in ``classes``, as int32 in the shape of ``y``.

    Labels are compared as text, so the integer 1 is the class ``"1"``. Raises ValueError for an unknown label.
    """
    labels, inverse = np.unique(y, return_inverse=True)
    index = {label_text(label): i for i, label in enumerate(classes)}
    unknown = [label for label in sorted_labels(labels.tolist()) if label_text(label) not in index]
    if unknown:
        shown = f"{', '.join(list(index)[:20])}{', ...' if len(index) > 20 else ''}"
        raise ValueError(f"{where} has the label {label_text(unknown[0])!r}; the classes of the training set: {shown}")
    return np.array([index[label_text(label)] for label in labels.tolist()], np.int32)[inverse].reshape(np.shape(y))


def label_text(label: object) -> str:
    """Return a label as a string.

    >>> label_text(b"dog"), label_text(3)
    ('dog', '3')
    """
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def sorted_labels(labels: Iterable[Any]) -> list[Any]:
    """Return labels in sorted order: numbers by value, then other strings."""
    return sorted(labels, key=lambda label: _order(label_text(label)))


def _order(label: str) -> tuple[bool, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (False, number, label) if math.isfinite(number) else (True, 0.0, label)
