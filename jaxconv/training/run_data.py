"""The training and validation data of a run, from arrays or loaders, with targets in the form that the loss takes."""

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.contract import Params
from jaxconv.training.data import Arrays, Batch, Loader, source
from jaxconv.training.mistakes import check_inputs, check_output, check_targets
from jaxconv.training.options import Options
from jaxconv.training.targets import Targets, find_classes, output_shape


class RunData(NamedTuple):
    """The data of one run.

    training, validation: the sources of batches; validation is None if there is none.
    prepare, prepare_validation: functions from a batch of the source to the batch that a step takes.
    classes: the label of each output of the model, or None if the targets are already numbers.
    identity: a plain value that must be equal in a resumed run.
    """

    training: Arrays | Loader
    validation: Arrays | Loader | None
    prepare: Callable[[Batch], Batch]
    prepare_validation: Callable[[Batch], Batch]
    classes: tuple[Any, ...] | None
    identity: Any


def run_data(
    options: Options,
    apply_fn: Any,
    params: Params,
    loss: Any,
    data: tuple[Any, Any, Any],
    validation_data: Any,
    class_weight: Mapping[Any, float] | None,
    classes: Sequence[Any] | None,
) -> RunData:
    """Return the data of a run, after all checks that are possible before training; ``data`` is x, y, sample_weight."""
    check_targets(apply_fn, data[1])
    training, validation = _sources(options, apply_fn, *data, validation_data)
    check_output(apply_fn, loss)
    outputs = output_shape(apply_fn, params)
    if classes is None and isinstance(training, Arrays):
        classes = find_classes(loss, training.y, functools.partial(outputs, training.x), "y")
    targets = Targets(loss, outputs, None if classes is None else tuple(classes), class_weight)
    identity = _data_identity(training)
    training, prepare = targets.prepare(training)
    validation, prepare_validation = dataclasses.replace(targets, class_weight=None).prepare(validation)
    return RunData(training, validation, prepare, prepare_validation, targets.classes, identity)


def _sources(
    options: Options, apply_fn: Any, x: Any, y: Any, sample_weight: Any, data: Any
) -> tuple[Arrays | Loader, Arrays | Loader | None]:
    """Return the training data and the validation data."""
    split, size, steps = options.validation_split, options.batch_size, options.steps_per_epoch
    if y is not None:
        check_inputs(apply_fn, x)
    training = source(x, y, sample_weight, batch_size=size, steps_per_epoch=steps, epochs=options.epochs)
    validation: Arrays | Loader | None = None
    if data is not None:
        if split:
            raise ValueError("validation_data and validation_split are both given; give only one of them")
        pair = isinstance(data, tuple | list) and len(data) in (2, 3) and not isinstance(data[0], tuple | list)
        if hasattr(data, "shape"):
            raise ValueError(f"validation_data is a {type(data).__name__}; give (x, y), (x, y, weights) or a loader")
        parts = tuple(data) if pair else (data,)
        if pair:
            check_inputs(apply_fn, parts[0], "x of validation_data")
        validation = source(*parts, batch_size=size, epochs=options.epochs, name="validation_data")
    elif split:
        if isinstance(training, Loader):
            raise ValueError(f"validation_split={split} needs arrays; give validation_data with a loader")
        cut = training_count(training.samples, split)
        training, validation = training.part(slice(cut)), training.part(slice(cut, None))
    if isinstance(training, Arrays):
        samples = np.arange(training.samples)

        def order(epoch: int) -> np.ndarray:
            return np.random.default_rng([options.seed, epoch]).permutation(samples) if options.shuffle else samples

        training = training._replace(order=order)
    return training, validation


def training_count(samples: int, validation_split: float) -> int:
    """Return the number of samples that remain for training. Raises ValueError if there are none, or all remain.

    >>> training_count(37, 0.25)
    27
    """
    count = math.floor(samples * (1 - validation_split))
    if validation_split and not 0 < count < samples:
        got = f"validation_split={validation_split} of {samples} samples leaves no sample on one side"
        raise ValueError(f"{got}; give another fraction or more samples")
    return count


def _data_identity(data: Arrays | Loader) -> Any:
    """Return a cheap identity of the data: a checksum of some rows of arrays, or the type and length of a loader."""
    if isinstance(data, Loader):
        return f"{type(data.batches).__name__}, {data.steps} batches"
    checksum = 0
    for array in jax.tree.leaves((data.x, data.y, data.sample_weight)):  # shape, dtype, first, middle and last row
        rows = np.ascontiguousarray(np.asarray(array[[0, len(array) // 2, -1]]))
        text = str(rows.tolist()).encode() if rows.dtype.kind == "O" else rows.tobytes()
        checksum = zlib.crc32(f"{array.shape} {array.dtype}".encode() + text, checksum)
    return checksum
