"""Overview of a model and the result of its run: the text of ``jaxconv info``. No output is computed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxconv.app.config import Config
from jaxconv.app.model_source import read_model_source, shape_option
from jaxconv.app.run import format_test_metrics
from jaxconv.app.run_folder import are_metrics, read_metrics, read_results, resume_command
from jaxconv.app.sharding import NOTE, exchanged
from jaxconv.contract.display import format_shapes, summary
from jaxconv.files.errors import FileError
from jaxconv.files.keras.model import Read
from jaxconv.files.outline import Outline, group_notes, read_outline
from jaxconv.progress import format_metrics
from jaxconv.serving.artifact import is_exported, load_exported
from jaxconv.serving.exported_stream import ExportedStream
from jaxconv.streaming import stream

Facts = list[tuple[str, str]]


def overview(
    model: str,
    shape_texts: Sequence[str] | None = None,
    streamed: dict | None = None,
    sharded: dict[str, Any] | None = None,
) -> str:
    """Describe a run folder, a model file or a config: layers, output shapes, parameters, and the result of the run.

    For a file of weights, or a model that cannot be loaded, it lists the names and gives the reason.
    shape_texts: the values of ``--input-shape``; by default the shape is that in the file, or that of the config's
    data. streamed: the arguments of ``jaxconv.stream``, to describe what each layer adds to the stream. sharded: the
    arguments of ``exchanged``.
    """
    if Path(model).is_file() and is_exported(model):
        return _exported_overview(model)
    try:
        source = read_model_source(model, shape_texts)
    except FileError as error:
        if not Path(model).is_file():
            raise
        return _outline_overview(model, error)
    facts: Facts = []
    if source.config is not None:
        arguments = ", ".join(f"{key}={value}" for key, value in source.config.data.items() if key != "source")
        facts.append(("data", f"{source.config.data['source']} ({arguments})"))
    if source.classes:
        facts.append(("classes", ", ".join(source.classes[:20]) + (", ..." if len(source.classes) > 20 else "")))
    if source.file is not None:
        about = source.file.about
        if are_metrics(about.get("test")):
            facts += [("run", str(about.get("name"))), ("result", format_test_metrics(about["test"]))]
        facts += [_format_fact(source.file), *(("note", note) for note in group_notes(source.file.notes))]
    if source.config is not None and source.folder is not None:
        facts += _run_facts(source.folder, source.config)
    if source.input_shape is None:
        layers = repr(source.layer)
        facts.append(("shapes", f"unknown, because the file has no input shape; give it: {shape_option()}"))
    elif streamed is not None:
        layers = str(stream(source.layer, source.input_shape, **streamed).summary())
    elif sharded is not None:
        layers = str(exchanged(source, **sharded))
        facts.append(("moved", NOTE))
    else:
        layers = str(summary(source.layer, source.input_shape))
        shapes = jax.tree.leaves(source.input_shape, is_leaf=lambda one: isinstance(one, tuple))
        if any(None in shape[1:] for shape in shapes):
            example = shape_option(source.input_shape)
            facts.append(("lengths", f"None is any length; for multiply-adds, give numbers: {example}"))
    return _text(source.name, layers, facts)


def _text(title: str, body: str, facts: Facts) -> str:
    return "\n".join([title, "", body, "", *(f"{name:<7} {fact}" for name, fact in facts)]).rstrip()


def _format_fact(file: Read | Outline) -> tuple[str, str]:
    return "format", f"{file.format}, Keras {file.version or 'of an unknown version'}"


def _run_facts(folder: Path, config: Config) -> Facts:
    rows = read_metrics(folder)
    facts = [("epochs", f"{len(rows)} of {config.train.epochs}")]
    if rows:
        last = {name: value for name, value in rows[-1].items() if name not in ("epoch", "learning_rate")}
        facts.append(("last", format_metrics(last)))
    results = read_results(folder)
    if results is not None and results["epochs"] == len(rows):
        return [*facts, ("result", f"{format_test_metrics(results['test'])}, {results['seconds']} s")]
    return [*facts, ("result", f"not finished; resume with: {resume_command(folder)}")]


def _exported_overview(file: str) -> str:
    program = load_exported(file)
    rows = [
        ("name", program.name),
        ("input", format_shapes(program.input_shape)),
        ("dtype", str(program.dtype)),
        ("for", ", ".join(program.platforms)),
    ]
    more = ("chunk", "block", "delay", "flush", "state_bytes") if isinstance(program, ExportedStream) else ("outputs",)
    rows += [(name.replace("_", " "), str(getattr(program, name))) for name in more]
    return _text(file, _columns(rows), [("format", f"exported by jaxconv with JAX {program.jax_version}")])


def _outline_overview(file: str, error: FileError) -> str:
    """Return the overview of a file without a model that can be loaded. Raises ``error`` for any other file."""
    try:
        outline = read_outline(file)
    except (FileError, OSError):
        raise error from None
    parameters = f"{sum(math.prod(shape) for _, shape in outline.weights):,} parameters"
    facts = [_format_fact(outline)] if outline.format != "safetensors" else [("format", outline.format)]
    if outline.layers:
        return _text(file, _columns(outline.layers), [("total", parameters), *facts, ("error", str(error))])
    rows = [(name, str(list(shape))) for name, shape in outline.weights]
    if outline.format == "safetensors":
        facts.append(("model", "none: only params; read them with jaxconv.load_params"))
    else:
        facts.append(("model", f"none that can be loaded: {error}"))
    return _text(file, _columns(rows), [("total", parameters), *facts])


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(first) for first, _ in rows), default=0)
    return "\n".join(f"{first:<{width}}  {second}" for first, second in rows)
