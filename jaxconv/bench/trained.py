"""Trained model files side by side: the same weights and the same input in Keras on JAX, in PyTorch and here.

Knows files by what reads them, and the peers by their one function ``load``.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.bench.agreement import Inexpressible, Loaded, difference, disagreeing
from jaxconv.bench.timing import medians
from jaxconv.bench.whole import INFERENCE
from jaxconv.contract import Layer, Params
from jaxconv.files.model import model_info

MODES = (INFERENCE,)
LIBRARIES = ("keras", "torch", "jaxconv")  # the first that is there is what the others are compared with
BATCHES = (1, 32)
SIZES = (1.0, 0.1, 0.01)  # of the inputs that are compared: the larger ones may saturate a softmax, which hides much
TOLERANCE = 1e-3  # of the largest entry: layer upon layer of float32, and folded normalizations


class Trained(NamedTuple):
    """A trained model for one batch size: where it comes from, layer, params, and the shape of its input."""

    file: str
    layer: Layer
    params: Params
    shape: Any
    batch: int


def read_trained(files: Sequence[str], batches: Sequence[int]) -> dict[str, Trained]:
    """Read trained models; give a row for each and each batch size, by its name.

    Args:
        files: model files, or run folders.
        batches: sizes.

    Raises:
        FileError, ConfigError: a file that is missing, or cannot be read.
        ValueError: a model that does not say all lengths of its input.
    """
    files = list(dict.fromkeys(files))
    stems = [Path(file).stem for file in files]
    rows = {}
    for file, stem in zip(files, stems, strict=True):
        held = model_info(Path(file))
        for batch in batches:
            row = Trained(file, held["layer"], held["params"], _with_batch(file, held["input_shape"], batch), batch)
            rows[f"{stem if stems.count(stem) == 1 else file}, batch {batch}"] = row
    return rows


def as_batches(text: str | None) -> tuple[int, ...]:
    """Read batch sizes from the command line; None gives those that are measured by default.

    >>> as_batches("1,8"), as_batches(None)
    ((1, 8), (1, 32))
    """
    if text is None:
        return BATCHES
    try:
        sizes = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise ValueError(f"--batch {text}: give whole numbers from 1 on, with commas between, such as 1,32")
    return sizes


def measure_trained(
    name: str, model: Trained, libraries: Sequence[str], seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Compare the outputs of a trained model in several libraries, then measure its inference in those.

    Args:
        name: of the row.
        model: the model.
        libraries: of keras, torch, jaxconv.
        seconds: for each library, as in :func:`~jaxconv.bench.timing.medians`.
        say: takes a line for the user: how far the outputs agree, before any is timed, and which library is left out.

    Returns:
        name, file, batch, ``milliseconds`` of each library by mode, ``compile`` seconds; ``difference``: of each
        library's outputs from those of the first, relative to the largest entry; ``wrong``: libraries with other
        outputs than the first, of which nothing is timed; ``left_out``: why, for libraries that cannot compute it.
    """
    x = _random(model.shape)
    loaded: dict[str, Loaded] = {}
    left_out: dict[str, str] = {}
    for library in libraries:
        try:
            loaded[library] = _load(library)(model.layer, model.params, x)
        except Inexpressible as error:
            left_out[library] = str(error)
            say(f"{model.file}: {library} is left out: {error}")
    outputs = {library: _outputs(one, x) for library, one in loaded.items()}
    first = next(iter(outputs), "")
    differences = {other: difference(got, outputs[first]) for other, got in outputs.items() if other != first}
    wrong = disagreeing(outputs, TOLERANCE)
    if differences:
        told = ", ".join(f"{other} {size:.0e}" for other, size in differences.items())
        end = f"; more than {TOLERANCE:g} of the largest entry: not timed" if wrong else ""
        say(f"{name}: difference from {first}: {told}{end}")
    timed = {} if wrong else medians({library: one.infer for library, one in loaded.items()}, seconds)
    return {
        "name": name,
        "file": model.file,
        "batch": model.batch,
        "milliseconds": {INFERENCE: timed},
        "compile": {library: one.seconds for library, one in loaded.items() if one.seconds},
        "difference": differences,
        "wrong": wrong,
        "left_out": left_out,
    }


def _load(library: str) -> Callable[[Layer, Params, Any], Loaded]:
    return importlib.import_module(f"jaxconv.bench.peers.{library}").load


def _outputs(loaded: Loaded, x: Any) -> list[np.ndarray]:
    """Give the outputs for inputs of all sizes."""
    scaled = [jax.tree.map(lambda one: one * np.float32(size), x) for size in SIZES]  # noqa: B023
    return [output for one in scaled for output in loaded.outputs(one)]


def _with_batch(file: str, shape: Any, batch: int) -> Any:
    """Give the shape of an input, or the structure of several, with a batch size."""
    shapes = jax.tree.leaves(shape, is_leaf=_is_shape)
    if not shapes or any(None in one[1:] for one in shapes):
        raise ValueError(f"--trained {file}: the model takes input of shape {shape}; all lengths have to be known")
    return jax.tree.map(lambda one: (batch, *one[1:]), shape, is_leaf=_is_shape)


def _random(shape: Any) -> Any:
    """Give normal numbers, always the same ones."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda one: np.asarray(rng.standard_normal(one), np.float32), shape, is_leaf=_is_shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple)
