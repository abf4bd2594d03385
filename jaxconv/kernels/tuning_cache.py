"""The cache of measured winners: files in the user's cache folder, one for each device and version of JAX and jaxconv.

It does not check whether a winner can compute its map; :mod:`.choice` does.
"""

import contextlib
import functools
import json
import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxconv.errors import caller_level
from jaxconv.kernels import processor
from jaxconv.kernels.choice import NO_WINNERS, Winner, Winners
from jaxconv.version import __version__

FORMAT, VERSION = "jaxconv tuned lowerings", 1
_MAX_BYTES = 2**22  # a winner takes 300 bytes
VARIABLE = "JAXCONV_TUNED"  # names another file; an empty value turns the cache off


# -- the winners that this process has read, once for each platform, so that the choice does not change while it runs

_loaded: dict[str, dict[str, Winner]] = {}


def winners(platform: str | None) -> Winners:
    """Return the winners measured on a platform of this machine, by key; warn once about a file that is ignored."""
    backend = _backend(platform)
    if backend is None:
        return NO_WINNERS
    if backend not in _loaded:
        found, complaint = _read(backend)
        if _loaded.setdefault(backend, found) is found and complaint:
            warnings.warn(f"{complaint}; it is ignored", stacklevel=caller_level())
    return _loaded[backend]


def reload() -> None:
    """Drop the winners, which are read again when needed, and the compiled programs, which use the old choice."""
    _loaded.clear()
    jax.clear_caches()


# -- files


def path(platform: str) -> Path | None:
    """Return the file of a platform of this machine, which may not exist, or None if the cache is off."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    expected = _header(_backend(platform))
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # unset, empty, or relative, which the standard says to ignore
        with contextlib.suppress(RuntimeError):  # a process without a home
            cache = Path.home() / ".cache"
    if expected is None or not cache.is_absolute():
        return None
    device = re.sub(r"[^A-Za-z0-9.]+", "-", expected["device"]).strip("-")
    versions = f"jax{expected['jax']}-jaxconv{expected['jaxconv']}"
    return cache / "jaxconv" / f"tuned-{expected['platform']}-{device}-{versions}.json"


def remember(found: Mapping[str, Winner], platform: str) -> Path:
    """Add winners to the file of a platform, which is replaced atomically.

    Raises:
        ValueError: if the cache is off, or if the file that the user named is not such a cache.
        OSError: if the file cannot be written.
    """
    file, stored = writable(platform)
    stored |= found
    entries = {name: stored[name]._asdict() for name in sorted(stored)}
    _replace(file, json.dumps({**(_header(_backend(platform)) or {}), "entries": entries}, indent=1) + "\n")
    return file


def writable(platform: str) -> tuple[Path, dict[str, Winner]]:
    """Return the file that winners are written to, and those in it. Raises ValueError as :func:`remember` does."""
    file = path(platform)
    if file is None:
        why = f"{VARIABLE} is empty" if VARIABLE in os.environ else "there is no folder for caches"
        raise ValueError(f"winners cannot be remembered: {why}; name a file, {VARIABLE}=tuned.json")
    stored, complaint = _read(_backend(platform) or "")
    if complaint and VARIABLE in os.environ:  # the user named it, and it may be any file
        raise ValueError(f"{VARIABLE}: {complaint}; name another file, or remove this one")
    return file, stored


def forget(platform: str) -> int:
    """Remove the file of a platform and return the number of winners in it. Raises ValueError as ``remember`` does."""
    file, stored = writable(platform)
    file.unlink(missing_ok=True)
    return len(stored)


def _read(backend: str) -> tuple[dict[str, Winner], str | None]:
    """Return the winners in the file of a platform, and a description of the file's error or None."""
    file = path(backend)
    expected = None if file is None else _header(backend)
    if file is None or expected is None:
        return {}, None
    try:
        if file.is_fifo() or (file.is_file() and file.stat().st_size > _MAX_BYTES):  # a pipe would block
            return {}, f"{file} is not a regular file of at most {_MAX_BYTES} bytes"
        stored = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}, None
    except OSError as error:
        return {}, f"{file} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError):
        return {}, f"{file} is damaged: it is not JSON"
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        return {}, f"{file} is not a file of tuned lowerings"
    for name, value in expected.items():
        if stored.get(name) != value:
            return {}, f"{file} was measured elsewhere: its {name} is {stored.get(name)!r}, the current is {value!r}"
    try:
        return {name: _winner(entry) for name, entry in stored["entries"].items()}, None
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}, f"{file} is damaged: an entry is not a measurement"


def _winner(entry: Any) -> Winner:
    winner = Winner(**entry)
    for name, kind in Winner.__annotations__.items():
        value = getattr(winner, name)
        if not isinstance(value, kind) or (kind is float and not 0 <= value < float("inf")):
            raise ValueError(name)
    return winner


def _replace(file: Path, text: str) -> None:
    """Write a temporary file, and rename it to ``file`` when it is complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


# -- devices


def _header(backend: str | None) -> dict[str, Any] | None:
    """Return the facts that measurements depend on, device and versions, or None if there is no such device."""
    device = None if backend is None else _device(backend)
    if device is None:
        return None
    versions = {"jax": jax.__version__, "jaxconv": __version__}
    return {"format": FORMAT, "version": VERSION, "platform": backend, "device": device, **versions}


def _backend(platform: str | None) -> str | None:
    """Return the name of JAX's backend: "gpu" for the platforms "cuda" and "rocm"."""
    return "gpu" if platform in ("cuda", "rocm") else platform


@functools.cache
def _device(backend: str) -> str | None:
    """Return the kind of device; for a processor, which JAX only calls "cpu", its model and number of cores."""
    if backend == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"{processor.model()}, {cores} cores"
    try:
        return jax.local_devices(backend=backend)[0].device_kind
    except RuntimeError:  # lowered here for a device of another machine
        return None
