"""The fenced blocks of the Markdown pages, README.md and examples/*.md, and functions that run them.

The word after the three backticks is the language; what follows it says how the block is treated:

    python                  run; names stay for the later blocks of the page; ``expression  # -> text`` is compared
    python keras            the same, under the promotion rules and with the warnings of Keras
    python skip: REASON     compiled, not run
    sh                      every command, option, config and setting in it must exist
    sh run                  the same, then run
    sh together             the same, then run all at once, each in a process of its own with one device
    toml                    sections of a config: valid in place of those of a config in ``configs/``
    toml file=NAME          the same, and written to NAME for the blocks after it
    python file=NAME        written to NAME, for a block after it that imports it
    toml cases              a list of convolutions for ``jaxconv bench --cases``
    text output             what the block before printed
    text                    a drawing: shown, not checked
"""

import ast
import contextlib
import doctest
import functools
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import NamedTuple

import jax

from jaxconv import cli
from jaxconv.app.config import build_config, read_config
from jaxconv.bench.cases import read_cases
from jaxconv.cli import command_line

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LANGUAGES = ("python", "sh", "toml", "text")
SKIP = "skip: "


class Block(NamedTuple):
    """One fenced block: its page, the line where its text begins, the language, the words after it, and the text."""

    page: str
    line: int
    language: str
    words: str
    text: str

    @property
    def place(self):
        return f"{self.page}, line {self.line}"

    @property
    def skipped(self):
        """Return the reason why the block is not run, or None."""
        return self.words.removeprefix(SKIP) if self.words.startswith(SKIP) else None


@functools.cache
def blocks(page):
    """Return the fenced blocks of a page, in order."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```([^\s`]*)[ ]*(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(page, text[: m.start(3)].count("\n") + 1, m[1], m[2].strip(), m[3]) for m in found]


def run_page(page):
    """Run the blocks of a page in order, in the current directory, with the names of a fresh module."""
    names, printed = {"__name__": "__main__"}, ""
    for block in blocks(page):
        if block.language == "text":
            if block.words == "output":
                assert_printed(block, printed)
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            RUNNERS[block.language](block, names)
        printed = out.getvalue()


def assert_printed(block, printed):
    """Check what the block before printed; ``...`` stands for anything, and runs of spaces count as one."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = doctest.OutputChecker().check_output(block.text, printed, flags)
    assert same, f"{block.place}: the block before it printed\n{printed}"


# -- python


@contextlib.contextmanager
def keras_rules():
    """Run a block under JAX's default promotion rules, and without warnings: it calls Keras."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_python(block, names):
    """Run a block in the namespace of its page, or compile it where it is skipped."""
    if block.words.startswith("file="):
        Path(block.words.removeprefix("file=")).write_text(block.text)
        return
    tree = ast.parse(block.text, block.page)
    ast.increment_lineno(tree, block.line - 1)
    if block.skipped is not None:
        return
    with keras_rules() if block.words == "keras" else contextlib.nullcontext():
        run_statements(tree, block, names)


def run_statements(tree, block, names):
    """Run the statements of a block; compare each expression that has a comment ``# -> text`` behind it."""
    lines = block.text.splitlines()
    for statement in tree.body:
        expected = re.search(r"#\s*->\s*(.*)$", lines[statement.end_lineno - block.line])
        if expected and isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), block.page, "eval"), names)
            message = f"{block.page}, line {statement.lineno}: got {value!r}"
            assert doctest.OutputChecker().check_output(expected[1] + "\n", f"{value!r}\n", doctest.ELLIPSIS), message
        else:
            assert not expected, (
                f"{block.page}, line {statement.lineno}: '# ->' stands behind a statement without value"
            )
            exec(compile(ast.Module([statement], []), block.page, "exec"), names)


# -- commands


def run_shell(block, names):
    """Check the commands of a block, and run those of jaxconv where the block says so."""
    for words in commands(block):
        check_command(words, block.place)
        if block.words == "run":
            assert words[0] == "jaxconv", f"{block.place}: {words[0]} is not run here"
            assert cli.main(words[1:]) == 0, f"{block.place}: {shlex.join(words)}"
    if block.words == "together":
        run_together([words[1:] for words in commands(block)], block.place)


def run_together(arguments, place):
    """Run commands of jaxconv at the same time, at another port than the page's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f":{free.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    options = {"env": os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": paths}, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-m", "jaxconv", *(word.replace(":1234", port) for word in words)], **options)
        for words in arguments
    ]
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), f"{place}: {errors}"


def commands(block):
    """Return the commands of a block as lists of words, without comments and assignments."""
    text = block.text.replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        command: list[str] = []
        for word in [*words, "&&"]:
            if word != "&&":
                command.append(word)
            elif command:
                found.append(command)
                command = []
    return [command[1:] if re.fullmatch(r"\w+=\S*", command[0]) else command for command in found]


def check_command(words, place):
    """Check that a command and everything that it names exists."""
    program, *arguments = words
    check = {"jaxconv": check_jaxconv, "pip": check_pip}.get(program)
    if check is not None:
        check(arguments, place)
    elif program in ("python", "bash"):
        assert (ROOT / arguments[0]).is_file(), f"{place}: there is no {arguments[0]}"
    else:
        assert program in ("cd", "git", "mypy", "pytest", "ruff"), f"{place}: {program} is not a known program"


def check_jaxconv(arguments, place):
    """Parse the arguments of a command of jaxconv; read the config that it names, with its settings."""
    try:
        options = command_line._parsers()[0].parse_args(arguments)
    except SystemExit as stop:
        assert stop.code == 0, f"{place}: jaxconv {shlex.join(arguments)}"
        return
    for word in arguments:
        if word.startswith(("configs/", "examples/")):
            assert (ROOT / word).exists(), f"{place}: there is no {word}"
    config = getattr(options, "config", None)
    if config is not None and (ROOT / config).is_file():
        read_config(ROOT / config, options.settings)


def check_pip(arguments, place):
    """Check that the extras and packages that are installed are those of the project."""
    assert arguments[0] == "install", place
    packages = {re.split(r"[<>=~\[]", line)[0] for lines in PROJECT["optional-dependencies"].values() for line in lines}
    for word in arguments[1:]:
        extras = re.fullmatch(r"(?:\.|jaxconv)\[(.*)\]", word)
        if extras:
            for extra in extras[1].split(","):
                assert extra in PROJECT["optional-dependencies"], f"{place}: there is no extra {extra}"
        else:
            assert word in (".", "-e") or word in packages, f"{place}: {word} is not a package of the project"


# -- toml


def run_toml(block, names):
    """Check that a block is a valid part of a config, or a list of convolutions; write it where it names a file."""
    tree = tomllib.loads(block.text)
    words = dict(word.split("=", 1) for word in block.words.split() if "=" in word)
    if "file" in words:
        Path(words["file"]).write_text(block.text)
    if block.words.startswith("cases"):
        path = Path("cases_of_the_page.toml")
        path.write_text(block.text)
        assert read_cases(path)
    else:
        base = tomllib.loads((ROOT / "configs" / "digits_conv2d.toml").read_text())
        build_config(base | tree, words.get("file", block.place))  # what it imports is beside it


RUNNERS = {"python": run_python, "sh": run_shell, "toml": run_toml}


# -- tables


def tables(page):
    """Return the tables of a page: for each a list of rows, for each row its cells, without the header."""
    lines = [line.strip() for line in (ROOT / page).read_text().splitlines()]
    found: list[list[list[str]]] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and not before.startswith("|"):
            found.append([])
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line[1:-1].split("|")])
    return [table[2:] for table in found]
