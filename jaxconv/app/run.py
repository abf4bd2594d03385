"""A run: a resolved config in, a run folder out, and what the user sees meanwhile.

Knows the files of a run folder. How a model is trained stands in ``fit``, what a config may say in ``config``.
"""

import csv
import dataclasses
import importlib.util
import json
import platform
import shlex
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import jax

from jaxconv.app.config import Config, check_shapes, load_data, read_config
from jaxconv.app.curves import draw_curves
from jaxconv.app.data import Splits
from jaxconv.app.fine_tuning import Start
from jaxconv.app.schema import ConfigError
from jaxconv.app.toml import dumps
from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError
from jaxconv.files.keras.writing import save_model
from jaxconv.progress import Display, display, readable, short
from jaxconv.training.fit import EarlyStopping, Fitted, Interrupted, NonFiniteLoss, Tick, evaluate, fit
from jaxconv.version import __version__

CONFIG, METRICS, CURVE, MODEL = "config.toml", "metrics.csv", "learning_curve.png", "model.keras"
CHECKPOINT, RESULTS, INITIAL = "checkpoint.npz", "results.json", "initial"
_RESUMABLE = ("train.epochs", "train.checkpoint_every", "train.early_stopping")


def train(
    path: str,
    settings: Sequence[str] = (),
    out: str | None = None,
    *,
    start: Path | None = None,
    freeze: Sequence[str] = (),
) -> Path:
    """Train what a config describes, and give the run folder.

    Everything that can be checked is checked before the folder is made: keys, values, files, shapes.

    Args:
        path: the config file.
        settings: ``--set`` settings: ``"train.epochs=50"``.
        out: the run folder; by default ``runs/NAME``, or the first of ``runs/NAME-2``, ... that is free.
        start: a model file to begin with, in place of the config's model; a copy goes into the run folder.
        freeze: patterns of its layers that are not trained.

    Raises:
        ConfigError: a mistake in the config.
        NonFiniteLoss: training went wrong.
        KeyboardInterrupt: Ctrl-C; the message says how to go on.
    """
    config, splits = _checked(path, settings, start=start, freeze=freeze)
    folder = _new_folder(config.name, out)
    if config.start is not None:
        config = _with_copy(config, config.start, folder)
    return _run(config, splits, folder, resume=False)


def _with_copy(config: Config, start: Start, folder: Path) -> Config:
    """Copy the file that a run begins with into its folder, so that the folder is all that a resumption needs."""
    copy = folder / f"{INITIAL}{start.file.suffix}"
    with replacing(copy) as handle, open(start.file, "rb") as original:
        shutil.copyfileobj(original, handle)
    return dataclasses.replace(config, start=start._replace(file=copy))


def resume(folder: str | Path, settings: Sequence[str] = ()) -> Path:
    """Go on with a run where its last checkpoint stands, to the same numbers as if it had not been stopped.

    A learning-rate schedule that was given no length of its own lasts for all epochs: more of them stretch it.

    Args:
        folder: the run folder.
        settings: what may change under way: the number of epochs, early stopping, how often to save.

    Raises:
        ConfigError: no run folder, or a setting that would make another run of it.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is no run folder: it holds no {CONFIG}; give one that 'jaxconv train' made")
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if not any(key == legal or key.startswith(f"{legal}.") for legal in _RESUMABLE):
            raise ConfigError(f"--set {setting}: a resumed run keeps its config; legal: {', '.join(_RESUMABLE)}")
    config, splits = _checked(folder / CONFIG, settings)
    done = len(read_table(folder / METRICS))
    if settings and config.train.epochs < done:
        asked = f"--set train.epochs={config.train.epochs}"
        raise ConfigError(f"{asked}: {folder} has {done} epochs already; legal: at least {done}")
    return _run(config, splits, folder, resume=True)


def resume_command(folder: Path) -> str:
    """Write the command that goes on with a run, ready for a shell.

    >>> resume_command(Path("my runs/a"))
    "jaxconv train --resume 'my runs/a'"
    """
    return f"jaxconv train --resume {shlex.quote(str(folder))}"


def _checked(
    path: str | Path, settings: Sequence[str], *, start: Path | None = None, freeze: Sequence[str] = ()
) -> tuple[Config, Splits]:
    """Read a config and its data, and check all that can be checked before anything is made."""
    for package in ("h5py", "matplotlib", "tqdm"):  # needed at the end of training: say so at its beginning
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"jaxconv train needs {package}; install it with: pip install 'jaxconv[train]'")
    config = read_config(path, settings, start=start, freeze=freeze)
    splits = load_data(config)
    check_shapes(config, splits)
    return config, splits


def _new_folder(name: str, out: str | None) -> Path:
    if out is not None:
        folder = Path(out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            also = f", or go on with it: {resume_command(folder)}" if (folder / CONFIG).is_file() else ""
            raise ConfigError(f"--out {folder} exists and is not an empty folder; give another one{also}")
        _make_folder(folder, "--out")
        return folder
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            _make_folder(folder, "the run folder", exist_ok=False)
            return folder
        except FileExistsError:  # asking first would let two runs that start together share a folder
            number += 1


def _make_folder(folder: Path, what: str, exist_ok: bool = True) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise ConfigError(f"{what} {folder} cannot be made: {error.strerror}") from None


def _run(config: Config, splits: Splits, folder: Path, *, resume: bool) -> Path:
    """Train, evaluate, and leave everything in the folder."""
    try:
        return _work(config, splits, folder, resume=resume)
    except KeyboardInterrupt as stop:
        raise Stopped(stop, folder) from None


def _work(config: Config, splits: Splits, folder: Path, *, resume: bool) -> Path:
    _write(folder / CONFIG, dumps(config.tree()))
    shape = (None, *splits.x_train.shape[1:])
    apply_fn = config.model.apply_fn
    if config.start is None:
        params = config.model.init(jax.random.key(config.train.seed), shape)[0]
    else:
        params = config.start.params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(
        f"{config.name}: {len(splits.x_train)} training and {len(splits.x_test)} test samples of shape "
        f"{shape[1:]}, {count:,} parameters, run folder {folder}",
        flush=True,
    )
    began = time.monotonic()
    fitted = _fit(config, splits, folder, apply_fn, params, resume=resume)
    test = evaluate(
        apply_fn,
        fitted.params,
        splits.x_test,
        splits.y_test,
        loss=config.train.loss,
        metrics=config.train.metrics,
        batch_size=config.train.batch_size,
    )
    seconds = time.monotonic() - began
    about = {"name": config.name, "classes": splits.classes, "test": test}
    save_model(folder / MODEL, config.model, fitted.params, input_shape=shape, about=about)
    draw_curves(fitted.history, folder / CURVE, title=config.name, test=test, best_epoch=fitted.best_epoch)
    results = {
        "name": config.name,
        "test": test,
        "epochs": len(fitted.history),
        "stopped": fitted.stopped,
        "best_epoch": fitted.best_epoch,
        "seconds": round(seconds, 1),
        "parameters": count,
        "device": jax.devices()[0].device_kind,
        "versions": _versions(),
    }
    _write(folder / RESULTS, json.dumps(results, indent=1) + "\n")
    print(f"{summary(test)}, {seconds:.1f} s, run folder {folder}")
    return folder


def _fit(config: Config, splits: Splits, folder: Path, apply_fn: Any, params: Any, *, resume: bool) -> Fitted:
    """Train with metrics.csv and the display kept up to date; leave a picture also when training stops early."""
    options = {field.name: getattr(config.train, field.name) for field in dataclasses.fields(config.train)}
    stopping = options.pop("early_stopping")
    with Watch(folder / METRICS, config.train.epochs) as watch:
        try:
            fitted = fit(
                apply_fn,
                params,
                splits.x_train,
                splits.y_train,
                **options,
                early_stopping=None if stopping is None else EarlyStopping(**stopping),
                checkpoint=folder / CHECKPOINT,
                resume=resume,
                on_epoch=watch.on_epoch,
                on_step=watch.on_step,
            )
            watch.record(fitted.history)
            return fitted
        except (Interrupted, NonFiniteLoss) as stop:
            if isinstance(stop, Interrupted):
                watch.record(stop.fitted.history)
            if watch.rows:
                draw_curves(watch.rows, folder / CURVE, title=config.name)
            raise


class Stopped(KeyboardInterrupt):
    """A run that was interrupted. The message says how to go on; ``signal`` is the number of what interrupted it."""

    def __init__(self, stop: KeyboardInterrupt, folder: Path):
        where = f" in epoch {stop.epoch}, nothing is lost" if isinstance(stop, Interrupted) else ""
        super().__init__(f"stopped{where}; go on with: {resume_command(folder)}")
        self.signal = getattr(stop, "signal", 0) or signal.SIGINT


class Watch:
    """Looks on while ``fit`` works: keeps ``metrics.csv``, one row per epoch, and the display.

    Args:
        path: where ``metrics.csv`` goes. A file that is there already belongs to the run that is resumed. It may hold
            epochs that were not saved with the weights and are trained again, or lack one that was saved.
        epochs: how many there will be.
    """

    def __init__(self, path: Path, epochs: int):
        self.path, self.epochs = path, epochs
        self.rows: list[dict[str, Any]] = []
        self._shown: dict[str, float] = {}
        self._display: Display | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._display is not None:
            self._display.__exit__(*error)

    def on_step(self, tick: Tick) -> None:
        """Show where training is inside an epoch."""
        if self._display is None:  # only now: the first step compiles, and its time would spoil the time left
            self._display = display(self.epochs, start=tick.epoch - 1 + (tick.step - 1) / tick.steps)
        self._shown |= tick.figures
        if tick.step < tick.steps:  # after the last one come the numbers of the epoch
            self._display.to(tick.epoch - 1 + tick.step / tick.steps, self._shown)

    def on_epoch(self, rows: Sequence[Mapping[str, Any]], params: Any) -> None:
        """Record the epoch that is over and show its numbers."""
        self.record(rows)
        self._shown |= {name: value for name, value in rows[-1].items() if name not in ("epoch", "learning_rate")}
        if self._display is not None:
            self._display.to(len(rows), self._shown)

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Bring ``metrics.csv`` to these rows: add the last one, or write it anew where more than that differs."""
        if rows and len(rows) == len(self.rows) + 1 and self.rows:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(_csv_line(rows[-1].values()))
        elif len(rows) != len(self.rows):
            _write(self.path, "".join(_csv_line(line) for line in [rows[0], *(row.values() for row in rows)]))
        self.rows = [dict(row) for row in rows]


def _csv_line(values: Iterable[Any]) -> str:
    """Write a line of a table, numbers in the shortest form that reads back as the same bits."""
    return ",".join(map(str, values)) + "\n"


def read_table(path: Path) -> list[dict[str, float]]:
    """Read ``metrics.csv``; an empty list where there is none yet."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as handle:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(handle)]


def summary(test: Mapping[str, float]) -> str:
    """Say how good a model is on the test set, the first metric in front.

    >>> summary({"loss": 0.0012, "accuracy": 1.0})
    'test accuracy 1.0000  (loss 0.0012)'
    """
    names = [name for name in test if name != "loss"]
    if not names:
        return f"test loss {short(test['loss'])}"
    first, *others = names
    return f"test {readable({first: test[first]})}  ({readable({name: test[name] for name in ('loss', *others)})})"


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "optax", "numpy")
    return {
        "jaxconv": __version__,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as handle:
            handle.write(text.encode())
    except FileError as error:
        raise ConfigError(str(error)) from None
