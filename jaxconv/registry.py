"""Names of things: a table from names to functions or classes, and back to Keras's config form.

Knows nothing of what it stores. The error for an unknown name is made here, once, with the nearest legal name.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def snake_case(name: str) -> str:
    """Give the snake_case form that Keras uses for a class name: ``MaxPooling1D`` -> ``max_pooling1d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def nearest(word: str, options: Iterable[str]) -> str:
    """Give the tail of an error message: the option closest to ``word`` and, where they are few, all of them.

    Of two spellings of one name, ``MaxNorm`` and ``max_norm``, the list holds the one in the style of ``word``.
    """
    options = sorted(options)
    lower = [option.lower() for option in options]
    begun = sorted((option for option in lower if word and option.startswith(word.lower())), key=len)
    close = begun or difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    twins = [option for option in options if close and option.lower() == close[0]]  # "Conv1D" and "conv1d"
    twins.sort(key=lambda option: difflib.SequenceMatcher(None, word, option).ratio())
    hint = f"did you mean {twins[-1]!r}? " if twins else ""
    twice = {option: snake_case(option) for option in options if option != snake_case(option) in options}
    left_out = twice.keys() if word == word.lower() else set(twice.values())
    options = [option for option in options if option not in left_out]
    shown = ", ".join(options) if len(options) <= 60 else f"{', '.join(options[:60])}, ..."
    return f"{hint}legal: {shown}"


def plain(value: Any) -> Any:
    """Give a config value in the form that JSON keeps: tuples become lists, numpy numbers become Python's."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


class Registry:
    """A table of functions or frozen dataclasses that can be named in four ways.

    ``get`` accepts a name, a config dict ``{"class_name": ..., "config": {...}}``, a class, or any callable, and gives
    the function or the instance; ``None`` stays ``None``. ``serialize`` is the way back, in the form Keras 3 writes.

    Args:
        kind: what the entries are, for messages: ``"initializer"``.
        module: the Keras module that its config dicts name: ``"keras.initializers"``.
    """

    def __init__(self, kind: str, module: str):
        self.kind, self.module = kind, module
        self._entries: dict[str, Any] = {}
        self._own: dict[str, str] = {}  # entry's own name -> the name that a config records

    def register(self, *aliases: str, own: bool = True) -> Callable[[Any], Any]:
        """Decorate a function or class: enter it under its name, its snake_case form and ``aliases``.

        ``own=False`` enters the aliases alone (for names that stand for something else's variant).
        """

        def enter(entry: Any) -> Any:
            names = {entry.__name__, snake_case(entry.__name__)} if own else set()
            for name in names | set(aliases):
                if self._entries.setdefault(name, entry) is not entry:
                    raise ValueError(f"{self.kind} name {name!r} is taken by {self._entries[name]!r}")
            self._own[entry.__name__] = entry.__name__
            return entry

        return enter

    def names(self) -> list[str]:
        """List every legal name, aliases included."""
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            raise ValueError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def get(self, identifier: Any) -> Any:
        """Resolve a name, config dict, class, instance or callable; ValueError or TypeError for anything else."""
        if isinstance(identifier, str):
            identifier = self[identifier]
        if isinstance(identifier, Mapping):
            return self._from_config(identifier)
        if isinstance(identifier, type):
            identifier = identifier()
        if identifier is None or callable(identifier):
            return identifier
        raise TypeError(
            f"cannot read {identifier!r} as {self.kind}; give a name, a callable, an instance or a config dict"
        )

    def _from_config(self, config: Mapping[str, Any]) -> Any:
        if not isinstance(config.get("class_name"), str):
            raise ValueError(f"{self.kind} config {dict(config)!r} has no 'class_name'")
        name = config["class_name"]
        if name == "function":  # Keras's form of a bare function: the name stands in "config"
            return self.get(config.get("config"))
        entry = self[name]
        arguments = config.get("config") or {}
        if not isinstance(entry, type):
            return entry
        if hasattr(entry, "from_config"):
            return entry.from_config(arguments)
        legal = [field.name for field in dataclasses.fields(entry) if field.init]
        for key in arguments:
            if key not in legal:
                raise ValueError(f"{name} has no argument {key!r}; {nearest(key, legal)}")
        return entry(**arguments)

    def serialize(self, entry: Any) -> Any:
        """Give the JSON form: ``None``, a bare name for a function, Keras's dict for an instance.

        Raises ValueError for a callable that is not in the table: a config could not name it.
        """
        if entry is None:
            return None
        if isinstance(entry, type) or not hasattr(entry, "get_config"):
            name = getattr(entry, "__name__", "")
            if self._entries.get(name) is not entry:
                raise ValueError(
                    f"{self.kind} {entry!r} cannot be written to a config because it has no registered name; "
                    f"register it, or use one of: {', '.join(self.names())}"
                )
            return name
        return {
            "module": getattr(entry, "keras_module", self.module),
            "class_name": type(entry).__name__,
            "config": plain(entry.get_config()),
            "registered_name": None,
        }
