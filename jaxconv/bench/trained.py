"""The speed of trained models in Keras on JAX, PyTorch and jaxconv, with the same weights and input."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxconv.bench.agreement import Loaded, Unsupported, difference, disagreeing
from jaxconv.bench.network_speed import INFERENCE
from jaxconv.bench.timing import medians
from jaxconv.contract import Layer, Params
from jaxconv.files.loading import read_model
from jaxconv.serving.inputs import is_shape, map_shapes

MODES = (INFERENCE,)
LIBRARIES = ("keras", "torch", "jaxconv")  # the outputs are compared with those of the first one that is installed
BATCHES = (1, 32)
INPUT_SCALES = (1.0, 0.1, 0.01)  # for comparing outputs; large inputs may saturate a softmax, which hides differences
TOLERANCE = 1e-3  # relative to the largest entry: many float32 layers, and folded normalizations


class Trained(NamedTuple):
    """A trained model for one batch size: its file, layer, params, and the shape of its input."""

    file: str
    layer: Layer
    params: Params
    shape: Any
    batch: int


def read_trained(files: Sequence[str], batches: Sequence[int]) -> dict[str, Trained]:
    """Read model files or run folders, and return one row for each file and batch size, by its name.

    Raises FileError or ConfigError for a file that cannot be read; ValueError for an input of unknown length.
    """
    files = list(dict.fromkeys(files))
    stems = [Path(file).stem for file in files]
    rows = {}
    for file, stem in zip(files, stems, strict=True):
        info = read_model(file)
        for batch in batches:
            row = Trained(file, info.layer, info.params, _with_batch(file, info.input_shape, batch), batch)
            rows[f"{stem if stems.count(stem) == 1 else file}, batch {batch}"] = row
    return rows


def as_batches(text: str | None) -> tuple[int, ...]:
    """Parse batch sizes from the command line; None means the default.

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
        raise ValueError(f"--batch {text}: pass positive integers separated by commas, such as 1,32")
    return sizes


def measure_trained(
    name: str, model: Trained, libraries: Sequence[str], seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Compare the outputs of a trained model in several libraries, then measure its inference in them.

    say: prints a line: the differences of the outputs, before timing, and each library that is left out.

    The row has ``milliseconds`` of each library by mode, ``compile`` seconds, the largest ``difference`` of each
    library's outputs from those of the first, relative to the largest entry, libraries whose outputs are ``wrong``
    (then nothing is timed), and the reason for each library that is ``left_out``.
    """
    rng = np.random.default_rng(0)
    x = map_shapes(lambda shape: np.asarray(rng.standard_normal(shape), np.float32), model.shape)
    loaded: dict[str, Loaded] = {}
    left_out: dict[str, str] = {}
    for library in libraries:
        try:
            loaded[library] = _load(library)(model.layer, model.params, x)
        except Unsupported as error:
            left_out[library] = str(error)
            say(f"{model.file}: {library} is left out: {error}")
    scaled = [jax.tree.map(lambda one: one * np.float32(scale), x) for scale in INPUT_SCALES]  # noqa: B023
    outputs = {library: [y for x in scaled for y in one.outputs(x)] for library, one in loaded.items()}
    first = next(iter(outputs), "")
    differences = {other: difference(got, outputs[first]) for other, got in outputs.items() if other != first}
    wrong = disagreeing(outputs, TOLERANCE)
    if differences:
        listed = ", ".join(f"{other} {size:.0e}" for other, size in differences.items())
        end = f"; not timed, because it exceeds {TOLERANCE:g} of the largest entry" if wrong else ""
        say(f"{name}: difference from {first}: {listed}{end}")
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


def _with_batch(file: str, shape: Any, batch: int) -> Any:
    """Replace the batch size of an input shape, or of a structure of shapes."""
    shapes = jax.tree.leaves(shape, is_leaf=is_shape)
    if not shapes or any(None in one[1:] for one in shapes):
        raise ValueError(f"--trained {file}: the input shape {shape} has an unknown length; all lengths must be known")
    return map_shapes(lambda one: (batch, *one[1:]), shape)
