"""The command ``jaxconv``: train, evaluate, predict, info.

Reads the command line and turns every failure into one line and an exit code. What the commands do stands in
``jaxconv.training.run`` and its siblings, imported inside the commands, so that ``--help`` waits for none of them.
"""

import argparse
import dataclasses
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from jaxconv.registry import nearest

FAILED, MISTAKE, BUG = 1, 2, 70  # exit codes: the run failed, the user erred, we erred

_DESCRIPTION = """\
Train convolution networks from a config file, and use them.

  jaxconv train configs/gunpoint_fcn.toml                     train; leaves everything in runs/gunpoint_fcn
  jaxconv train configs/gunpoint_fcn.toml --set train.epochs=50 --set train.optimizer.name=sgd
  jaxconv train --resume runs/gunpoint_fcn                    go on after Ctrl-C or a crash, bit for bit
  jaxconv evaluate runs/gunpoint_fcn                          loss and metrics on the test set
  jaxconv predict runs/gunpoint_fcn x.npy --out y.npy         one prediction for each row of x
  jaxconv info runs/gunpoint_fcn                              layers, shapes, parameters, what the run reached
"""

_TRAIN = """\
Train the model that CONFIG describes. The run folder gets

  config.toml          the config as resolved, every default written out; training it again gives the same numbers
  metrics.csv          one row per epoch
  learning_curve.png   loss and metrics against the epoch
  model.keras          the trained model, which Keras opens too
  checkpoint.npz       the whole state of the training, for --resume
  results.json         test metrics, seconds, versions

Examples
  jaxconv train configs/digits_conv2d.toml --out /tmp/digits
  jaxconv train configs/digits_conv2d.toml --set train.batch_size=64 --set model.layers.0.filters=16
  jaxconv train configs/digits_conv2d.toml --set 'train.optimizer.learning_rate={name="cosine_decay", init_value=1e-3}'
  jaxconv train --resume runs/digits_conv2d --set train.epochs=60
"""

_EVALUATE = """\
Print loss and metrics of a trained model on its test set, or on your own data.

Examples
  jaxconv evaluate runs/gunpoint_fcn
  jaxconv evaluate runs/gunpoint_fcn --data mine.npz          arrays x_test and y_test, or x and y
"""

_PREDICT = """\
Apply a trained model to an array. Input and output are memory-mapped: they may be larger than memory.

Example
  jaxconv predict runs/gunpoint_fcn x.npy --out y.npy --batch 256
"""

_INFO = """\
Print a model's layers, output shapes and parameters; of a run also what it reached.

Examples
  jaxconv info configs/gunpoint_fcn.toml
  jaxconv info runs/gunpoint_fcn
"""


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, like every other error here."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_say(f"{message}; see: {self.prog} --help", MISTAKE))


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Give the parser of the whole command line, and the one of each command by name."""

    def new(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(
            name,
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--traceback", action="store_true", help="show where an error came from")
        return parser

    top = _Parser(
        prog="jaxconv",
        allow_abbrev=False,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="'jaxconv COMMAND --help' tells more about one command.",
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    train = new("train", "train a model from a config file, or go on with a run", _TRAIN)
    train.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file; see configs/ for examples")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="replace any key of the config: train.epochs=50, model.layers.0.filters=64; may be given several times",
    )
    train.add_argument("--out", metavar="DIR", help="the run folder (default: runs/NAME, or runs/NAME-2, ... if taken)")
    train.add_argument("--resume", metavar="RUN", help="a run folder: go on where its last checkpoint stands")

    model = "a run folder, or a model file"
    evaluate = new("evaluate", "print the metrics of a trained model", _EVALUATE)
    evaluate.add_argument("model", metavar="MODEL", help=model)
    evaluate.add_argument("--data", metavar="FILE", help="an .npz file, or a config whose [data] to use")

    predict = new("predict", "apply a trained model to an array", _PREDICT)
    predict.add_argument("model", metavar="MODEL", help=model)
    predict.add_argument("x", metavar="X.npy", help="the input, one example per row")
    predict.add_argument("--out", required=True, metavar="Y.npy", help="where the predictions go")
    predict.add_argument("--batch", type=int, default=32, metavar="N", help="examples computed at once (default: 32)")

    info = new("info", "print the layers of a model, and what a run reached", _INFO)
    info.add_argument("model", metavar="MODEL", help=f"{model}, or a config")
    return top, commands.choices


def _version() -> int:
    try:
        print(f"jaxconv {metadata.version('jaxconv')}")
    except metadata.PackageNotFoundError:
        print("jaxconv, a checkout that is not installed")
    return 0


def _train(options: argparse.Namespace) -> None:
    from jaxconv.training import run

    if options.resume and (options.config or options.out):
        raise ValueError("--resume takes the config and the folder from the run; leave CONFIG and --out away")
    if options.resume:
        run.resume(options.resume, options.settings)
    elif options.config:
        run.train(options.config, options.settings, options.out)
    else:
        raise ValueError("jaxconv train needs a config (jaxconv train configs/gunpoint_fcn.toml) or --resume RUN")


def _evaluate(options: argparse.Namespace) -> None:
    from jaxconv.training import inference

    print(inference.evaluate(options.model, options.data))


def _predict(options: argparse.Namespace) -> None:
    from jaxconv.training import inference

    print(inference.predict(options.model, options.x, options.out, batch=options.batch))


def _info(options: argparse.Namespace) -> None:
    from jaxconv.training import overview

    print(overview.info(options.model))


_COMMANDS = {"train": _train, "evaluate": _evaluate, "predict": _predict, "info": _info}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give the exit code.

    0: done. 1: the run failed. 2: a mistake in the command or the config. 70: a fault of jaxconv. 130: Ctrl-C.
    No error leaves as a traceback unless ``--traceback`` asks for it.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser, parsers = _parsers()
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command is not None and command not in _COMMANDS:
        return _say(f"there is no command {command!r}; {nearest(command, _COMMANDS)}", MISTAKE)
    try:
        options, unknown = parser.parse_known_args(arguments)
    except SystemExit as stop:  # --help, and errors that were said already
        return int(stop.code or 0)
    if unknown:
        return _say(_unknown(command, unknown[0], parsers), MISTAKE)
    if options.version:
        return _version()
    if options.command is None:
        parser.print_help()
        return 0
    try:
        _COMMANDS[options.command](options)
        return 0
    except BaseException as error:
        if options.traceback:
            traceback.print_exc()
        return _explain(error)


def _unknown(command: str | None, word: str, parsers: dict[str, _Parser]) -> str:
    """Word the error for an argument that no option takes."""
    if command is None or not word.startswith("-"):
        hint = f"; a key of the config goes in as --set {word}" if command == "train" and "=" in word else ""
        return f"unexpected {word!r}{hint}; see: jaxconv {command or ''} --help"
    name, _, value = word.lstrip("-").replace("-", "_").partition("=")
    if command == "train" and name in _train_keys():
        return f"jaxconv train has no option {word!r}; give it as --set train.{name}={value or 'VALUE'}"
    options = set(re.findall(r"--\w+", parsers[command].format_usage()))
    hint = "; a key of the config goes in as --set KEY=VALUE" if command == "train" else ""
    return f"jaxconv {command} has no option {word!r}; {nearest(word, options)}{hint}"


def _train_keys() -> list[str]:
    from jaxconv.training.config import Train

    return [field.name for field in dataclasses.fields(Train)]


def _explain(error: BaseException) -> int:
    """Say an error in one line and give its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _say(str(error) or "interrupted", 128 + getattr(error, "signal", 2), head="jaxconv")
    if isinstance(error, BrokenPipeError):  # the reader of our output went away, as in: jaxconv info ... | head
        sys.stderr.close()
        return 0
    if isinstance(error, ArithmeticError | MemoryError) or type(error).__name__ == "JaxRuntimeError":
        return _say(str(error) or type(error).__name__, FAILED)  # the last is XLA's: out of memory, mostly
    if isinstance(error, OSError) and error.filename is not None:
        return _say(f"{error.filename}: {error.strerror}", MISTAKE)
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        return _say(str(error), MISTAKE)
    return _say(f"{type(error).__name__}: {error}; this is a fault of jaxconv: rerun with --traceback", BUG)


def _say(message: str, code: int, head: str = "jaxconv: error") -> int:
    print(f"{head}: {' '.join(message.split())}", file=sys.stderr)
    return code
