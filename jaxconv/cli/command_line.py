"""The command line: parsing, error messages and exit codes. Every failure becomes one line and an exit code."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxconv.cli import bench, convert, evaluate, explain, export, info, predict, stream, train, tune
from jaxconv.cli.device_options import lead, read_place
from jaxconv.cli.process import ctrl_c_ignored, printable, run_process, safe_output
from jaxconv.cli.worker import Worker, find_worker
from jaxconv.registry import nearest
from jaxconv.version import __version__

_COMMANDS = (train, evaluate, predict, explain, stream, info, convert, export, tune, bench)
COMMANDS = {command.NAME: command for command in _COMMANDS}
FAILED, MISTAKE, BUG = 1, 2, 70  # exit codes: the run failed, a mistake of the user, a bug of jaxconv

_TEXT = """\
Train convolutional networks from a config file, and use them.

  jaxconv train configs/gunpoint_fcn.toml                     train; everything is written to runs/gunpoint_fcn
  jaxconv train configs/gunpoint_fcn.toml --set train.epochs=50 --set train.optimizer.name=sgd
  jaxconv train --resume runs/gunpoint_fcn                    continue after Ctrl-C or a crash, bit for bit
  jaxconv train CONFIG --from model.keras --freeze 'conv*'    fine-tune
  jaxconv evaluate runs/gunpoint_fcn                          loss and metrics on the test set
  jaxconv predict runs/gunpoint_fcn x.npy --out y.npy         one prediction for each row of x
  jaxconv explain runs/gunpoint_fcn x.npy --out picture.png   which parts of an input contribute to a class
  jaxconv stream model.keras x.wav --out y.npy                step by step, with the same outputs; also from a pipe
  jaxconv info model.h5                                       layers, shapes, parameters, multiply-adds
  jaxconv convert old.h5 new.keras                            a file of any Keras version, for Keras 3
  jaxconv export model.keras model.jaxexport                  one program, for cpu, cuda and tpu
  jaxconv tune runs/gunpoint_fcn                              measure the fastest way on this machine
  jaxconv bench --models                                      speed of PyTorch, Flax, Equinox, Haiku, Keras, jaxconv
"""


class _Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in one line, like all other errors of the command."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_report(f"{message}; see: {self.prog} --help", MISTAKE))


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of the whole command line, and the parsers of the commands by name."""
    options: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    epilog = "'jaxconv COMMAND --help' prints more about one command."
    top = _Parser(prog="jaxconv", description=_TEXT, epilog=epilog, **options)
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS.values():
        parser = commands.add_parser(command.NAME, help=command.SUMMARY, description=command.TEXT, **options)
        own = "a Python file with layers of your own, which is run; may be repeated"
        parser.add_argument("--import", action="append", default=[], metavar="FILE.py", dest="imports", help=own)
        parser.add_argument("--traceback", action="store_true", help="print the traceback of an error")
        command.arguments(parser)
    return top, commands.choices


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done. 1: the run failed. 2: a mistake in the command or the config. 70: a bug of jaxconv. 130: Ctrl-C.
    Tracebacks are printed only with ``--traceback``.
    """
    with safe_output():
        return _run(sys.argv[1:] if arguments is None else list(arguments))


def entry_point() -> NoReturn:
    """Run the command line as the whole process."""
    run_process(main)


def _run(arguments: Sequence[str]) -> int:
    parser, parsers = _parsers()
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        return _report(f"there is no command {command!r}; {nearest(command, COMMANDS)}", MISTAKE)
    try:
        options, unknown = parser.parse_known_args(arguments)
    except SystemExit as stop:  # --help, and errors that were already reported
        return int(stop.code or 0)
    if unknown:
        return _report(_unknown_argument(command, unknown[0], parsers), MISTAKE)
    if options.version:
        print(f"jaxconv {__version__}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    try:
        place = read_place(options) if "coordinator" in options else None
        worker = None if place is None else find_worker()
        if place is not None and worker is None:
            message, code = lead(place, options, arguments)
            return _report(message, code, head="jaxconv" if code > 128 else "jaxconv: error") if code else 0
        with contextlib.nullcontext() if worker is None else worker.running(keep=options.traceback):
            for file in options.imports:
                from jaxconv.app.own_layers import import_file

                import_file(Path(file))
            COMMANDS[options.command].run(options)
        return 0
    except BaseException as error:
        with ctrl_c_ignored():
            if options.traceback:
                traceback.print_exc()
            return _report_error(error)


def _unknown_argument(command: str | None, word: str, parsers: dict[str, _Parser]) -> str:
    """Return the message for an argument that no option takes."""
    if command is None or not word.startswith("-"):
        hint = ""
        if command == "train" and "=" in word:
            table = "train." if word.partition("=")[0] in _train_keys() else ""
            hint = f"; to set a key of the config, use --set {table}{word}"
        takes = "" if command is None else f": jaxconv {command} takes {_positional(parsers[command])}"
        return f"unexpected {word!r}{takes}{hint}; see: jaxconv {command or ''} --help"
    name, _, value = word.lstrip("-").replace("-", "_").partition("=")
    if command == "train" and name in _train_keys():
        return f"jaxconv train has no option {word!r}; use --set train.{name}={value or 'VALUE'}"
    options = set(re.findall(r"--[\w-]+", parsers[command].format_usage()))
    hint = "; to set a key of the config, use --set KEY=VALUE" if command == "train" else ""
    return f"jaxconv {command} has no option {word!r}; {nearest(word, options)}{hint}"


def _train_keys() -> list[str]:
    """Return the keys of the table ``train`` of a config."""
    from jaxconv.app.train_table import TrainTable

    return [field.name for field in dataclasses.fields(TrainTable)]


def _positional(parser: argparse.ArgumentParser) -> str:
    """Return the arguments without a name, such as ``OLD [WEIGHTS] NEW``, which argparse writes after the options."""
    return re.sub(r".*\[-[^][]*\]", "", " ".join(parser.format_usage().split())).strip()


def _report_error(error: BaseException) -> int:
    """Print an error in one line and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _report(str(error) or "interrupted", 128 + getattr(error, "signal", 2), head="jaxconv")
    if isinstance(error, ArithmeticError | MemoryError) or type(error).__name__ == "JaxRuntimeError":
        return _report(str(error) or type(error).__name__, FAILED)  # a JaxRuntimeError is mostly "out of memory"
    if isinstance(error, OSError) and error.filename is not None:
        return _report(f"{error.filename}: {error.strerror}", MISTAKE)
    if isinstance(error, OSError) and error.strerror:  # without the error number, which does not help
        return _report(error.strerror, MISTAKE)
    if str(error).startswith("Unable to initialize backend"):  # a RuntimeError of JAX, for example for JAX_PLATFORMS
        return _report(f"{error}; JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}", MISTAKE)
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        hint = "; on the command line, give --import FILE.py, which registers it"
        return _report(f"{error}{hint if 'custom_layers=' in str(error) else ''}", MISTAKE)
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        if frame.f_globals.get("__name__", "").startswith("jaxconv_import_"):  # in the user's own layers
            where = f"{frame.f_code.co_filename}, line {line}"
            return _report(f"{where}: {type(error).__name__}: {error}", MISTAKE)
    return _report(f"{type(error).__name__}: {error}; this is a bug of jaxconv: rerun with --traceback", BUG)


def _report(message: str, code: int, head: str = "jaxconv: error") -> int:
    if Worker.current is not None:
        Worker.current.report(" ".join(message.split()), code)
        return code
    print(printable(f"{head}: {' '.join(message.split())}"), file=sys.stderr)
    return code
