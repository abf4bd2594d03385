"""The overview of a run or a file, also with damaged results and hostile metadata."""

import shutil

import jax
import pytest

import jaxconv as jc
from jaxconv.app import run
from jaxconv.app.overview import overview
from tests.support.small_run import write_small_run

pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overview")
    return run.train(str(write_small_run(folder)), ["train.epochs=1"], out=str(folder / "run"))


@pytest.mark.parametrize(
    "text",
    [
        *("{}", "[]", "", "null", "{" * 3, "[" * 100_000, "\xff\x00"),
        '{"epochs": 1, "seconds": 1, "test": {}}',
        '{"epochs": 1, "seconds": 1, "test": {"loss": "low"}}',
        '{"epochs": 1, "test": {"loss": 1.0}}',
    ],
    ids=lambda text: text[:50],
)
def test_damaged_results_are_reported_as_missing(finished, tmp_path, text):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "results.json").write_bytes(text.encode("latin-1"))
    assert f"jaxconv train --resume {folder}" in overview(str(folder))


@pytest.mark.parametrize(
    "about",
    [
        {"name": 3, "test": {}, "classes": 7},
        {"name": "x", "test": {"loss": {}}, "classes": [1, 2]},
        {"test": [1], "classes": {"a": "b"}},
        {"name": ["a"], "test": {"loss": 0.5, "accuracy": "high"}},
        {"name": {}, "test": {"loss": 0.5}},
    ],
    ids=str,
)
def test_metadata_of_any_form_does_no_harm(tmp_path, about):
    net = jc.Sequential([jc.Dense(2)])
    params, _ = net.init(jax.random.key(0), (None, 3))
    jc.save_model(tmp_path / "m.keras", net, params, input_shape=(None, 3), about=about)
    text = overview(str(tmp_path / "m.keras"))
    assert "Dense" in text and ("test loss 0.5000" in text) == (about["test"] == {"loss": 0.5})
