"""Predictions from files into files: neither the inputs nor the outputs are ever in memory as a whole.

Knows arrays in files and a model as a function of (params, x); where the model came from is the caller's affair.
"""

import contextlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import numpy as np

from jaxconv.app.schema import ConfigError, one_line
from jaxconv.contract.display import format_shapes
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError
from jaxconv.files.model import model_info
from jaxconv.models import Model
from jaxconv.models.container import Container
from jaxconv.progress import display
from jaxconv.training.evaluation import predict_batches


class Predictor(NamedTuple):
    """A model that predicts: ``apply_fn(params, x)``.

    origin: what the messages call it. takes: the shape of its input, batch first, or a structure of several; None where
    it is not known. inputs: the names of several inputs, which ``x`` then is a dict of; empty for a single one.
    outputs: the names of several outputs, in the order of their leaves.
    """

    origin: str
    apply_fn: Callable[[Any, Any], Any]
    params: Any
    takes: Any
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def trained(file: Path) -> Predictor:
    """Read a model file for predictions.

    Raises:
        FileError: as :func:`jaxconv.load_model`.
    """
    held = model_info(file)
    layer = held["layer"]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    if isinstance(layer, Model) and layer.structure.num_leaves > 1:
        example = layer.structure.unflatten(range(layer.structure.num_leaves))
        inputs = tuple(sorted(example) if isinstance(example, dict) else [source.name for source in layer.sources])
    if isinstance(layer, Container) and layer.output_structure.num_leaves > 1:
        outputs = _output_names(layer)
    return Predictor(str(file), layer.apply_fn, held["params"], held["input_shape"], inputs, outputs)


def _output_names(layer: Container) -> tuple[str, ...]:
    """Name the outputs by their keys in a dict, else by the layers that give them."""
    example = layer.output_structure.unflatten(layer.graph.outputs)
    if isinstance(example, dict):
        return tuple(sorted(example))
    givers = [f"input_{place}" for place in range(layer.graph.input_count)]
    for name, _, _ in layer.graph.calls:
        givers += [name] * layer.children[name].output_structure.num_leaves
    names: list[str] = []
    for place in layer.graph.outputs:
        again = sum(name == givers[place] or name.startswith(f"{givers[place]}_") for name in names)
        names.append(f"{givers[place]}_{again}" if givers[place] in names else givers[place])
    return tuple(names)


def predict(model: Predictor, files: Sequence[str], out: str, batch: int = 32) -> str:
    """Apply a model to the rows of files, and give the line to print. The result takes its name when it is whole.

    Args:
        model: the model.
        files: an ``.npy`` file of examples, which is memory-mapped; for several inputs, one for each in their order,
            or one ``.npz`` file with an array under the name of each.
        out: the result: ``.npy``, float32 (float64 for a float64 model), one prediction per row; for several outputs
            ``.npz``, with the names of the layers that give them.
        batch: rows computed at once.

    Raises:
        ConfigError: a file is missing or is no array of numbers, or does not fit the model.
    """
    if batch < 1:
        raise ConfigError(f"--batch {batch}: legal: at least 1")
    if Path(out).resolve() in [Path(file).resolve() for file in files]:
        raise ConfigError(f"--out {out} is the input; give another file")
    ending, format = (".npz", "several outputs are") if model.outputs else (".npy", "the predictions are")
    if not out.endswith(ending):
        several = f" ({', '.join(model.outputs)})" if model.outputs else ""
        raise ConfigError(
            f"--out {out}: {format} written in numpy's format{several}; give a name that ends in {ending}"
        )
    inputs, count = _inputs(model, files)
    shapes = check_input(model.origin, model.apply_fn, model.params, inputs, model.takes)
    with _result(out, model.outputs, count) as write, display(count, unit="example") as bar:
        done = 0
        for y in predict_batches(model.apply_fn, model.params, inputs, batch):
            rows = jax.tree.leaves(y)
            write(rows)
            done += len(rows[0])
            bar.to(done)
    written = ", ".join(format_shapes(shape[1:]) for shape in shapes)
    return f"{count} predictions of shape {written} in {out}"


def check_input(origin: str, apply_fn: Any, params: Any, x: Any, takes: Any) -> list[tuple[int, ...]]:
    """Give the shapes of a model's outputs for ``x``. Raises ConfigError where the model does not take it."""
    try:
        kinds = jax.tree.map(lambda one: jax.ShapeDtypeStruct(one.shape, _kind(one)), x)
        return [y.shape for y in jax.tree.leaves(jax.eval_shape(apply_fn, params, kinds))]
    except (ValueError, TypeError) as error:
        told = "" if takes is None else f"; {origin} was trained on {_readable(takes)}"
        got = {name: one.shape for name, one in x.items()} if isinstance(x, dict) else x.shape
        raise ConfigError(f"the input has shape {got}{told}: {one_line(error)}") from None


def _kind(array: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(array.dtype) if array.dtype.kind in "iub" else np.dtype("float32")


def _readable(shapes: Any) -> str:
    if isinstance(shapes, dict):
        return ", ".join(f"{name}: {_readable(shape)}" for name, shape in shapes.items())
    return " and ".join(map(_readable, shapes)) if isinstance(shapes, list) else format_shapes(shapes)


def _inputs(model: Predictor, files: Sequence[str]) -> tuple[Any, int]:
    """Give what the model is applied to, and how many examples that is."""
    names = model.inputs
    if len(files) == 1 and (names or files[0].endswith(".npz")):
        arrays = _from_npz(Path(files[0]), names or ("x",))
    elif len(files) != max(len(names), 1):
        several = f"{len(names)} inputs: {', '.join(names)}" if names else "one input"
        raise ConfigError(f"{model.origin} takes {several}; got {len(files)} files")
    else:
        arrays = {name: mapped(Path(file)) for name, file in zip(names or ("x",), files, strict=True)}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ConfigError(f"the inputs differ in the number of examples: {told}; legal: equally many")
    return (arrays if names else arrays["x"]), next(iter(counts.values()))


def _from_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; an .npz file with {', '.join(names)} is expected")
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            raise ConfigError(f"{path} is a single array; an .npz file with {', '.join(names)} is expected")
        with held:
            missing = [name for name in names if name not in held.files]
            if missing:
                raise ConfigError(f"{path} holds no {missing[0]!r}; it holds {', '.join(held.files) or 'nothing'}")
            return {name: _numbers(f"{path}: {name}", held[name]) for name in names}
    except ConfigError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read as an .npz file of arrays: {one_line(error)}") from None


def mapped(path: Path) -> np.ndarray:
    """Map an ``.npy`` file of examples into memory. Raises ConfigError where it is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; an .npy file is expected")
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{path} is no .npy file of numbers, such as numpy.save writes: {one_line(error)}") from None
    return _numbers(str(path), array)


def _numbers(what: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not len(array):
        raise ConfigError(
            f"{what} holds {array.dtype} of shape {array.shape}; real numbers (examples, ...) are expected"
        )
    return array


@contextlib.contextmanager
def _result(out: str, names: Sequence[str], count: int) -> Iterator[Callable[[Sequence[np.ndarray]], None]]:
    """Open the result, and give what takes the rows of each output, batch after batch."""
    if not names:
        with replacing(out) as handle:
            yield lambda rows: _append(handle, rows[0], count)
        return
    try:
        aside = tempfile.TemporaryDirectory(prefix=f".{Path(out).name}.", dir=Path(out).parent)
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error.strerror or error}") from error
    with aside as folder, contextlib.ExitStack() as open_files:
        paths = [Path(folder) / f"{index}.npy" for index in range(len(names))]
        handles = [open_files.enter_context(open(path, "wb")) for path in paths]

        def write(rows: Sequence[np.ndarray]) -> None:
            for handle, one in zip(handles, rows, strict=True):
                _append(handle, one, count)

        yield write
        open_files.close()
        with replacing(out) as handle, zipfile.ZipFile(handle, "w") as archive:
            for name, path in zip(names, paths, strict=True):
                archive.write(path, f"{name}.npy")


def _append(handle: IO[bytes], rows: np.ndarray, count: int) -> None:
    """Add rows to an ``.npy`` file, after its header, in a type that it has: half precision becomes float32."""
    rows = rows if rows.dtype == np.float64 else rows.astype(np.float32)
    if handle.tell() == 0:
        header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (count, *rows.shape[1:])}
        np.lib.format.write_array_header_2_0(handle, header)
    handle.write(np.ascontiguousarray(rows).data)
