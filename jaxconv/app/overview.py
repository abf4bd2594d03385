"""What a model consists of, and what its run reached: the text that ``jaxconv info`` prints.

Knows run folders, model files and configs; it computes no output.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.app.config import Config, load_data, read_config
from jaxconv.app.run import CONFIG, METRICS, MODEL, RESULTS, read_table, resume_command, summary
from jaxconv.app.schema import ConfigError
from jaxconv.files.model import model_info
from jaxconv.inspect.receptive_field import written
from jaxconv.inspect.survey import Row, survey
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
    lines = [title, "", *layer_table(layer, shape), "", *(f"{name:<8}{fact}" for name, fact in facts)]
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


def layer_table(layer: Any, shape: Any) -> list[str]:
    """Lay out a model call by call, and the totals: what is inside a container stands below it, further to the right.

    The columns: name, kind and output shape; weights, trainable and fixed; multiply-adds for one example; how many
    steps of each axis of the model's input a step of the output sees, "-" where it sees all or that is not known.

    Args:
        layer: a container; any other layer is one line.
        shape: the input's, batch first (a structure of shapes for several inputs); None where unknown, which leaves
            everything but names and kinds out.
    """
    head = ["layer", "kind", "output", "trainable", "fixed", "multiply-adds", "receptive field"]
    if shape is None:
        inside = layer.children or {layer.label: layer}
        return _laid_out([head, *([name, type(child).__name__, *"?????"] for name, child in inside.items())], False)
    whole, *rows = survey(layer, shape)
    lines = [head, ["(input)", "", _readable(shape), "", "", "", ""]]
    for row in rows or [whole._replace(name=layer.label, depth=1)]:
        name = "  " * (row.depth - 1) + row.name.rpartition("/")[2]
        lines.append([name, row.kind, _readable(row.output), *_numbers(row), written(row.fields)])
    return _laid_out([*lines, ["total", "", "", *_numbers(whole), ""]], True)


def _numbers(row: Row) -> list[str]:
    return ["-" if n is None else f"{n:,}" for n in (row.trainable, row.fixed, row.multiply_adds)]


def _laid_out(rows: list[list[str]], totals: bool) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(words + numbers).rstrip())
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]] if totals else [lines[0], rule, *lines[1:]]


def _readable(shapes: Any) -> str:
    """Write a shape, or several."""
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name} {_readable(shape)}" for name, shape in shapes.items())
    return ", ".join(map(_readable, shapes)) if isinstance(shapes, list) else readable_shape(shapes)


def readable_shape(shape: Shape) -> str:
    """Write a shape for people.

    >>> readable_shape((None, 150, 1))
    '(batch, 150, 1)'
    """
    return f"({', '.join('batch' if size is None else str(size) for size in shape)})"
