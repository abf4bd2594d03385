"""``jaxconv bench --stream``: the same TCN in every library, and its receptive field."""

import numpy as np
import pytest

from jaxconv.bench import run, stepping
from jaxconv.bench.agreement import disagreeing
from jaxconv.streaming import stream
from tests.bench.test_convolutions import refused


def test_steps_of_the_tcn_equal_the_whole():
    network = stepping.tcn(2, kernel=3, levels=3, channels=4)
    layer, params = stepping.tcn_layer(network)
    x = np.random.default_rng(1).standard_normal((2, 20, 4)).astype("f4")
    got = stepping.build_stepper(network).outputs(x)[0]
    np.testing.assert_allclose(got, layer.apply_fn(params, x), atol=1e-5)


def test_the_measured_tcn_reads_3061_steps():
    assert stream(stepping.tcn_layer(stepping.tcn(1))[0], (None, None, 32)).receptive_field == 3061


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "sequence_layers"])
@pytest.mark.filterwarnings("default")  # those of the other libraries
def test_the_libraries_step_the_same_network(library):
    pytest.importorskip(library)
    network = stepping.tcn(2, kernel=3, levels=3, channels=4)
    x = np.random.default_rng(1).standard_normal((2, 20, 4)).astype("f4")
    values = {name: stepping._builder(name)(network).outputs(x) for name in ("jaxconv", library)}
    assert disagreeing(values, 1e-5) == []


def test_libraries_that_are_not_installed_are_named_once(monkeypatch):
    monkeypatch.setattr(run, "_installed", lambda library: library == "jaxconv")
    monkeypatch.setattr(stepping, "measure_step", lambda name, libraries, *_: {"libraries": libraries})
    suite, lines = run._steps(None, 0.0), []
    assert [suite.measure(name, lines.append) for name in suite.names] == [{"libraries": ["jaxconv"]}] * 3
    assert len(lines) == 2 and all("not installed" in line for line in lines)


def test_stream_excludes_the_other_suites(capsys):
    assert all(option in refused(capsys, "--stream", "--models") for option in ("--models", "--stream"))
