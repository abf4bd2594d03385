"""Settings for all tests: no implicit promotion, no implicit broadcasting of ranks, eight devices, Keras on JAX."""

import os
import signal
import tempfile

# set before the first import of jax and keras
flags = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in flags:  # compiling small programs takes most of the time
    flags += " --xla_backend_optimization_level=1"
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["JAXCONV_TUNED"] = ""  # tests are independent of the developer's tuning results
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="jaxconv-keras-home-")

import jax  # noqa: E402
import pytest  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    """Return a PRNG key."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Enable 64-bit types for one test."""
    with jax.enable_x64(True):
        yield
