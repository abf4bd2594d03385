"""The processor, cores, versions and command that are stored with the results."""

import os
import platform
import shlex
import sys
import time
from importlib import metadata
from typing import Any

from jaxconv.kernels import processor

PACKAGES = ("jaxconv", "jax", "jaxlib", "numpy", "torch", "flax", "equinox", "dm-haiku", "keras")


def facts() -> dict[str, Any]:
    """Return machine, thread count, versions, command and time.

    >>> sorted(facts())
    ['command', 'machine', 'threads', 'versions', 'when']
    """
    found = {one.name: one.version for one in metadata.distributions()}
    return {
        "command": shlex.join(["jaxconv", *sys.argv[1:]]),
        "when": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "machine": {"processor": processor.model(), "architecture": platform.machine(), "system": platform.system()},
        "threads": threads(),
        "versions": {"python": platform.python_version()} | {name: found[name] for name in PACKAGES if name in found},
    }


def threads() -> int:
    """Return the number of cores that this process may use, which is the thread count of XLA and PyTorch."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(facts: dict[str, Any]) -> str:
    """Format processor, cores and versions on one line."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if name != "python")
    return f"{facts['machine']['processor']}, {facts['threads']} cores; {versions}"
