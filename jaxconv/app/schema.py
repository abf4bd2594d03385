"""Checks of a TOML table against the keyword arguments of a function. Must not import jax or numpy."""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union

from jaxconv.registry import nearest


class ConfigError(ValueError):
    """Error for a mistake in a config file or on the command line. The message is one line and names the location."""

    def __init__(self, message: str):
        super().__init__(re.sub(r"\s*\n\s*", " ", message))


class FilePath(str):
    """The path of a file, as the annotation of an argument: in a config it may be relative to the config's folder."""


class Location(typing.NamedTuple):
    """A location in a config: the name of the file and the dotted path to a table.

    >>> print(Location("run.toml", "train").error("epochs", "ten", "expected an integer"))
    run.toml: train.epochs = "ten": expected an integer
    """

    file: str
    path: str = ""

    def __truediv__(self, key: str | int) -> "Location":
        """Return the location of the entry ``key`` in this table."""
        return Location(self.file, f"{self.path}.{key}" if self.path else str(key))

    def error(self, key: str | int | None, value: Any, message: str) -> ConfigError:
        """Return the error for ``value`` at the entry ``key`` (``None``: at this location)."""
        where = (self if key is None else self / key).path
        return self._error(f"{where} = {format_value(value)}: {message}")

    def nested_error(self, key: str | int, value: Any, message: str) -> ConfigError:
        """Return the error for ``key``, or for the one entry inside its table or list that the message mentions.

        >>> print(Location("run.toml", "train").nested_error("optimizer", {"name": "adm", "b1": 1}, "unknown 'adm'"))
        run.toml: train.optimizer.name = "adm": unknown 'adm'
        """
        mentioned = [(inner, item) for inner, item in entries(value) if _mentions(message, inner, item)]
        if len(mentioned) == 1:
            return (self / key).nested_error(*mentioned[0], message)
        return self.error(key, value, message)

    def missing(self, key: str, message: str) -> ConfigError:
        """Return the error for a missing key."""
        return self._error(f"{(self / key).path} is missing: {message}")

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.file}: {message}" if self.file else message)


def entries(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the entries of a table or list with their keys or indices; no entries for any other value."""
    return value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()


def _mentions(message: str, key: str | int, value: Any) -> bool:
    """Return whether a message contains this key as a word, this string in quotes, or an entry of this table."""
    if isinstance(value, Mapping):
        return any(_mentions(message, inner, item) for inner, item in value.items())
    named = isinstance(key, str) and re.search(rf"(?<!\w){re.escape(key)}(?!\w)", message.partition(";")[0])
    return bool(named) or (isinstance(value, str) and repr(value) in message)


def format_value(value: Any, limit: int = 80) -> str:
    """Return a value as in TOML, cut to ``limit`` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Mismatch(ValueError):
    """Error for a value that does not match an annotation. The message says what would match."""


def describe(annotation: Any) -> str:
    """Return a description of the values that an annotation accepts: "an integer" for ``int``."""
    words = {int: "an integer", float: "a number", str: "a string", bool: "true or false", FilePath: "a path"}
    if annotation in words:
        return words[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(format_value(option) for option in arguments)
    if origin in (Union, types.UnionType):
        options = dict.fromkeys(describe(a) for a in arguments if a is not type(None))
        return " or ".join(options)
    if _is_list(annotation, origin):
        inside = arguments[0] if arguments else Any
        return "a list" if inside is Any else f"a list (of {describe(inside)})"
    return "a table" if _is_table(annotation, origin) else "a value"


def convert_value(value: Any, annotation: Any) -> Any:
    """Convert ``value`` to the type of the annotation. Raises Mismatch if that is not possible.

    An integer is a valid float; a boolean is neither; a list is converted to a tuple.
    """
    if annotation is Any or annotation is inspect.Parameter.empty:
        return value
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        if value in arguments and type(value) in {type(option) for option in arguments}:
            return value
        raise Mismatch(nearest(value, map(str, arguments)) if isinstance(value, str) else describe(annotation))
    if origin in (Union, types.UnionType):
        return _convert_union(value, annotation, arguments)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation in (int, float, str, bool):
        if type(value) is annotation:
            return value
    elif annotation is FilePath:
        if isinstance(value, str):
            return FilePath(value)
    elif _is_list(annotation, origin):
        if isinstance(value, list | tuple):
            inside = arguments[0] if arguments else Any
            items = [convert_value(item, inside) for item in value]
            return items if origin is list or annotation is list else tuple(items)
    elif _is_table(annotation, origin):
        if isinstance(value, Mapping):
            return dict(value)
    else:
        return value
    raise Mismatch(f"expected {describe(annotation)}")


def _convert_union(value: Any, annotation: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arguments:
        return None
    mismatches = []
    for option in arguments:
        if option is type(None):
            continue
        try:
            return convert_value(value, option)
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
    """Return the named arguments of a function or dataclass, with their annotations resolved."""
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


def read_arguments(
    table: Any, function: Callable[..., Any], location: Location, allowed: Sequence[str] = (), user: str = "the table"
) -> dict[str, Any]:
    """Check a table against the arguments of ``function``, the valid keys, and return them with defaults.

    allowed: further keys, which the caller handles. user: the owner of the arguments, for messages. Raises ConfigError.

    >>> def ucr(*, name: str, size: int = 3): ...
    >>> read_arguments({"name": "GunPoint"}, ucr, Location("run.toml", "data"))
    {'name': 'GunPoint', 'size': 3}
    """
    if not isinstance(table, Mapping):
        raise location.error(None, table, "expected a table")
    accepted = parameters(function)
    for key, value in table.items():
        if key not in accepted and key not in allowed:
            raise location.error(key, value, f"unknown key of {user}; {nearest(key, [*accepted, *allowed])}")
    arguments: dict[str, Any] = {}
    for key, parameter in accepted.items():
        if key in table:
            try:
                arguments[key] = convert_value(table[key], parameter.annotation)
            except Mismatch as mismatch:
                raise location.error(key, table[key], str(mismatch)) from None
        elif parameter.default is inspect.Parameter.empty:
            raise location.missing(key, f"{user} needs {describe(parameter.annotation)}")
        else:
            arguments[key] = parameter.default
    return arguments
