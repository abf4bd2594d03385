"""Data sources: functions that return a training and a test set. Their arguments are the keys of ``[data]``.

Knows the table of sources and how a config names them. Each source is in its own file.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxconv.app.data import adding_problem, digits, npy, npz, solids, ucr
from jaxconv.app.data.splits import Splits
from jaxconv.app.schema import Mismatch, convert_value, parameters
from jaxconv.registry import nearest

__all__ = ["Splits", "load", "sources"]

_SOURCES = (adding_problem.adding_problem, digits.digits, npy.npy, npz.npz, solids.solids, ucr.ucr)
sources: dict[str, Callable[..., Splits]] = {source.__name__: source for source in _SOURCES}


def load(config: Mapping[str, Any]) -> Splits:
    """Load the data of a ``[data]`` table: ``source``, and the keyword arguments of that source.

    Args:
        config: ``{"source": "ucr", "name": "GunPoint"}``. Paths are relative to the current directory.

    Raises:
        ValueError: a key is unknown or missing, or a value has the wrong type or is refused by the source. The message
            starts with the key: ``data.name: aeon has no data set 'Gunpoint'; did you mean 'GunPoint'?``
        ImportError: the source needs a package that is not installed.

    >>> load({"source": "ucr", "name": "ItalyPowerDemand"}).x_train.shape
    (67, 24, 1)
    """
    arguments = dict(config)
    if "source" not in arguments:
        raise ValueError(f"data.source is missing; legal: {', '.join(sources)}")
    source = arguments.pop("source")
    if not isinstance(source, str) or source not in sources:
        raise ValueError(f"data.source: unknown source {source!r}; {nearest(str(source), sources)}")
    legal = parameters(sources[source])
    for key, value in arguments.items():
        if key not in legal:
            raise ValueError(
                f"data.{key}: source {source!r} has no such key (its value is {value!r}); "
                f"{nearest(key, ['source', *legal])}"
            )
        try:
            arguments[key] = convert_value(value, legal[key].annotation)
        except Mismatch as mismatch:
            raise ValueError(f"data.{key}: {mismatch}, got {value!r}") from None
    for key, parameter in legal.items():
        if key not in arguments and parameter.default is parameter.empty:
            raise ValueError(f"data.{key} is missing; source {source!r} needs it")
    return sources[source](**arguments)
