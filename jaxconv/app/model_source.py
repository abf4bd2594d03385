"""Reading of a model and its input shape from a run folder, a model file or a config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxconv.app.compatibility import load_data
from jaxconv.app.config import Config, read_config
from jaxconv.app.run_folder import CONFIG, MODEL, check_run_folder
from jaxconv.app.schema import ConfigError
from jaxconv.contract import Layer
from jaxconv.contract.display import format_shapes
from jaxconv.contract.weights import param_shapes
from jaxconv.files.keras.model import Read
from jaxconv.files.loading import read_model
from jaxconv.models import Model


def class_names(read: Read) -> list[str] | None:
    """Return the names of the classes that a model file contains, or None if there are none."""
    classes = read.about.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        return None
    return classes


class ModelSource(NamedTuple):
    """A model and the facts in its source.

    input_shape: batch first, or a structure of shapes for several inputs; None if unknown. classes: the names of the
    outputs. config: None for a model file. file: the contents of a model file. folder: the run folder.
    """

    name: str
    layer: Layer
    input_shape: Any
    classes: Any = None
    config: Config | None = None
    file: Read | None = None
    folder: Path | None = None


def read_model_source(model: str, shape_texts: Sequence[str] | None = None) -> ModelSource:
    """Read a run folder, a model file or a config. Raises ConfigError or FileError.

    shape_texts: the values of ``--input-shape``; by default the shape is that of the model file, or that of the
    config's data, which is loaded for this.
    """
    path = Path(model)
    if path.is_file() and path.suffix != ".toml":
        read = read_model(path, untrained=True)
        shape = file_shape(path, read, shape_texts)
        return ModelSource(str(path), read.layer, shape, class_names(read), file=read)
    if not path.exists() and path.suffix != ".toml":
        raise ConfigError(f"{path}: no such run folder, model file or config")
    folder = path if path.is_dir() else None
    if folder is not None:
        check_run_folder(folder)
    config = read_config(path) if folder is None else read_config(folder / CONFIG, own=False)
    shape = pick_shape(config.model, shape_texts)
    source = ModelSource(config.name, config.model, shape, config=config, folder=folder)
    if folder is not None and (folder / MODEL).is_file():
        read = read_model(folder / MODEL)
        return source._replace(input_shape=file_shape(folder / MODEL, read, shape_texts), classes=class_names(read))
    if shape is None:
        splits = load_data(config)
        return source._replace(input_shape=(None, *splits.x_train.shape[1:]), classes=splits.classes)
    return source


def pick_shape(layer: Layer, texts: Sequence[str] | None, default: Any = None) -> Any:
    """Return the input shape from the values of ``--input-shape``, one for each input, or a default without them.

    >>> pick_shape(jaxconv.Conv2D(4, 3), ["48,48,1"])
    (None, 48, 48, 1)
    """
    if texts is None:
        return default
    shapes = [(None, *_sizes(text)) for text in texts]
    if not isinstance(layer, Model):
        return shapes[0] if len(shapes) == 1 else shapes
    if len(shapes) != len(layer.sources):
        raise ConfigError(
            f"--input-shape {' --input-shape '.join(texts)}: {layer.label} takes {len(layer.sources)} input(s), "
            f"{', '.join(source.name for source in layer.sources)}; "
            f"give a shape for each, in this order: {shape_option(layer.known_input_shape)}"
        )
    return layer.structure.unflatten(shapes)


def file_shape(file: Path, read: Read, texts: Sequence[str] | None) -> Any:
    """Return the input shape of a model file: as given, or as in the file; None if it is unknown.

    Raises ConfigError if a model for the given shape has other weights than those in the file.
    """
    shape = pick_shape(read.layer, texts, read.input_shape)
    leaves = jax.tree.leaves_with_path(read.params)
    if texts is None or any(isinstance(leaf, jax.ShapeDtypeStruct) for _, leaf in leaves):  # a file without weights
        return shape
    needed = {path: leaf.shape for path, leaf in jax.tree.leaves_with_path(param_shapes(read.layer, shape))}
    for path, leaf in leaves:
        if needed.get(path) != leaf.shape:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            own = "" if read.input_shape is None else f"; its input has shape {format_shapes(read.input_shape)}"
            raise ConfigError(
                f"--input-shape {' --input-shape '.join(texts)}: input of shape {format_shapes(shape)} needs {name} of "
                f"shape {needed.get(path)}; that in {file} has shape {leaf.shape}{own}"
            )
    return shape


def known_shape(file: Path, read: Read, texts: Sequence[str] | None) -> Any:
    """Return the input shape of a model file: as given, or as in the file. Raises ConfigError if there is none."""
    shape = file_shape(file, read, texts)
    if shape is None:
        raise ConfigError(f"{file} does not contain the shape of its input; give it without batch: {shape_option()}")
    return shape


def shape_option(shape: Any = None) -> str:
    """Return an example of ``--input-shape`` for one or several shapes, with a number for each unknown length.

    >>> shape_option([(None, None, 2), (None, 8)])
    '--input-shape 128,2 --input-shape 8'
    """
    if shape is None:
        return "--input-shape 128,16"
    shapes = jax.tree.leaves(shape, is_leaf=lambda one: isinstance(one, tuple))
    return " ".join("--input-shape " + ",".join(str(size or 128) for size in one[1:]) for one in shapes)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"--input-shape {text}: expected the sizes of one sample, without the batch, such as 48,48,1")
    return sizes
