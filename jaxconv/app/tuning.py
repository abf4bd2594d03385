"""What ``jaxconv tune`` does: find a model, whatever holds it, and the shape of its input; tune, and say what came out.

Knows run folders, model files and configs.
"""

from pathlib import Path
from typing import Any

import jax

from jaxconv.app.config import load_data, read_config
from jaxconv.app.run import CONFIG, MODEL
from jaxconv.app.schema import ConfigError
from jaxconv.files.model import model_info
from jaxconv.kernels import tuned
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
    """Tune a run folder, a model file or a config, and give the table to print.

    Args:
        model: None only where there is something to forget.
        batch: by default that of the config, else 32.
        shape: of one sample, ``"128,16"``; by default that of the data, or the one that the file names.
        inference: leaves the gradients out.
        forget: first forget everything that was measured on this device.

    Raises:
        ConfigError: it is no model, or the shape is not known or does not fit.
        ValueError, OSError: as :func:`jaxconv.tune`.
    """
    lines = []
    if forget:
        platform = jax.default_backend()
        file = tuned.path(platform)
        lines.append(f"{tuned.forget(platform) or 'no'} winners forgotten: {file}")
    elif model is None:
        raise ConfigError("jaxconv tune needs a run folder, a model file or a config (or --forget)")
    if model is not None:
        layer, input_shape, own_batch = _found(Path(model), None if shape is None else (None, *_sizes(shape)))
        wanted = own_batch if batch is None else batch
        if wanted < 1:
            raise ConfigError(f"--batch {wanted}: legal: at least 1")
        if seconds < 0:
            raise ConfigError(f"--seconds {seconds}: legal: 0 or more")
        report = tune(layer, input_shape, train=not inference, batch=wanted, dtype=dtype, seconds=seconds)
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


def _found(path: Path, shape: Any) -> tuple[Any, Any, int]:
    """Give the layer, the shape of its input and the batch size of a run folder, a model file or a config."""
    if path.is_file() and path.suffix != ".toml":
        held = model_info(path)
        shape = held["input_shape"] if shape is None else shape
        if shape is None:
            raise ConfigError(f"{path} does not say what shape its input has; give it: --shape 128,16")
        return held["layer"], shape, 32
    if not path.exists():
        raise ConfigError(f"{path}: there is no such run folder, model file or config")
    if path.is_dir() and not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is no run folder: it holds no {CONFIG}")
    config = read_config(path / CONFIG if path.is_dir() else path)
    if shape is None and (path / MODEL).is_file():
        shape = model_info(path / MODEL)["input_shape"]
    if shape is None:
        shape = (None, *load_data(config).x_train.shape[1:])
    return config.model, shape, config.train.batch_size
