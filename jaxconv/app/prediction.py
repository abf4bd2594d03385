"""Prediction from files to files, without loading all inputs or outputs into memory."""

import collections
import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np

from jaxconv.app.array_files import map_npy, read_npz
from jaxconv.app.model_source import class_names
from jaxconv.app.processes import check_files, is_first
from jaxconv.app.schema import ConfigError
from jaxconv.contract.display import format_shapes
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError
from jaxconv.files.loading import read_model
from jaxconv.models import Model
from jaxconv.models.container import Container
from jaxconv.progress import Display
from jaxconv.serving.artifact import is_exported, load_exported
from jaxconv.serving.exported_stream import ExportedStream
from jaxconv.training.data import device_dtype
from jaxconv.training.evaluation import predict_batches


class Predictor(NamedTuple):
    """A model that predicts: ``apply_fn(params, x)``.

    name: for messages. input_shape: batch first, or a structure for several inputs; None if unknown. inputs: the keys
    of ``x``; empty for a single one. outputs: the names of several outputs, in the order of their leaves. classes: the
    labels of the training data; empty if they are unknown.
    """

    name: str
    apply_fn: Callable[[Any, Any], Any]
    params: Any
    input_shape: Any
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def load_predictor(file: Path) -> Predictor:
    """Read a model file or an exported program. Raises FileError."""
    if is_exported(file):
        return _exported_predictor(file)
    read = read_model(file)
    layer = read.layer
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    if isinstance(layer, Model) and layer.structure.num_leaves > 1:
        example = layer.structure.unflatten(range(layer.structure.num_leaves))
        inputs = tuple(sorted(example) if isinstance(example, dict) else [source.name for source in layer.sources])
    if isinstance(layer, Container) and layer.output_structure.num_leaves > 1:
        outputs = _output_names(layer)
    classes = tuple(class_names(read) or ())
    return Predictor(str(file), layer.apply_fn, read.params, read.input_shape, inputs, outputs, classes)


def _output_names(layer: Container) -> tuple[str, ...]:
    """Return the keys of a dict of outputs, or the names of the layers that compute the outputs."""
    example = layer.output_structure.unflatten(layer.graph.outputs)
    if isinstance(example, dict):
        return tuple(sorted(example))
    layer_names = [f"input_{index}" for index in range(layer.graph.input_count)]
    for name, _, _ in layer.graph.calls:
        layer_names += [name] * layer.children[name].output_structure.num_leaves
    names: list[str] = []
    for index in layer.graph.outputs:
        base = layer_names[index]
        count = sum(name == base or name.startswith(f"{base}_") for name in names)
        names.append(f"{base}_{count}" if base in names else base)
    return tuple(names)


def _exported_predictor(file: Path) -> Predictor:
    program = load_exported(file)
    if isinstance(program, ExportedStream):
        raise ConfigError(f"{file} contains a stream; run it in Python: jaxconv.load_exported({str(file)!r}).step")
    shape = program.input_shape
    if isinstance(shape, dict):
        inputs = tuple(sorted(shape))
    else:
        inputs = tuple(f"input_{n}" for n in range(len(shape))) if isinstance(shape, list) else ()

    def apply_fn(params: Any, x: Any) -> Any:
        return program([x[name] for name in inputs] if isinstance(shape, list) else x)

    outputs = tuple(f"output_{n}" for n in range(program.outputs)) if program.outputs > 1 else ()
    return Predictor(str(file), apply_fn, {}, shape, inputs, outputs)


def predict_files(model: Predictor, files: Sequence[str], out: str, batch: int = 32, sharding: Any = None) -> str:
    """Apply a model to the rows of files and return a line to print. ``out`` is written only when it is complete.

    files: an ``.npy`` file of examples, which is memory-mapped; for several inputs, one for each in their order, or one
    ``.npz`` file with an array for each name. out: ``.npy``, float32 (float64 for a float64 model), one prediction per
    row; for several outputs ``.npz``. sharding: as in ``fit``; with several processes, the first one writes. Raises
    ConfigError if a file is missing, is not an array of numbers, does not fit the model, or differs in a process.
    """
    if batch < 1:
        raise ConfigError(f"--batch {batch}: expected at least 1")
    if Path(out).resolve() in [Path(file).resolve() for file in files]:
        raise ConfigError(f"--out {out} is the input; give another file")
    suffix = ".npz" if model.outputs else ".npy"
    if not out.endswith(suffix):
        outputs = f"{len(model.outputs)} outputs ({', '.join(model.outputs)})" if model.outputs else "one output"
        raise ConfigError(f"--out {out}: {model.name} has {outputs}; give a name that ends in {suffix}")
    x = read_inputs(model, files)
    count = len(jax.tree.leaves(x)[0])
    shapes = check_input(model.name, model.apply_fn, model.params, x, model.input_shape)
    check_files({Path(model.name).name: Path(model.name)}, x if isinstance(x, dict) else {"the input": x})
    predictions = predict_batches(model.apply_fn, model.params, x, batch, sharding=sharding)
    if not is_first():
        collections.deque(predictions, maxlen=0)
        return ""
    with _open_result(out, model.outputs, count) as write, Display(count, unit="example") as progress:
        done = 0
        for y in predictions:
            rows = jax.tree.leaves(y)
            write(rows)
            done += len(rows[0])
            progress.update(done)
    return f"{count} predictions of shape {', '.join(format_shapes(shape[1:]) for shape in shapes)} in {out}"


def check_input(name: str, apply_fn: Any, params: Any, x: Any, input_shape: Any) -> list[tuple[int, ...]]:
    """Return the shapes of a model's outputs for ``x``. Raises ConfigError if the model does not accept it."""
    try:
        float32 = np.dtype("float32")
        dtypes = jax.tree.map(lambda one: device_dtype(one.dtype) if one.dtype.kind in "iub" else float32, x)
        specs = jax.tree.map(lambda one, dtype: jax.ShapeDtypeStruct(one.shape, dtype), x, dtypes)
        return [y.shape for y in jax.tree.leaves(jax.eval_shape(apply_fn, params, specs))]
    except (ValueError, TypeError) as error:
        expected = "" if input_shape is None else f"; {name} was trained on {format_shapes(input_shape)}"
        shape = {key: array.shape for key, array in x.items()} if isinstance(x, dict) else x.shape
        raise ConfigError(f"the input has shape {shape}{expected}: {error}") from None


def read_inputs(model: Predictor, files: Sequence[str]) -> Any:
    """Return the input of the model: an array, or a dict of several with the same number of examples."""
    names = model.inputs
    if len(files) == 1 and (files[0].endswith(".npz") or (names and not files[0].endswith(".npy"))):
        arrays = read_npz(files[0], names or ("x",))
    elif len(files) != max(len(names), 1):
        takes, give = "one input", "give one .npy file"
        if names:
            takes = f"{len(names)} inputs: {', '.join(names)}"
            give = "give one .npy file for each, in this order, or one .npz file with an array for each name"
        got = files[0] if len(files) == 1 else f"{len(files)} files, {', '.join(files)}"
        raise ConfigError(f"{model.name} takes {takes}; got {got}; {give}")
    else:
        arrays = {name: map_npy(file) for name, file in zip(names or ("x",), files, strict=True)}
    for name, file in zip(arrays, files if len(files) == len(arrays) else list(files) * len(arrays), strict=True):
        what, array = f"{file}: {name}" if file.endswith(".npz") else file, arrays[name]
        if array.ndim < 2 or not array.size:
            raise ConfigError(f"{what} has shape {array.shape}; at least one example is expected: (examples, ...)")
        if array.dtype.kind not in "fiub":
            raise ConfigError(f"{what} has dtype {array.dtype}; real numbers are expected")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ConfigError(f"the inputs have different numbers of examples: {text}; give equal numbers")
    return arrays if names else arrays["x"]


@contextlib.contextmanager
def _open_result(out: str, names: Sequence[str], count: int) -> Iterator[Callable[[Sequence[np.ndarray]], None]]:
    """Open the result and yield a function that appends the rows of each output."""
    if not names:
        with replacing(out) as handle:
            yield lambda rows: _append(handle, rows[0], count)
        return
    try:
        with tempfile.TemporaryDirectory(prefix=f".{Path(out).name}.", dir=Path(out).parent) as folder:
            paths = [Path(folder) / f"{index}.npy" for index in range(len(names))]
            with contextlib.ExitStack() as open_files:
                handles = [open_files.enter_context(open(path, "wb")) for path in paths]

                def write(rows: Sequence[np.ndarray]) -> None:
                    for handle, array in zip(handles, rows, strict=True):
                        _append(handle, array, count)

                yield write
            with replacing(out) as handle, zipfile.ZipFile(handle, "w") as archive:
                for name, path in zip(names, paths, strict=True):
                    archive.write(path, f"{name}.npy")
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error.strerror or error}") from error


def _append(handle: IO[bytes], rows: np.ndarray, count: int) -> None:
    """Append rows to an ``.npy`` file; the first ones after a header. Half precision becomes float32."""
    rows = rows if rows.dtype == np.float64 else rows.astype(np.float32)
    if handle.tell() == 0:
        header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (count, *rows.shape[1:])}
        np.lib.format.write_array_header_2_0(handle, header)
    handle.write(np.ascontiguousarray(rows).data)
