"""Every notebook in examples/ runs: shortened in this process, and complete in a new kernel in slow tests."""

import ast
import json
import os
import re
from pathlib import Path

import jax
import pytest

from jaxconv.contract import layers

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# notebook -> constants of its first cell of code, with values for the shortened form
SHORTENED = {
    "01_convolutions": {"STEPS": "60", "UPDATES": "2"},
    "02_train_fcn": {"EPOCHS": "1", "FILTERS": "(2, 3, 2)"},
    "03_attribution": {"STEPS": "1", "METHODS": '["gradient", "integrated"]'},
    "04_gradient_experiments": {"CASES": "12", "STEPS": "2", "POINTS": "3"},
    "05_ensembles": {"MEMBERS": "2", "STEPS": "1", "BATCH": "2", "RATES": "1", "DECAYS": "2"},
    "06_streaming": {"STEPS": "50", "LEVELS": "2", "UPDATES": "1", "REPEATS": "1"},
    "07_keras_file": {"STEPS": "40"},
    "08_faster": {"CHANNELS": "8", "SIZE": "4", "BATCH": "1", "REPEATS": "1"},
}
PACKAGES = {"02_train_fcn": ["aeon"], "08_faster": ["equinox", "flax", "keras"]}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells(path, kind):
    """Return the cells of a kind, "code" or "markdown"."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@every_notebook
def test_notebooks_are_stripped_and_numbered(path):
    text = path.read_text()
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"  # a change of a line is a diff of a line
    assert re.fullmatch(r"\d\d_\w+", path.stem)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    first, *_, last = cells(path, "markdown")
    assert first["source"][0].startswith("# ") and last["source"][0].startswith("## Exercises")
    assert f"[{path.name}]" in (ROOT / "examples" / "README.md").read_text()


@pytest.mark.few(1)
@every_notebook
def test_every_notebook_runs_in_a_shortened_form(path, monkeypatch, tmp_path):
    for package in PACKAGES.get(path.stem, ()):
        pytest.importorskip(package)
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "_entries", dict(layers._entries))
    sources = ["".join(cell["source"]) for cell in cells(path, "code")]
    for name, value in SHORTENED[path.stem].items():
        sources[0], count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value}  ", sources[0], flags=re.MULTILINE)
        assert count == 1, name
    space = {"__name__": "__main__"}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for number, source in enumerate(sources):
            exec(compile(ast.parse(source), f"{path.name}[{number}]", "exec"), space)
    plt.close("all")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the tools that start kernels
@every_notebook
def test_every_notebook_runs_whole_from_a_clean_kernel(path, monkeypatch, tmp_path):
    for package in PACKAGES.get(path.stem, ()):
        pytest.importorskip(package)
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    monkeypatch.setenv("XLA_FLAGS", "")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=90, kernel_name="python3", resources=where).execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert pictures
