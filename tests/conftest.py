"""Settings for all tests: no implicit promotion, no implicit broadcasting of ranks, eight devices, Keras on JAX."""

import gc
import importlib.metadata
import itertools
import os
import signal
import tempfile
from pathlib import Path

# set before the first import of jax and keras
flags = os.environ.get("XLA_FLAGS", "")
if "xla_backend_optimization_level" not in flags:  # compiling small programs takes most of the time
    flags += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # others refuse the flag; here it halves the time
        flags += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
QUICK = "xla_backend_optimization_level=0" in flags  # also in a worker, which has the flags of its parent
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["JAXCONV_TUNED"] = ""  # tests are independent of the developer's tuning results
os.environ["KERAS_BACKEND"] = "jax"
_keras_home = tempfile.TemporaryDirectory(prefix="jaxconv-keras-home-")
os.environ["KERAS_HOME"] = _keras_home.name

import jax  # noqa: E402
import pytest  # noqa: E402

for sent in (signal.SIGINT, signal.SIGHUP):  # ignored in a background job of a shell, or under nohup; tests send them
    if signal.getsignal(sent) is signal.SIG_IGN:
        signal.signal(sent, signal.default_int_handler if sent == signal.SIGINT else signal.SIG_DFL)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_unconfigure(config):
    _keras_home.cleanup()


@pytest.fixture
def key():
    """Return a PRNG key."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Enable 64-bit types for one test."""
    with jax.enable_x64(True):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Carry out the markers: few(n) leaves n cases of a test that are not slow, spread evenly; the others are slow."""
    tests = {}
    for item in items:
        if QUICK and item.get_closest_marker("exact"):
            item.add_marker(pytest.mark.skip(reason="needs the optimizations that users have: .ci/run runs it so"))
        if item.get_closest_marker("few") and not item.get_closest_marker("slow"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        count = cases[0].get_closest_marker("few").args[0]
        kept = {index * len(cases) // count for index in range(count)}
        for index, case in enumerate(cases):
            if index not in kept:
                case.add_marker(pytest.mark.slow)


# Linux allows a process 65,530 memory maps. A compiled program has several, and beyond that the compiler crashes.
MOST_MAPS = 20_000
_tests = itertools.count(1)


def pytest_runtest_logfinish():
    """Drop compiled programs now and then: the slow tests compile so many that a process runs out of memory maps."""
    if next(_tests) % 50 == 0 and (maps := Path("/proc/self/maps")).exists():
        with maps.open("rb") as lines:
            if sum(1 for _ in lines) > MOST_MAPS:
                jax.clear_caches()
                gc.collect()
