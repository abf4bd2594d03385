"""Every example in a docstring runs, in strict mode, with the names that a reader would have imported."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv

MODULES = sorted(m.name for m in pkgutil.walk_packages(jaxconv.__path__, "jaxconv.") if not m.name.endswith("__main__"))
NAMES = {"jax": jax, "jnp": jnp, "np": np, "jaxconv": jaxconv}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.few(12)
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if name.startswith("jaxconv.bench.peers."):
        pytest.importorskip(
            name.split(".")[3].partition("_")[0]
        )  # a module for each library that the bench knows, installed or not
    result = doctest.testmod(importlib.import_module(name), extraglobs=NAMES, optionflags=FLAGS)
    assert result.failed == 0


def test_every_public_function_and_class_has_an_example():
    without = [
        name
        for name in jaxconv.__all__
        if callable(thing := getattr(jaxconv, name)) and ">>>" not in (thing.__doc__ or "")
    ]
    assert without == []
