"""Fixtures: a file of winners for one test, and races on a simulated clock, so that no test measures time."""

import pytest

from jaxconv.kernels import tuning_cache
from jaxconv.tuning.convolutions import Convolution
from tests.support.tuning import MILLISECONDS, OTHER_MILLISECONDS


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Remember winners in a file of this test."""
    monkeypatch.setenv("JAXCONV_TUNED", str(tmp_path / "tuned.json"))
    tuning_cache.reload()
    yield tmp_path / "tuned.json"
    tuning_cache.reload()


@pytest.fixture
def raced(monkeypatch):
    """Let each lowering take the time in MILLISECONDS; return the names of what was raced."""
    names = []

    def run(programs, seconds):
        names.append(list(programs))
        return {name: MILLISECONDS.get(name, OTHER_MILLISECONDS) for name in programs}

    monkeypatch.setattr("jaxconv.tuning.measurement.race", run)
    return names


@pytest.fixture
def clock(raced, monkeypatch):
    """Do the same without compiling what would not be run."""
    monkeypatch.setattr(Convolution, "program", lambda *_, **__: lambda a, b: a)
    return raced
