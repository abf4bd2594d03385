"""Data sources: functions that give a training and a test set. Their arguments are the keys of a config's ``[data]``.

Knows the table of sources and how a config names them; what a source reads or generates is its own file's business.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxconv.app.data import adding_problem, digits, npy, npz, solids, ucr
from jaxconv.app.data.splits import Splits
from jaxconv.app.schema import Mismatch, fit_value, parameters
from jaxconv.registry import nearest

__all__ = ["Splits", "load", "sources"]

sources: dict[str, Callable[..., Splits]] = {
    "adding_problem": adding_problem.adding_problem,
    "digits": digits.digits,
    "npy": npy.npy,
    "npz": npz.npz,
    "solids": solids.solids,
    "ucr": ucr.ucr,
}


def load(config: Mapping[str, Any]) -> Splits:
    """Load the data that a config's ``[data]`` table names: ``source``, and the keyword arguments of that source.

    Args:
        config: ``{"source": "ucr", "name": "GunPoint"}``. Relative paths start at the current directory.

    Raises:
        ValueError: a key is unknown or missing, a value has the wrong type or means nothing to the source. The message
            starts with the key: ``data.name: no set 'Gunpoint' ships with aeon; did you mean 'GunPoint'?``
        ImportError: the source needs a package that is not installed.

    >>> load({"source": "ucr", "name": "ItalyPowerDemand"}).x_train.shape
    (67, 24, 1)
    """
    arguments = dict(config)
    if "source" not in arguments:
        raise ValueError(f"data.source: the key is missing; legal: {', '.join(sources)}")
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
            arguments[key] = fit_value(value, legal[key].annotation)
        except Mismatch as mismatch:
            raise ValueError(f"data.{key}: {mismatch}, got {value!r}") from None
    for key, parameter in legal.items():
        if key not in arguments and parameter.default is parameter.empty:
            raise ValueError(f"data.{key}: the key is missing; source {source!r} needs it")
    return sources[source](**arguments)
