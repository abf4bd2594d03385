"""Parsing, error lines and exit codes; what the commands do is tested in a file for each."""

import ast
import sys
from pathlib import Path

import pytest

import jaxconv
import jaxconv.cli
from jaxconv.cli.command_line import COMMANDS, main

FOLDER = Path(jaxconv.cli.__file__).parent


def test_without_arguments_it_prints_the_help(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert "jaxconv train configs/gunpoint_fcn.toml" in alone


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_examples(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"  jaxconv {command} " in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_each_command_module_has_the_same_form(command):
    assert Path(command.__file__).stem == command.NAME
    tree = ast.parse(Path(command.__file__).read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] == ["arguments", "run"]
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    options = {name for name in modules if name.endswith("_options")}  # which the command line imports itself
    assert modules - options <= sys.stdlib_module_names, "imports of the work belong inside run: --help must be fast"


def test_every_module_is_a_command_or_the_command_line():
    names = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    several = {"channel", "device_options", "supervisor", "worker"}
    assert names == {*COMMANDS, "command_line", "process", "stream_options", *several}


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"jaxconv {jaxconv.__version__}"


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["trian"], ["'trian'", "'train'"]),
        (["--verbose"], ["'--verbose'"]),
        (["train", "tiny.toml", "--epochs", "5"], ["'--epochs'", "--set train.epochs=VALUE"]),
        (["train", "tiny.toml", "--batch-size=5"], ["'--batch-size=5'", "--set train.batch_size=5"]),
        (["train", "tiny.toml", "--filters", "5"], ["'--filters'", "--set KEY=VALUE"]),
        (["train", "tiny.toml", "train.epochs=5"], ["'train.epochs=5'", "takes [CONFIG]", "--set train.epochs=5"]),
        (["train", "tiny.toml", "epochs=5"], ["'epochs=5'", "--set train.epochs=5"]),
        (["convert", "a", "b", "c", "d"], ["'d'", "takes OLD [WEIGHTS] NEW"]),
        (["train", "tiny.toml", "--sett", "a=1"], ["'--sett'", "'--set'"]),
        (["train", "tiny.toml", "more"], ["'more'", "jaxconv train --help"]),
        (["export", "a", "b", "--input-shap", "3"], ["'--input-shap'", "'--input-shape'"]),
        (["evaluate"], ["MODEL", "jaxconv evaluate --help"]),
        (["predict", "m", "x.npy"], ["--out"]),
        (["predict", "m", "x.npy", "--out", "y.npy", "--batch", "few"], ["--batch", "'few'"]),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(error_line, arguments, facts):
    error = error_line(*arguments)
    for fact in facts:
        assert fact in error, error


def test_a_bug_is_one_line_and_a_traceback_on_request(error_line, capsys, monkeypatch):
    def fail(*args):
        raise RuntimeError("a bug,\nin two lines")

    monkeypatch.setattr("jaxconv.app.overview.overview", fail)
    error = error_line("info", "runs/tiny", code=70)
    assert error.startswith("RuntimeError: a bug, in two lines") and "--traceback" in error
    assert main(["info", "runs/tiny", "--traceback"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "fact"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (FloatingPointError("the loss became nan"), 1, "the loss became nan"),
        (MemoryError(), 1, "MemoryError"),
        (PermissionError(13, "Permission denied", "a.toml"), 2, "a.toml: Permission denied"),
        (ImportError("needs aeon"), 2, "needs aeon"),
        (TypeError("wrong kind"), 2, "wrong kind"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (RuntimeError("Unable to initialize backend 'nonsense': not known"), 2, "JAX_PLATFORMS"),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error_line, monkeypatch, error, code, fact):
    def fail(*args):
        raise error

    monkeypatch.setattr("jaxconv.app.overview.overview", fail)
    assert fact in error_line("info", "runs/tiny", code=code)
