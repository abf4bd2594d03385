"""What a model consists of, and what its run reached: the text that ``jaxconv info`` prints.

Knows run folders, model files and configs; it computes no output.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxconv.app.config import Config, load_data, read_config
from jaxconv.app.run import CONFIG, METRICS, MODEL, RESULTS, read_table, resume_command, summary
from jaxconv.app.schema import ConfigError
from jaxconv.contract.display import summary as layer_summary
from jaxconv.files.model import model_info
from jaxconv.progress import readable

Shape = Sequence[int | None]


def info(model: str) -> str:
    """Describe a run folder, a model file or a config: layers, output shapes, parameters, and what the run reached.

    Raises:
        ConfigError: it is none of the three, or the config has a mistake.
    """
    path = Path(model)
    if path.is_file() and path.suffix != ".toml":
        held = model_info(path)
        return _text(str(path), held["layer"], held["input_shape"], _of_file(held))
    if not path.exists() and path.suffix != ".toml":
        raise ConfigError(f"{path}: there is no such run folder, model file or config")
    if path.is_dir() and not (path / CONFIG).is_file():
        raise ConfigError(f"{path} is no run folder: it holds no {CONFIG}")
    config = read_config(path / CONFIG if path.is_dir() else path)
    if (path / MODEL).is_file():
        held = model_info(path / MODEL)
        shape, classes = held["input_shape"], held["about"].get("classes")
    else:
        splits = load_data(config)
        shape, classes = (None, *splits.x_train.shape[1:]), splits.classes
    facts = _of_config(config) + _of_classes(classes) + (_of_run(path, config) if path.is_dir() else [])
    return _text(config.name, config.model, shape, facts)


def _text(title: str, layer: Any, shape: Shape | None, facts: list[tuple[str, str]]) -> str:
    lines = [
        title,
        "",
        repr(layer) if shape is None else str(layer_summary(layer, shape)),
        "",
        *(f"{name:<8}{fact}" for name, fact in facts),
    ]
    return "\n".join(lines).rstrip()


def _of_config(config: Config) -> list[tuple[str, str]]:
    arguments = ", ".join(f"{key}={value}" for key, value in config.data.items() if key != "source")
    return [("data", f"{config.data['source']} ({arguments})")]


def _of_file(held: dict[str, Any]) -> list[tuple[str, str]]:
    about = held["about"]
    facts = [("run", about["name"]), ("result", summary(about["test"]))] if {"name", "test"} <= set(about) else []
    version = held["version"] or "of a version that it does not say"
    facts.append(("format", f"{held['format']}, Keras {version}"))
    return _of_classes(about.get("classes")) + facts + [("note", note) for note in held["notes"]]


def _of_classes(classes: Sequence[str] | None) -> list[tuple[str, str]]:
    """List the classes in the order of the model's outputs."""
    return [("classes", ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else ""))] if classes else []


def _of_run(folder: Path, config: Config) -> list[tuple[str, str]]:
    rows = read_table(folder / METRICS)
    facts = [("epochs", f"{len(rows)} of {config.train.epochs}")]
    if rows:
        last = {name: value for name, value in rows[-1].items() if name not in ("epoch", "learning_rate")}
        facts.append(("last", readable(last)))
    results = json.loads((folder / RESULTS).read_text()) if (folder / RESULTS).is_file() else None
    if results is not None and results["epochs"] == len(rows):
        return [*facts, ("result", f"{summary(results['test'])}, {results['seconds']} s")]
    return [*facts, ("result", f"not finished; go on with: {resume_command(folder)}")]
