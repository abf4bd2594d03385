"""The command ``jaxconv``: train, evaluate, predict, info, bench, tune.

Reads the command line and turns every failure into one line and an exit code. What the commands do stands in
``jaxconv.app.run`` and its siblings, imported inside the commands, so that ``--help`` waits for none of them.
"""

import argparse
import dataclasses
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NoReturn

from jaxconv.cli import convert, export, predict, train
from jaxconv.registry import nearest

COMMANDS = {command.NAME: command for command in (train, predict, convert, export)}
FAILED, MISTAKE, BUG = 1, 2, 70  # exit codes: the run failed, the user erred, we erred

_DESCRIPTION = """\
Train convolution networks from a config file, and use them.

  jaxconv train configs/gunpoint_fcn.toml                     train; leaves everything in runs/gunpoint_fcn
  jaxconv train configs/gunpoint_fcn.toml --set train.epochs=50 --set train.optimizer.name=sgd
  jaxconv train --resume runs/gunpoint_fcn                    go on after Ctrl-C or a crash, bit for bit
  jaxconv evaluate runs/gunpoint_fcn                          loss and metrics on the test set
  jaxconv predict runs/gunpoint_fcn x.npy --out y.npy         one prediction for each row of x
  jaxconv info model.h5                                       layers, shapes, parameters, multiply-adds
  jaxconv convert old.h5 new.keras                            a file of any Keras, for Keras 3
  jaxconv export model.keras model.jaxexport                  one program, for cpu, cuda and tpu
  jaxconv train CONFIG --from model.keras --freeze 'conv*'    fine-tune
  jaxconv bench --models                                      speed beside PyTorch, Flax, Equinox, Haiku, Keras
  jaxconv tune runs/gunpoint_fcn                              measure what is fastest on this machine, and remember it
"""

_EVALUATE = """\
Print loss and metrics of a trained model on its test set, or on your own data.

Examples
  jaxconv evaluate runs/gunpoint_fcn
  jaxconv evaluate runs/gunpoint_fcn --data mine.npz          arrays x_test and y_test, or x and y
"""

_INFO = """\
Print a model call by call: output shapes, parameters, multiply-adds for one example, and the receptive field, how many
steps of each axis of the input a step of the output sees ("-" where it sees all, or where that is not known). Of a run
also what it reached; of a file what Keras wrote it, and what is unusual in it.

Examples
  jaxconv info model.h5
  jaxconv info configs/gunpoint_fcn.toml
  jaxconv info runs/gunpoint_fcn
"""

_BENCH = """\
Measure speed beside jax.lax, PyTorch, Flax, Equinox, Haiku and Keras on JAX, whichever are installed, all taking turns
in one process. Print a table of medians and the geometric means of the ratios; leave bench.json and bench.png.
FILTER is a part of a name, or a family of convolutions. Ctrl-C keeps what was measured.
Of trained models, each library gets the same weights and input, and is timed where the outputs agree.

Examples
  jaxconv bench                                               single convolutions: output; output and both gradients
  jaxconv bench conv3d --accuracy                             some of them, and their errors against float64
  jaxconv bench --cases mine.toml --only lax,jaxconv          your own list of shapes
  jaxconv bench --models                                      whole networks: inference and training step
  jaxconv bench resnet18 --models --only torch,jaxconv --seconds 5
  jaxconv bench --trained model.keras old.h5 --batch 1,32     inference of trained models, in Keras, PyTorch and here
  jaxconv bench --models --list                               the names of what would be measured
"""

_TUNE = """\
Measure every way to compute the convolutions of MODEL, and their gradients, on this machine; remember the fastest. From
then on each process computes convolutions of these shapes so. The winners are kept as they are found, in the user's
cache folder, one file for each device and version of JAX; JAXCONV_TUNED=FILE names another one, and JAXCONV_TUNED=
turns it off.

Examples
  jaxconv tune configs/gunpoint_fcn.toml                      for the batch size of its config
  jaxconv tune model.keras --batch 1 --inference              without gradients
  jaxconv tune model.keras --shape 128,16 --forget            forget everything on this device, and measure anew
  jaxconv tune --forget
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

    for command in COMMANDS.values():
        command.arguments(new(command.NAME, command.SUMMARY, command.TEXT))

    model = "a run folder, or a model file"
    evaluate = new("evaluate", "print the metrics of a trained model", _EVALUATE)
    evaluate.add_argument("model", metavar="MODEL", help=model)
    evaluate.add_argument("--data", metavar="FILE", help="an .npz file, or a config whose [data] to use")

    info = new("info", "print the layers of a model, and what a run reached", _INFO)
    info.add_argument("model", metavar="MODEL", help=f"{model}, or a config")

    bench = new("bench", "measure speed beside other libraries", _BENCH)
    bench.add_argument("filter", nargs="?", default="", metavar="FILTER", help="a part of a name, or a family")
    bench.add_argument("--models", action="store_true", help="whole networks instead of single convolutions")
    bench.add_argument("--trained", nargs="+", default=[], metavar="FILE", help="trained models instead: model files")
    bench.add_argument("--batch", metavar="N,N", help="batch sizes for them (default: 1,32)")
    bench.add_argument("--list", action="store_true", help="print the names of what would be measured, and stop")
    bench.add_argument("--cases", metavar="FILE", help="a TOML list of convolutions (default: our own)")
    bench.add_argument("--only", metavar="NAMES", help="lax,torch,jaxconv,flax,equinox,haiku,keras, or some of them")
    bench.add_argument("--seconds", type=float, default=1.0, metavar="S", help="for each figure (default: 1)")
    bench.add_argument("--accuracy", action="store_true", help="compare convolutions with float64 too; slow")
    bench.add_argument("--out", metavar="DIR", help="where figures and chart go (default: a new folder, runs/bench...)")
    _tune_parser(new, f"{model}, or a config")
    return top, commands.choices


def _tune_parser(new: Callable[[str, str, str], argparse.ArgumentParser], model: str) -> None:
    """Add the command that measures; ``new`` makes a parser, ``model`` says what a model is."""
    tune = new("tune", "measure on this machine how to compute a model's convolutions", _TUNE)
    tune.add_argument("model", nargs="?", metavar="MODEL", help=model)
    tune.add_argument("--batch", type=int, metavar="N", help="batch size (default: that of the config, else 32)")
    tune.add_argument("--shape", metavar="SIZES", help="of one sample, 128,16 (default: that of the data or the file)")
    tune.add_argument("--dtype", default="float32", help="of the input: int32 for an Embedding (default: float32)")
    tune.add_argument("--inference", action="store_true", help="leave the gradients out")
    tune.add_argument("--seconds", type=float, default=0.2, metavar="S", help="for each way to compute (default: 0.2)")
    tune.add_argument("--forget", action="store_true", help="first forget what was measured on this device")


def _version() -> int:
    try:
        print(f"jaxconv {metadata.version('jaxconv')}")
    except metadata.PackageNotFoundError:
        print("jaxconv, a checkout that is not installed")
    return 0


def _evaluate(options: argparse.Namespace) -> None:
    from jaxconv.app import inference

    print(inference.evaluate(options.model, options.data))


def _info(options: argparse.Namespace) -> None:
    from jaxconv.app import overview

    print(overview.info(options.model))


def _bench(options: argparse.Namespace) -> None:
    from jaxconv.app.inference import model_file
    from jaxconv.bench.run import bench

    bench(
        options.filter,
        models=options.models,
        files=[str(model_file(file)) for file in options.trained],
        batch=options.batch,
        case_file=options.cases,
        only=options.only,
        seconds=options.seconds,
        accuracy=options.accuracy,
        out=options.out,
        names_only=options.list,
    )


def _tune(options: argparse.Namespace) -> None:
    from jaxconv.app.tuning import command

    print(
        command(
            options.model,
            batch=options.batch,
            shape=options.shape,
            dtype=options.dtype,
            inference=options.inference,
            seconds=options.seconds,
            forget=options.forget,
        )
    )


_COMMANDS = {
    **{name: command.run for name, command in COMMANDS.items()},
    "evaluate": _evaluate,
    "info": _info,
    "bench": _bench,
    "tune": _tune,
}


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
    from jaxconv.app.config import Train

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
