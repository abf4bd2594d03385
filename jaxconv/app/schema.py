"""What a TOML table may hold: the keyword arguments of a function or dataclass, checked before anything runs.

Knows annotations and dotted keys; it does not know what is trained, and imports neither jax nor numpy.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from jaxconv.registry import nearest


class ConfigError(ValueError):
    """A mistake in a config file or on the command line; the message is one line and names the place."""


class Place(typing.NamedTuple):
    """A place in a config: the file's name and the dotted path to a table.

    >>> print(Place("run.toml", "train").error("epochs", "ten", "expected an integer"))
    run.toml: train.epochs = "ten": expected an integer
    """

    file: str
    path: str = ""

    def __truediv__(self, key: str | int) -> "Place":
        """Give the place of the entry ``key`` inside this table."""
        return Place(self.file, f"{self.path}.{key}" if self.path else str(key))

    def error(self, key: str | int | None, value: Any, message: str) -> ConfigError:
        """Make the one-line error for the entry ``key`` (``None``: this place itself) that holds ``value``."""
        where = (self if key is None else self / key).path
        return ConfigError(one_line(f"{self.file}: {where} = {shown(value)}: {message}"))

    def blame(self, key: str | int, value: Any, message: str) -> ConfigError:
        """Make the error for ``key``, or for the one entry inside its table or list that the message speaks of.

        >>> print(Place("run.toml", "train").blame("optimizer", {"name": "adamm", "b1": 0.9}, "unknown 'adamm'"))
        run.toml: train.optimizer.name = "adamm": unknown 'adamm'
        """
        entries = (
            value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        meant = [(inner, item) for inner, item in entries if _speaks_of(message, inner, item)]
        if len(meant) == 1:
            return (self / key).blame(*meant[0], message)
        return self.error(key, value, message)

    def missing(self, key: str, message: str) -> ConfigError:
        """Make the one-line error for a key that has to be there."""
        return ConfigError(one_line(f"{self.file}: {(self / key).path} is missing: {message}"))


def _speaks_of(message: str, key: str | int, value: Any) -> bool:
    """Say whether a message holds this key as a word, or this string, or something inside this table, in quotes."""
    if isinstance(value, Mapping):
        return any(_speaks_of(message, inner, item) for inner, item in value.items())
    named = isinstance(key, str) and re.search(rf"(?<!\w){re.escape(key)}(?!\w)", message.partition(";")[0])
    return bool(named) or (isinstance(value, str) and repr(value) in message)


def one_line(text: object) -> str:
    """Fold a message into one line."""
    return " ".join(str(text).split())


def shown(value: Any, limit: int = 80) -> str:
    """Write a value as TOML would, cut to ``limit`` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Mismatch(ValueError):
    """A value that does not fit an annotation; the message says what would."""


def describe(annotation: Any) -> str:
    """Say in words what an annotation admits: ``int`` is "an integer"."""
    words: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        str: "a string",
        bool: "true or false",
        Path: "a path",
    }
    if annotation in words:
        return words[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(shown(option) for option in arguments)
    if origin in (Union, types.UnionType):
        options = dict.fromkeys(describe(a) for a in arguments if a is not type(None))
        return " or ".join(options)
    if _is_list(annotation, origin):
        inside = arguments[0] if arguments else Any
        return "a list" if inside is Any else f"a list (of {describe(inside)})"
    return "a table" if _is_table(annotation, origin) else "a value"


def fit_value(value: Any, annotation: Any) -> Any:
    """Give ``value`` in the form the annotation asks for; raise Mismatch where it does not fit.

    An integer is a legal float; a boolean is neither; a list fits a tuple.
    """
    if annotation is Any or annotation is inspect.Parameter.empty:
        return value
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        if value in arguments and type(value) in {type(option) for option in arguments}:
            return value
        raise Mismatch(
            nearest(value, [str(option) for option in arguments]) if isinstance(value, str) else describe(annotation)
        )
    if origin in (Union, types.UnionType):
        return _fit_union(value, annotation, arguments)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation in (int, float, str, bool):
        if type(value) is annotation:
            return value
    elif annotation is Path:
        if isinstance(value, str):
            return Path(value)
    elif _is_list(annotation, origin):
        if isinstance(value, list | tuple):
            inside = arguments[0] if arguments else Any
            items = [fit_value(item, inside) for item in value]
            return items if origin is list or annotation is list else tuple(items)
    elif _is_table(annotation, origin):
        if isinstance(value, Mapping):
            return dict(value)
    else:
        return value
    raise Mismatch(f"expected {describe(annotation)}")


def _fit_union(value: Any, annotation: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arguments:
        return None
    mismatches = []
    for option in arguments:
        if option is type(None):
            continue
        try:
            return fit_value(value, option)
        except Mismatch as mismatch:
            mismatches.append(mismatch)
    if len(mismatches) == 1:
        raise mismatches[0]
    raise Mismatch(f"expected {describe(annotation)}")


def _is_list(annotation: Any, origin: Any) -> bool:
    kind = origin or annotation
    return isinstance(kind, type) and kind is not str and issubclass(kind, Sequence)


def _is_table(annotation: Any, origin: Any) -> bool:
    kind = origin or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """List the named arguments of a function or dataclass, with their annotations resolved."""
    target = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(target)
    except (NameError, TypeError):  # an annotation that only a type checker can read
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in named
    }


def fit_table(table: Any, function: Callable[..., Any], place: Place, legal: Sequence[str] = ()) -> dict[str, Any]:
    """Check a table against the arguments of ``function`` and give the arguments, defaults filled in.

    Args:
        table: what the config holds at ``place``.
        function: its named arguments are the legal keys; an argument without default is a required key.
        place: where the table stands, for messages.
        legal: further keys that the caller handles; they are left out of the result.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.

    >>> def ucr(*, name: str, size: int = 3): ...
    >>> fit_table({"name": "GunPoint"}, ucr, Place("run.toml", "data"))
    {'name': 'GunPoint', 'size': 3}
    """
    if not isinstance(table, Mapping):
        raise place.error(None, table, "expected a table")
    known = parameters(function)
    for key, value in table.items():
        if key not in known and key not in legal:
            raise place.error(key, value, f"unknown key; {nearest(key, [*known, *legal])}")
    arguments: dict[str, Any] = {}
    for key, parameter in known.items():
        if key in table:
            try:
                arguments[key] = fit_value(table[key], parameter.annotation)
            except Mismatch as mismatch:
                raise place.error(key, table[key], str(mismatch)) from None
        elif parameter.default is inspect.Parameter.empty:
            raise place.missing(key, f"expected {describe(parameter.annotation)}")
        else:
            arguments[key] = parameter.default
    return arguments
