"""Communication between the processes of one command, and checks that they do the same."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxconv.app.config import Config
from jaxconv.app.data import Splits
from jaxconv.app.schema import ConfigError, format_value

_MOST_BYTES = 2**26  # the largest array whose checksum includes all rows; larger ones use evenly spaced rows


def is_first() -> bool:
    """Return whether this process writes the files."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Return the plain values of all processes, in order. All processes must call it."""
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(json.dumps(value, default=str).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(content))).ravel()
    row = np.zeros(int(sizes.max()), np.uint8)
    row[: len(content)] = content
    rows = multihost_utils.process_allgather(row).reshape(len(sizes), -1)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def check_equal(facts: Mapping[str, Any], remedy: str, places: Mapping[str, Any] | None = None) -> None:
    """Check that all processes, which must all call it, have the same facts: plain values by name.

    Raises ConfigError in all processes, with the first fact that differs, its source (in ``places``) and the remedy.
    """
    plain = json.loads(json.dumps([dict(facts), {name: str(place) for name, place in (places or {}).items()}]))
    (first, first_places), *others = gather(plain)
    for number, (other, other_places) in enumerate(others, 1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                ours, theirs = _fact(first, first_places, name), _fact(other, other_places, name)
                raise ConfigError(f"{name} is {theirs} in process {number} and {ours} in process 0; {remedy}")


def _fact(facts: Mapping[str, Any], places: Mapping[str, str], name: str) -> str:
    value = facts.get(name, "missing")
    text = value if isinstance(value, str) else format_value(value)
    return f"{text} ({places[name]})" if name in places else text


def check_run(config: Config, splits: Splits, checkpoint: Path | None = None) -> None:
    """Check that config, data, files and checkpoint of a run are the same in all processes. Raises ConfigError."""
    if jax.process_count() == 1:
        return
    tree = config.tree()
    paths = {key: value for key, value in tree["data"].items() if isinstance(value, str) and Path(value).is_file()}
    keyed = jax.tree_util.tree_leaves_with_path(tree)
    settings = {jax.tree_util.keystr(path, simple=True, separator="."): value for path, value in keyed}
    check_equal(
        {name: value for name, value in settings.items() if name.removeprefix("data.") not in paths},
        "start all with the same config and the same --set",
    )
    facts, places = {}, {}
    for name in ("x_train", "y_train", "x_test", "y_test"):
        label = f"data.{name}" if name in paths else f"{name} of data.path" if "path" in paths else name
        facts[label] = _describe(getattr(splits, name))
        if file := paths.get(name, paths.get("path")):
            places[label] = file
    check_equal(facts, "give all the same data", places)
    files = [config.module, None if config.pretrained is None else config.pretrained.file, checkpoint]
    check_files({path.name: path for path in files if path is not None})


def check_files(paths: Mapping[str, Path], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Check that files and arrays are the same in all processes. Raises ConfigError as :func:`check_equal`."""
    if jax.process_count() > 1:
        facts = {name: _describe_file(path) for name, path in paths.items()}
        facts |= {name: _describe(array) for name, array in (arrays or {}).items()}
        check_equal(facts, "give all the same files", paths)


def _describe(array: np.ndarray) -> str:
    """Return the dtype, shape and checksum of an array as text."""
    rows = array if array.nbytes <= _MOST_BYTES else array[:: -(-array.nbytes // _MOST_BYTES)]
    checksum = zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data)
    return f"{array.dtype} of shape {array.shape} with checksum {checksum:08x}"


def _describe_file(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with open(path, "rb") as handle:
        checksum = hashlib.file_digest(handle, "sha256").hexdigest()[:8]
    return f"{path.stat().st_size} bytes with checksum {checksum}"
