"""The overview of a model, and the result of its run: the text of ``jaxconv info``.

Knows run folders, model files and configs; computes no output.
"""

from pathlib import Path

from jaxconv.app.config import Config
from jaxconv.app.model_source import read_model_source
from jaxconv.app.run import format_test_metrics
from jaxconv.app.run_folder import are_metrics, read_metrics, read_results, resume_command
from jaxconv.contract.display import summary
from jaxconv.files.keras.model import Read
from jaxconv.progress import format_metrics


def overview(model: str) -> str:
    """Describe a run folder, a model file or a config: layers, output shapes, parameters, and the result of the run.

    Raises:
        ConfigError: it is none of the three, or the config has a mistake.
        FileError: a model file that cannot be read.
    """
    source = read_model_source(model)
    facts = _data_facts(source.config) if source.config is not None else []
    if source.classes:
        facts.append(("classes", ", ".join(source.classes[:20]) + (", ..." if len(source.classes) > 20 else "")))
    if source.file is not None:
        facts += _file_facts(source.file)
    if source.config is not None and source.folder is not None:
        facts += _run_facts(source.folder, source.config)
    layers = repr(source.layer) if source.input_shape is None else str(summary(source.layer, source.input_shape))
    return "\n".join([source.name, "", layers, "", *(f"{name:<8}{fact}" for name, fact in facts)]).rstrip()


def _data_facts(config: Config) -> list[tuple[str, str]]:
    arguments = ", ".join(f"{key}={value}" for key, value in config.data.items() if key != "source")
    return [("data", f"{config.data['source']} ({arguments})")]


def _file_facts(read: Read) -> list[tuple[str, str]]:
    about = read.about
    facts = []
    if are_metrics(about.get("test")):
        facts = [("run", str(about.get("name"))), ("result", format_test_metrics(about["test"]))]
    facts.append(("format", f"{read.format}, Keras {read.version or 'of an unknown version'}"))
    return facts + [("note", note) for note in read.notes]


def _run_facts(folder: Path, config: Config) -> list[tuple[str, str]]:
    rows = read_metrics(folder)
    facts = [("epochs", f"{len(rows)} of {config.train.epochs}")]
    if rows:
        last = {name: value for name, value in rows[-1].items() if name not in ("epoch", "learning_rate")}
        facts.append(("last", format_metrics(last)))
    results = read_results(folder)
    if results is not None and results["epochs"] == len(rows):
        return [*facts, ("result", f"{format_test_metrics(results['test'])}, {results['seconds']} s")]
    return [*facts, ("result", f"not finished; resume with: {resume_command(folder)}")]
