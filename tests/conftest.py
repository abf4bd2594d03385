"""Strictness for every test: no implicit promotion, no implicit broadcasting of ranks, warnings are errors."""

import os
import tempfile

# before anything imports jax or keras: eight devices on one host, Keras on JAX, no config file of the user's
flags = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in flags:  # many small programs run once: compiling was most of it
    flags += " --xla_backend_optimization_level=1"
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["JAXCONV_TUNED"] = ""  # what a developer measured changes no test
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="jaxconv-keras-home-")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    """Give one PRNG key."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Switch 64-bit types on for one test."""
    with jax.enable_x64(True):
        yield
