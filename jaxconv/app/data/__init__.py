"""Data sources: functions that return a training and a test set. Their arguments are the keys of ``[data]``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxconv.app.data import adding_problem, csv, digits, npy, npz, solids, ucr
from jaxconv.app.data.arrays import Splits
from jaxconv.app.schema import FilePath, Location, read_arguments
from jaxconv.registry import nearest

__all__ = ["Splits", "load", "read_table", "sources"]

_SOURCES = (adding_problem.adding_problem, csv.csv, digits.digits, npy.npy, npz.npz, solids.solids, ucr.ucr)
sources: dict[str, Callable[..., Splits]] = {source.__name__: source for source in _SOURCES}


def read_table(table: Mapping[str, Any], location: Location) -> dict[str, Any]:
    """Check a ``[data]`` table, fill in its defaults, and find files next to the config. Raises ConfigError."""
    if "source" not in table:
        raise location.missing("source", nearest("", sources))
    name = table["source"]
    if not isinstance(name, str) or name not in sources:
        hint = " (csv reads a table of text)" if name in ("tsv", "txt") else ""
        raise location.error("source", name, f"there is no such source; {nearest(str(name), sources)}{hint}")
    given = {key: value for key, value in table.items() if key != "source"}
    arguments = read_arguments(given, sources[name], location, allowed=["source"])
    for key, value in arguments.items():
        if isinstance(value, FilePath) and (near := Path(location.file).parent / value).is_file():
            arguments[key] = str(near)
    return {"source": name, **arguments}


def load(config: Mapping[str, Any]) -> Splits:
    """Load the data of a ``[data]`` table: ``source``, and the keyword arguments of that source.

    Paths are relative to the current folder. Raises ValueError, which names the key; ImportError for a missing package.

    >>> load({"source": "ucr", "name": "ItalyPowerDemand"}).x_train.shape
    (67, 24, 1)
    """
    arguments = read_table(config, Location("", "data"))
    return sources[arguments.pop("source")](**arguments)
