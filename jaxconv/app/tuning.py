"""The command ``jaxconv tune``: find a model and the shape of its input, tune it, and format the result.

Knows run folders, model files and configs.
"""

from pathlib import Path
from typing import Any

import jax

from jaxconv.app.config import load_data, read_config
from jaxconv.app.run import CONFIG, MODEL
from jaxconv.app.schema import ConfigError
from jaxconv.files.model import model_info
from jaxconv.kernels import tuning_cache
from jaxconv.tuning.measurement import tune


def command(
    model: str | None,
    *,
    batch: int | None = None,
    shape: str | None = None,
    dtype: str = "float32",
    inference: bool = False,
    seconds: float = 0.2,
    forget: bool = False,
) -> str:
    """Tune a run folder, a model file or a config, and return the table to print.

    Args:
        model: None only with ``forget``.
        batch: by default that of the config, else 32.
        shape: of one sample, ``"128,16"``; by default that of the data, or that in the file.
        inference: whether to leave out the gradients.
        forget: whether to first forget everything that was measured on this device.

    Raises:
        ConfigError: not a model; a shape that is unknown or does not fit.
        ValueError, OSError: as :func:`jaxconv.tune`.
    """
    lines = []
    if forget:
        platform = jax.default_backend()
        file = tuning_cache.path(platform)
        lines.append(f"{tuning_cache.forget(platform) or 'no'} winners forgotten: {file}")
    elif model is None:
        raise ConfigError("jaxconv tune needs a run folder, a model file or a config (or --forget)")
    if model is not None:
        layer, input_shape, default_batch = _find(Path(model), None if shape is None else (None, *_sizes(shape)))
        batch = default_batch if batch is None else batch
        if batch < 1:
            raise ConfigError(f"--batch {batch}: legal: at least 1")
        if seconds < 0:
            raise ConfigError(f"--seconds {seconds}: legal: 0 or more")
        report = tune(layer, input_shape, train=not inference, batch=batch, dtype=dtype, seconds=seconds)
        lines.append(repr(report))
    return "\n".join(lines)


def _sizes(shape: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in shape.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"--shape {shape}: legal: the sizes of one sample, without the batch, such as 128,16")
    return sizes


def _find(path: Path, shape: Any) -> tuple[Any, Any, int]:
    """Return the layer, the shape of its input and the batch size of a run folder, a model file or a config."""
    if path.is_file() and path.suffix != ".toml":
        info = model_info(path)
        shape = info["input_shape"] if shape is None else shape
        if shape is None:
            raise ConfigError(f"{path} does not contain the shape of its input; add it, as in --shape 128,16")
        return info["layer"], shape, 32
    if not path.exists():
        raise ConfigError(f"{path}: no such run folder, model file or config")
    if path.is_dir() and not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is not a run folder: it contains no {CONFIG}")
    config = read_config(path / CONFIG if path.is_dir() else path)
    if shape is None and (path / MODEL).is_file():
        shape = model_info(path / MODEL)["input_shape"]
    if shape is None:
        shape = (None, *load_data(config).x_train.shape[1:])
    return config.model, shape, config.train.batch_size
