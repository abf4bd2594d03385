"""Every example and every config runs: shortened by default, complete among the slow tests."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

from jaxconv import cli
from jaxconv.contract import layers

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
REQUIRED = {f"{name}_fcn" for name in ("gunpoint", "italypower", "arrowhead", "basicmotions")}
REQUIRED |= {"digits_conv2d", "solids_conv3d", "addingproblem_tcn"}
FEWER_CASES = {
    "solids_conv3d": ["data.train=64", "data.test=32"],
    "addingproblem_tcn": ["data.train=96", "data.test=32"],
}
# example -> what the shortened form replaces; each text occurs once
SHORTENED = {
    "faster_equinox": {"(8, 3, 64, 64)": "(2, 3, 16, 16)", "((32, 64), (64, 128), (128, 128))": "((32, 128),)"},
    "faster_keras": {
        "(64, 32, 32, 3)": "(32, 8, 8, 3)",
        "Input((32, 32, 3))": "Input((8, 8, 3))",
        "0, 10, 64": "0, 10, 32",
    },
    "faster_flax": {
        "(8, 64, 64, 3)": "(8, 16, 16, 3)",
        "range(7)": "range(1)",
        "((64, 1), (128, 2), (128, 1), (256, 2), (256, 1))": "((64, 2),)",
    },
    "streaming_wakeword": {
        "parse_args()": "parse_args([])",
        "default=300": "default=60",
        "default=200": "default=3",
        "REPEATS = 200": "REPEATS = 2",
    },
    "train_by_hand": {"range(501)": "range(3)"},
    "volume_on_many_devices": {"(64, 32, 32, 2)": "(32, 4, 4, 2)", "(8, 16)": "(2, 3)", "block(x, 32)": "block(x, 4)"},
}
PACKAGES = {"faster_equinox": ["equinox"], "faster_flax": ["flax"], "faster_keras": ["keras"]}


def test_every_required_config_exists():
    assert {path.stem for path in CONFIGS} >= REQUIRED


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=() if p.stem == "gunpoint_fcn" else pytest.mark.slow) for p in CONFIGS],
)
def test_a_short_run_of_each_config_writes_a_run_folder(path, tmp_path, capsys):
    settings = ["train.epochs=1", *FEWER_CASES.get(path.stem, [])]
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert cli.main(["train", str(path), "--out", str(tmp_path / "run"), *arguments]) == 0
    assert "test " in capsys.readouterr().out
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert written >= {"config.toml", "metrics.csv", "learning_curve.png", "model.keras"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_each_config_has_its_name_and_a_result_to_compare_with(path):
    head = path.read_text().split("\nname =")[0]
    assert "Published" in head or "Baseline" in head
    assert tomllib.loads(path.read_text())["name"] == path.stem


@pytest.mark.few(1)
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_runs_in_a_shortened_form(path, monkeypatch):
    monkeypatch.setattr(layers, "_entries", dict(layers._entries))  # what an example registers is gone after it
    for package in PACKAGES.get(path.stem, ()):
        pytest.importorskip(package)
    source = path.read_text()
    for text, short in SHORTENED.get(path.stem, {}).items():
        assert source.count(text) == 1, text
        source = source.replace(text, short)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(source, str(path), "exec"), {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_runs_as_a_command(path, tmp_path):
    for package in PACKAGES.get(path.stem, ()):
        pytest.importorskip(package)
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, str(path)], check=True, env=environment, cwd=tmp_path, capture_output=True, timeout=120
    )


def test_the_example_by_hand_is_short():
    lines = (ROOT / "examples" / "train_by_hand.py").read_text().splitlines()
    assert len(lines) <= 60
