"""Where a model comes from: a run folder, a model file or a config, and the shape of its input.

Knows files; computes nothing.
"""

from pathlib import Path
from typing import Any, NamedTuple

from jaxconv.app.compatibility import load_data
from jaxconv.app.config import Config, read_config
from jaxconv.app.run_folder import CONFIG, MODEL, check_run_folder
from jaxconv.app.schema import ConfigError
from jaxconv.contract import Layer
from jaxconv.files.keras.model import Read
from jaxconv.files.loading import read_model


def class_names(read: Read) -> list[str] | None:
    """Return the names of the classes that a model file contains; None if there are none."""
    classes = read.about.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        return None
    return classes


class ModelSource(NamedTuple):
    """A model and what its source says about it.

    input_shape: batch first, or a structure of several; None if unknown. classes: the names of the outputs.
    config: None for a model file. file: the contents of a model file.
    folder: the run folder.
    """

    name: str
    layer: Layer
    input_shape: Any
    classes: Any = None
    config: Config | None = None
    file: Read | None = None
    folder: Path | None = None


def read_model_source(model: str, input_shape: Any = None) -> ModelSource:
    """Read a run folder, a model file or a config.

    Args:
        model: its path.
        input_shape: by default that of the model file, or that of the config's data, which is loaded for this.

    Raises:
        ConfigError: the path is none of the three, or the config has a mistake.
        FileError: a model file that cannot be read.
    """
    path = Path(model)
    if path.is_file() and path.suffix != ".toml":
        read = read_model(path)
        return ModelSource(str(path), read.layer, input_shape or read.input_shape, class_names(read), file=read)
    if not path.exists() and path.suffix != ".toml":
        raise ConfigError(f"{path}: no such run folder, model file or config")
    folder = path if path.is_dir() else None
    if folder is not None:
        check_run_folder(folder)
    config = read_config(path if folder is None else folder / CONFIG)
    source = ModelSource(config.name, config.model, input_shape, config=config, folder=folder)
    if folder is not None and (folder / MODEL).is_file():
        read = read_model(folder / MODEL)
        return source._replace(input_shape=input_shape or read.input_shape, classes=class_names(read))
    if input_shape is None:
        splits = load_data(config)
        return source._replace(input_shape=(None, *splits.x_train.shape[1:]), classes=splits.classes)
    return source


def parse_sizes(option: str, text: str) -> tuple[int, ...]:
    """Return the sizes in the value of an option, such as ``--input-shape 48,48,1``.

    >>> parse_sizes("--input-shape", "48,48,1")
    (48, 48, 1)
    """
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"{option} {text}: legal: the sizes of one sample, without the batch, such as 48,48,1")
    return sizes
