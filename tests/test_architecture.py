"""The floors: imports go down only, files stay small, the public surface is what it says."""

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jaxconv

ROOT = Path(jaxconv.__file__).parent

# from the ground up; a module may import what stands on a lower line, never a neighbour on its own
FLOORS = [
    {"registry", "dtypes", "errors", "progress", "version"},
    {"data_format", "geometry", "axes"},
    {"kernels"},
    {"ops", "activations", "initializers", "regularizers", "constraints"},
    {"contract"},
    {"layers"},
    {"models"},
    {"files", "inspect"},
    {"training", "serving"},
    {"tuning", "bench"},
    {"app"},
    {"cli", "__init__", "__main__"},
]
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
FILES = sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    """Give the module or package directly under jaxconv that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Give the dotted names under jaxconv that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # "from jaxconv import geometry" names a module; "from jaxconv.registry import nearest" a function of one
            inside = node.module == "jaxconv"
            names |= {f"jaxconv.{a.name}" for a in node.names} if inside else {node.module}
    return {name.removeprefix("jaxconv.") for name in names if name.startswith("jaxconv.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path):
    here = part(path)
    assert here in HEIGHT, f"{here} stands on no floor; give it one in FLOORS"
    for name in imported(path):
        there = name.split(".")[0]
        if there != here and here not in FLOORS[-1]:
            assert HEIGHT[there] < HEIGHT[here], f"{here} imports {there}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_upper_floors_know_layers_by_the_contract_alone(path):
    if part(path) in ("models", "files", "inspect", "training", "serving", "tuning", "app"):
        assert not {name for name in imported(path) if name.startswith("layers.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_small_and_say_what_they_are(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source)), "a module opens with what is here and what it must not know"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_fit_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            code = node.end_lineno - node.lineno - len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert code <= 60, f"{node.name} has {code} lines"


def test_no_module_is_a_drawer():
    assert not {p.stem for p in FILES} & {"utils", "util", "misc", "common", "helpers", "helper"}


def test_public_names_are_documented_and_exist():
    for name in jaxconv.__all__:
        assert getattr(jaxconv, name).__doc__, name
    modules = {name for name in jaxconv.__all__ if isinstance(getattr(jaxconv, name), types.ModuleType)}
    assert modules == {"activations", "constraints", "initializers", "regularizers"}


def test_the_core_imports_jax_optax_and_numpy_alone():
    heavy = [
        "keras",
        "h5py",
        "safetensors",
        "matplotlib",
        "sklearn",
        "aeon",
        "tqdm",
        "flax",
        "pandas",
        "numba",
        "tomli_w",
        "scipy.signal",
    ]
    code = f"import sys, jaxconv; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
