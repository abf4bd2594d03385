"""Fixtures for the commands: a home folder with a finished run, and a check of error lines."""

import pytest

from jaxconv.cli.command_line import main
from tests.support.model_files import write_models
from tests.support.small_run import write_small_run


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Return a folder with data, a config, a finished run in ``runs/tiny``, and model files."""
    home = tmp_path_factory.mktemp("home")
    write_small_run(home)
    write_models(home)
    (home / "junk.npz").write_bytes(b"junk")
    (home / "tiny.txt").write_text("1,2,3")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["train", "tiny.toml"]) == 0
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    """Make that folder the current one."""
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def error_line(capsys):
    """Return a function that runs a command and returns the one line of its error."""

    def run(*arguments: str, code: int = 2) -> str:
        assert main(arguments) == code
        error = capsys.readouterr().err
        assert "Traceback" not in error and error.count("\n") == 1
        return error.removeprefix("jaxconv: error: ")

    return run
