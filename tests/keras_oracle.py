"""Keras 3 on JAX as an oracle: ``keras`` itself, and the promotion rules that it needs to run."""

import contextlib
import os
import warnings

import jax
import pytest

os.environ["KERAS_BACKEND"] = "jax"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # not our imports
    keras = pytest.importorskip("keras")


@contextlib.contextmanager
def keras_rules():
    """Run a block under JAX's default promotion rules; ours are strict, and Keras does not follow them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
