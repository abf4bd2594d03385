"""What the figures depend on: processor, cores, versions, command. Knows nothing of what is measured."""

import os
import platform
import re
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jaxconv", "jax", "jaxlib", "numpy", "torch", "flax", "equinox", "dm-haiku", "keras")


def facts() -> dict[str, Any]:
    """Give machine, thread count, versions, command and time, as they go beside the figures.

    >>> sorted(facts())
    ['command', 'machine', 'threads', 'versions', 'when']
    """
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "command": shlex.join(["jaxconv", *sys.argv[1:]]),
        "when": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "machine": {"processor": _processor(), "architecture": platform.machine(), "system": platform.system()},
        "threads": threads(),
        "versions": {"python": platform.python_version()} | {k: v for k, v in versions.items() if v is not None},
    }


def threads() -> int:
    """Give the number of cores that this process may use: XLA and PyTorch take as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_words(known: dict[str, Any]) -> str:
    """Say on one line what the figures depend on."""
    versions = ", ".join(f"{name} {number}" for name, number in known["versions"].items() if name != "python")
    return f"{known['machine']['processor']}, {known['threads']} cores; {versions}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "unknown processor"
