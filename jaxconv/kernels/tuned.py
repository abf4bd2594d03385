"""The remembered winners: which lowering was measured to be the fastest for a map, on this machine with this JAX.

Knows keys, files and devices. What is measured, and whether a winner can compute what it is for, others know.
"""

import contextlib
import functools
import json
import os
import platform as host
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.kernels.problem import Problem

FORMAT, VERSION = "jaxconv tuned lowerings", 1
VARIABLE = "JAXCONV_TUNED"  # names another file; empty, it turns the memory off


class Winner(NamedTuple):
    """What a measurement found: the fastest lowering, the one that the table names, and the median times of both."""

    lowering: str
    ms: float
    table: str
    table_ms: float


def key(name: str, problem: Problem, a: Sequence[Any], b: Sequence[Any], dtype: Any) -> str | None:
    """Give the name of a map of a problem: stable text, the same in every process; None where a size is symbolic.

    Args:
        a, b: the shapes of the two operands, in standard form.
        dtype: that which both have.
    """
    if not all(isinstance(size, int) for size in (*a, *b)):
        return None
    facts = {"map": name, **asdict(problem), "operands": [tuple(a), tuple(b)], "dtype": jnp.dtype(dtype).name}
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


# -- what this process knows: read once for each platform, so that the choice stays what it was

_known: dict[str, dict[str, Winner]] = {}


def winners(platform: str | None) -> Mapping[str, Winner]:
    """Give what is remembered for a platform of this machine, by :func:`key`; warn once where a file is ignored."""
    backend = _backend(platform)
    if backend is None:
        return {}
    if backend not in _known:
        found, complaint = _read(backend)
        if _known.setdefault(backend, found) is found and complaint:
            warnings.warn(f"{complaint}; it is ignored", stacklevel=2)
    return _known[backend]


def renew() -> None:
    """Read the file anew at the next need, and compile anew: what was compiled before follows the old choice."""
    _known.clear()
    jax.clear_caches()


# -- files


def path(platform: str) -> Path | None:
    """Give the file of a platform of this machine, which may not exist; None where there shall be none."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    about = _about(_backend(platform))
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # unset, empty, or what the standard says to ignore
        with contextlib.suppress(RuntimeError):  # a process without a home
            cache = Path.home() / ".cache"
    if about is None or not cache.is_absolute():
        return None
    device = re.sub(r"[^A-Za-z0-9.]+", "-", about["device"]).strip("-")
    return cache / "jaxconv" / f"tuned-{about['platform']}-{device}-jax{about['jax']}.json"


def remember(found: Mapping[str, Winner], platform: str) -> Path:
    """Add winners to the file of a platform, which is replaced as a whole or stays as it is.

    Raises:
        ValueError: the memory is off, or is a file that was named and is not of this machine.
        OSError: the file cannot be written.
    """
    file, held = writable(platform)
    held |= found
    entries = {name: held[name]._asdict() for name in sorted(held)}
    _replace(file, json.dumps({**(_about(_backend(platform)) or {}), "entries": entries}, indent=1) + "\n")
    return file


def writable(platform: str) -> tuple[Path, dict[str, Winner]]:
    """Give the file that winners go to, and what it holds. Raises ValueError as :func:`remember` does."""
    file = path(platform)
    if file is None:
        why = f"{VARIABLE} is empty" if VARIABLE in os.environ else "there is no folder for caches"
        raise ValueError(f"nothing can be remembered: {why}; name a file, {VARIABLE}=tuned.json")
    held, complaint = _read(_backend(platform) or "")
    if complaint and VARIABLE in os.environ:  # somebody's file, and perhaps no cache at all
        raise ValueError(f"{VARIABLE}: {complaint}; name another file, or remove this one")
    return file, held


def forget(platform: str) -> int:
    """Remove the file of a platform and give the number of winners it held. Raises ValueError as ``remember`` does."""
    file, held = writable(platform)
    file.unlink(missing_ok=True)
    return len(held)


def _read(backend: str) -> tuple[dict[str, Winner], str | None]:
    """Give the winners in the file of a platform, and what is wrong with the file, if anything."""
    file = path(backend)
    about = None if file is None else _about(backend)
    if file is None or about is None:
        return {}, None
    try:
        held = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}, None
    except OSError as error:
        return {}, f"{file} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError):
        return {}, f"{file} is damaged: it is no JSON"
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        return {}, f"{file} is no file of tuned lowerings"
    for name, value in about.items():
        if held.get(name) != value:
            return {}, f"{file} was measured elsewhere: its {name} is {held.get(name)!r}, this one is {value!r}"
    try:
        return {name: _winner(entry) for name, entry in held["entries"].items()}, None
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}, f"{file} is damaged: an entry is no measurement"


def _winner(entry: Any) -> Winner:
    winner = Winner(**entry)
    for name, kind in Winner.__annotations__.items():
        value = getattr(winner, name)
        if not isinstance(value, kind) or (kind is float and not 0 <= value < float("inf")):
            raise ValueError(name)
    return winner


def _replace(file: Path, text: str) -> None:
    """Write a file that takes the place of another only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


# -- devices


def _about(backend: str | None) -> dict[str, Any] | None:
    """Give what a measurement holds for: the device and the JAX; None where this machine has no such device."""
    device = None if backend is None else _device(backend)
    if device is None:
        return None
    return {"format": FORMAT, "version": VERSION, "platform": backend, "device": device, "jax": jax.__version__}


def _backend(platform: str | None) -> str | None:
    """Give one name for a platform: JAX lowers for "cuda" or "rocm" what it calls "gpu" elsewhere."""
    return "gpu" if platform in ("cuda", "rocm") else platform


@functools.cache
def _device(backend: str) -> str | None:
    """Name the kind of device; JAX calls every processor "cpu", so that one is named by its model and cores."""
    if backend == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"{_processor()}, {cores} cores"
    try:
        return jax.local_devices(backend=backend)[0].device_kind
    except RuntimeError:  # lowered here for a device elsewhere
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return host.processor() or host.machine()
