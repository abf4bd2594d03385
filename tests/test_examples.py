"""Every example and every config runs; the configs in a shortened version that changes nothing but sizes."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jaxconv import cli

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
SHORT = {
    "solids_conv3d": ["data.train=64", "data.test=32"],
    "addingproblem_tcn": ["data.train=96", "data.test=32"],
}
EXTRA = {"faster_flax": ["flax"]}
NEEDED = {f"{name}_fcn" for name in ("gunpoint", "italypower", "arrowhead", "basicmotions")}
NEEDED |= {"digits_conv2d", "solids_conv3d", "addingproblem_tcn"}


def _costly(path, *quick):
    """Give a file that is tried always, if it is named, and otherwise among the long tests."""
    return pytest.param(path, id=path.stem, marks=() if path.stem in quick else pytest.mark.slow)


def test_every_config_of_the_list_is_there():
    assert {path.stem for path in CONFIGS} >= NEEDED


@pytest.mark.parametrize("path", [_costly(p, "gunpoint_fcn", "digits_conv2d") for p in CONFIGS])
def test_a_shortened_run_of_each_config_leaves_a_run_folder(path, tmp_path, capsys):
    settings = ["train.epochs=1", *SHORT.get(path.stem, [])]
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert cli.main(["train", str(path), "--out", str(tmp_path / "run"), *arguments]) == 0
    assert "test " in capsys.readouterr().out
    left = {p.name for p in (tmp_path / "run").iterdir()}
    assert left >= {"config.toml", "metrics.csv", "learning_curve.png", "model.keras"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_each_config_names_a_figure_to_compare_with(path):
    head = path.read_text().split("\nname =")[0]
    assert "Published" in head or "Baseline" in head
    assert tomllib.loads(path.read_text())["name"] == path.stem


@pytest.mark.parametrize("path", [_costly(p, "train_by_hand") for p in sorted((ROOT / "examples").glob("*.py"))])
def test_every_example_runs(path):
    for package in EXTRA.get(path.stem, ()):
        pytest.importorskip(package)
    environment = os.environ | {"XLA_FLAGS": ""}
    subprocess.run([sys.executable, str(path)], check=True, env=environment, capture_output=True, timeout=120)


def test_the_example_by_hand_is_short():
    lines = (ROOT / "examples" / "train_by_hand.py").read_text().splitlines()
    assert len(lines) <= 60
