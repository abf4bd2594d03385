"""Training runs: train and evaluate the model of a config, and write the results to a run folder."""

import contextlib
import dataclasses
import json
import platform
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from jaxconv.app import run_folder
from jaxconv.app.compatibility import check_shapes, load_data
from jaxconv.app.config import Config, read_config
from jaxconv.app.data import Splits
from jaxconv.app.processes import check_run, gather, is_first
from jaxconv.app.schema import ConfigError
from jaxconv.app.toml import dumps
from jaxconv.errors import require
from jaxconv.files.atomic import replacing
from jaxconv.files.keras.writing import save_model
from jaxconv.inspect import plot
from jaxconv.progress import format_metrics, format_number
from jaxconv.training.callbacks import CSVLogger, EarlyStopping
from jaxconv.training.checkpoint import completed_epochs
from jaxconv.training.evaluation import evaluate
from jaxconv.training.fit import fit
from jaxconv.training.loop import Fitted, Interrupted, NonFiniteLoss
from jaxconv.version import __version__

_RESUMABLE = ("train.epochs", "train.checkpoint_every", "train.early_stopping", "train.remat")


def train(
    path: str,
    settings: Sequence[str] = (),
    out: str | None = None,
    *,
    pretrained: Path | None = None,
    freeze: Sequence[str] = (),
    sharding: Any = None,
    announce: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Train the model of a config and return the run folder. Raises ConfigError for a mistake in the config.

    All checks (keys, values, files, shapes) precede the folder. With several processes, which must all call this, only
    the first one writes. settings, pretrained, freeze: as in ``read_config``. out: as in ``new_run_folder``. sharding:
    as in ``fit``. announce: called with the run folder before training. The message of KeyboardInterrupt contains the
    command that resumes the run.
    """
    config, splits = _read_and_check(path, settings, pretrained=pretrained, freeze=freeze)
    check_run(config, splits)
    first = is_first()
    folder = Path(gather(str(run_folder.new_run_folder(config.name, out)) if first else "")[0])
    announce(folder)
    if not first:
        return _run(config, splits, folder, resume=False, sharding=sharding)
    with run_folder.locked(folder):
        if config.pretrained is not None:  # so that the run can be resumed without the original
            copy = folder / f"{run_folder.PRETRAINED}{config.pretrained.file.suffix}"
            with replacing(copy) as handle, open(config.pretrained.file, "rb") as original:
                shutil.copyfileobj(original, handle)
            config = dataclasses.replace(config, pretrained=config.pretrained._replace(file=copy))
        if config.module is not None:  # so that the run does not depend on later changes of it
            copy = folder / config.module.name
            run_folder.write_text(copy, config.module.read_text(encoding="utf-8"))
            config = dataclasses.replace(config, module=copy)
        try:
            return _run(config, splits, folder, resume=False, sharding=sharding)
        except (ValueError, TypeError):
            _remove_unused(folder, config.module)
            raise


def _remove_unused(folder: Path, module: Path | None) -> None:
    """Remove the folder of a run that failed before it trained: it cannot be resumed."""
    files = list(folder.iterdir())
    names = {file.stem if file.stem == run_folder.PRETRAINED else file.name for file in files if file != module}
    if not names - {run_folder.CONFIG, run_folder.PRETRAINED}:
        for file in files:
            file.unlink()
        folder.rmdir()


def resume(
    folder: str | Path,
    settings: Sequence[str] = (),
    *,
    sharding: Any = None,
    announce: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Resume a run from its last checkpoint, with the same result as if it had not stopped. Raises ConfigError.

    A learning-rate schedule without a length of its own has the length of the whole run: more epochs stretch it. The
    devices may differ. settings: may change the number of epochs, early stopping, the interval of checkpoints and
    ``remat``.
    """
    folder = Path(folder)
    run_folder.check_run_folder(folder)
    with run_folder.locked(folder) if is_first() else contextlib.nullcontext():
        for setting in settings:
            key = setting.partition("=")[0].strip()
            if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in _RESUMABLE):
                raise ConfigError(f"--set {setting}: a resumed run keeps its config; expected {', '.join(_RESUMABLE)}")
        config, splits = _read_and_check(folder / run_folder.CONFIG, settings, own=False)
        done = completed_epochs(folder / run_folder.CHECKPOINT) if (folder / run_folder.CHECKPOINT).exists() else 0
        if config.train.epochs < done:
            setting = f"--set train.epochs={config.train.epochs}"
            raise ConfigError(f"{setting}: {folder} has {done} epochs already; expected at least {done}")
        check_run(config, splits, folder / run_folder.CHECKPOINT)
        announce(folder)
        if config.train.epochs == done:
            print(f"all {done} epochs are done; --set train.epochs=N trains longer", flush=True)
        return _run(config, splits, folder, resume=True, sharding=sharding)


def _read_and_check(path: str | Path, settings: Sequence[str], **options: Any) -> tuple[Config, Splits]:
    """Read a config, with options of ``read_config``, and its data; run all checks possible before training."""
    for package in ("h5py", "matplotlib"):  # some are needed only after training
        require(package, "jaxconv train")
    config = read_config(path, settings, **options)
    splits = load_data(config)
    check_shapes(config, splits)
    return config, splits


class Stopped(KeyboardInterrupt):
    """An interrupted run. The message contains the command that resumes it; ``signal`` is the signal's number."""

    def __init__(self, stop: KeyboardInterrupt, folder: Path):
        where = f" in epoch {stop.epoch}, the progress is saved" if isinstance(stop, Interrupted) else ""
        super().__init__(f"stopped{where}; resume with: {run_folder.resume_command(folder)}")
        self.signal = getattr(stop, "signal", 0) or signal.SIGINT


def _run(config: Config, splits: Splits, folder: Path, *, resume: bool, sharding: Any) -> Path:
    """Train, evaluate, and write all files of the run folder."""
    try:
        return _train_and_evaluate(config, splits, folder, resume=resume, sharding=sharding)
    except KeyboardInterrupt as stop:
        raise Stopped(stop, folder) from None


def _train_and_evaluate(config: Config, splits: Splits, folder: Path, *, resume: bool, sharding: Any) -> Path:
    if is_first():
        run_folder.write_text(folder / run_folder.CONFIG, dumps(config.tree()))
    shape = (None, *splits.x_train.shape[1:])
    if config.pretrained is None:
        params = config.model.init(jax.random.key(config.train.seed), shape)[0]
    else:
        params = config.pretrained.params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(
        f"{config.name}: {len(splits.x_train)} training and {len(splits.x_test)} test samples of shape "
        f"{shape[1:]}, {count:,} parameters, run folder {folder}",
        flush=True,
    )
    start = time.monotonic()
    fitted = _fit(config, splits, folder, params, resume=resume, sharding=sharding)
    test = evaluate_on(config, config.model.apply_fn, fitted.params, splits.x_test, splits.y_test, sharding)
    if not is_first():
        return folder
    seconds = time.monotonic() - start
    about = {"name": config.name, "classes": splits.classes, "test": test}
    save_model(folder / run_folder.MODEL, config.model, fitted.params, input_shape=shape, about=about)
    draw_curves(fitted.history, folder / run_folder.CURVE, config.name, test=test, best_epoch=fitted.best_epoch)
    versions = {"jaxconv": __version__, "python": platform.python_version()}
    results = {
        "name": config.name,
        "test": test,
        "epochs": len(fitted.history),
        "stopped": fitted.stopped,
        "best_epoch": fitted.best_epoch,
        "seconds": round(seconds, 1),
        "parameters": count,
        "device": jax.devices()[0].device_kind,
        "versions": versions | {name: metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")},
    }
    run_folder.write_text(folder / run_folder.RESULTS, json.dumps(results, indent=1) + "\n")
    print(f"{format_test_metrics(test)}, {seconds:.1f} s, run folder {folder}")
    return folder


def _fit(config: Config, splits: Splits, folder: Path, params: Any, *, resume: bool, sharding: Any) -> Fitted:
    """Train, with metrics.csv and a progress display; draw the curves also if training stops early."""
    options = {field.name: getattr(config.train, field.name) for field in dataclasses.fields(config.train)}
    stopping, weights = options.pop("early_stopping"), options.pop("class_weight")
    if weights is not None:
        options["class_weight"] = {(splits.classes or ()).index(label): weight for label, weight in weights.items()}
    stops = [] if stopping is None else [EarlyStopping(**stopping)]
    options |= {"callbacks": [CSVLogger(folder / run_folder.METRICS), *stops], "progress": True, "sharding": sharding}
    options |= {"checkpoint": folder / run_folder.CHECKPOINT, "resume": resume}
    try:
        return fit(config.model.apply_fn, params, splits.x_train, splits.y_train, **options)
    except (Interrupted, NonFiniteLoss):
        if is_first() and (rows := run_folder.read_metrics(folder)):
            draw_curves(rows, folder / run_folder.CURVE, config.name)
        raise


def evaluate_on(config: Config, apply_fn: Any, params: Any, x: Any, y: Any, sharding: Any) -> dict[str, float]:
    """Return the loss and metrics of a config for a model on a test set."""
    options = {name: getattr(config.train, name) for name in ("loss", "metrics", "weighted_metrics", "batch_size")}
    return evaluate(apply_fn, params, x, y, **options, sharding=sharding)


def format_test_metrics(test: Mapping[str, float]) -> str:
    """Return the metrics of a test set as text, the first metric before the loss.

    >>> format_test_metrics({"loss": 0.0012, "accuracy": 1.0})
    'test accuracy 1.0000  (loss 0.0012)'
    """
    names = [name for name in test if name != "loss"]
    if not names:
        return f"test loss {format_number(test['loss'])}"
    first, *others = names
    rest = format_metrics({name: test[name] for name in ("loss", *others)})
    return f"test {format_metrics({first: test[first]})}  ({rest})"


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path, title: str, **options: Any) -> None:
    """Draw one panel per metric, with options of ``plot.curves``, to a file in the format of its suffix."""
    figure = plot.curves(rows, **options)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold")
    with replacing(path) as handle:
        figure.savefig(handle, format=path.suffix[1:], dpi=140)
