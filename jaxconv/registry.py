"""Registries, which map names to functions or classes and back to Keras's config form.

The error for an unknown name, with the closest valid name, is created only here.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T", bound=type)


def snake_case(name: str) -> str:
    """Return Keras's snake_case form of a class name: ``MaxPooling1D`` -> ``max_pooling1d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def nearest(word: Any, options: Iterable[str]) -> str:
    """Return the end of an error message: the option closest to ``word``, then the list of valid options.

    If an option exists in two spellings, ``MaxNorm`` and ``max_norm``, the list shows the one in the style of ``word``.
    """
    word, options = str(word), sorted(options)
    lower = [option.lower() for option in options]
    begins = sorted((option for option in lower if word and option.startswith(word.lower())), key=len)
    completions = begins or [option for option in lower if word.lower() in option.split("_")]  # "size": "pool_size"
    cutoff = 0.65 if len(word) > 3 else 0.5  # one letter of "l2" is half of it
    close = completions or difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)
    spellings = [option for option in options if close and option.lower() == close[0]]  # "Conv1D" and "conv1d"
    spellings.sort(key=lambda option: difflib.SequenceMatcher(None, word, option).ratio())
    hint = f"did you mean {spellings[-1]!r}? " if spellings else ""
    aliases = {option: snake_case(option) for option in options if option != snake_case(option) in options}
    omitted = aliases.keys() if word == word.lower() else set(aliases.values())
    options = [option for option in options if option not in omitted]
    shown = ", ".join(options) if len(options) <= 60 else f"{', '.join(options[:60])}, ..."
    return f"{hint}expected {shown or 'none'}"


def plain(value: Any) -> Any:
    """Convert a config value to JSON types: tuples become lists, numpy numbers become Python numbers."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


class Entry:
    """Base class of the classes in a registry: frozen dataclasses, whose fields are their config."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that construct an equal object."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def _set(self, **values: Any) -> None:
        """Set fields while the object is being built."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


class Registry:
    """A registry of functions or frozen dataclasses.

    ``get`` accepts a name, a config dict ``{"class_name": ..., "config": {...}}``, a class, or any callable, and
    returns the function or the instance; ``None`` stays ``None``. ``serialize`` is the inverse, in Keras 3's form.

    Args:
        kind: the kind of the entries, for error messages: ``"initializer"``.
        module: the Keras module that the config dicts name: ``"keras.initializers"``.
    """

    def __init__(self, kind: str, module: str):
        self.kind, self.module = kind, module
        self._entries: dict[str, Any] = {}

    def register(self, *aliases: str, own: bool = True) -> Callable[[Any], Any]:
        """Return a decorator that registers a function or class under its name, its snake_case form and ``aliases``.

        With ``own=False`` only the aliases are registered.
        """

        def enter(entry: Any) -> Any:
            names = {entry.__name__, snake_case(entry.__name__)} if own else set()
            for name in names | set(aliases):
                old = self._entries.get(name, entry)
                if (old.__module__, old.__qualname__) != (entry.__module__, entry.__qualname__):
                    raise ValueError(f"{self.kind} name {name!r} is already registered for {old!r}; give another name")
            self._entries |= dict.fromkeys(names | set(aliases), entry)  # again if a notebook cell runs twice
            return entry

        return enter

    def names(self) -> list[str]:
        """Return all valid names, including aliases."""
        return sorted(self._entries)

    def attribute(self, name: str) -> Any:
        """Return the entry with this name. As a module's ``__getattr__``, it provides names such as ``l2``.

        Raises AttributeError for an unknown name.
        """
        if name in self._entries:
            return self._entries[name]
        hint = "" if name.startswith("__") else f"; {nearest(name, self._entries)}"
        raise AttributeError(f"there is no {self.kind} {name!r}{hint}")

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            raise ValueError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def get(self, identifier: Any) -> Any:
        """Resolve a name, config dict, class, instance or callable.

        Raises ValueError for an unknown name or argument, TypeError for another kind of value.
        """
        if isinstance(identifier, str):
            identifier = self[identifier]
        if isinstance(identifier, Mapping):
            return self._from_config(identifier)
        if isinstance(identifier, type):
            identifier = identifier()
        if identifier is None or callable(identifier):
            return identifier
        raise TypeError(f"cannot read {identifier!r} as {self.kind}; give a name, callable, instance or config dict")

    def _from_config(self, config: Mapping[str, Any]) -> Any:
        if not isinstance(config.get("class_name"), str):
            form = "{'class_name': ..., 'config': {...}}"
            raise ValueError(f"{self.kind} config {dict(config)!r} has no 'class_name'; give {form}")
        name = config["class_name"]
        if name == "function":  # Keras's form of a function: "config" is its name
            return self.get(config.get("config"))
        entry = self[name]
        arguments = config.get("config") or {}
        if not isinstance(entry, type):
            return entry
        if hasattr(entry, "from_config"):
            return entry.from_config(arguments)
        allowed = [field.name for field in dataclasses.fields(entry) if field.init]
        for key in arguments:
            if key not in allowed:
                raise ValueError(f"{name} has no argument {key!r}; {nearest(key, allowed)}")
        return entry(**arguments)

    def serialize(self, entry: Any) -> Any:
        """Return the JSON form: ``None``, the name of a function, Keras's dict for an instance.

        Raises ValueError for a function that is not registered.
        """
        if entry is None:
            return None
        if isinstance(entry, type) or not hasattr(entry, "get_config"):
            name = getattr(entry, "__name__", "")
            if self._entries.get(name) is not entry:
                reason = f"{self.kind} {entry!r} cannot be written to a config because it has no registered name"
                raise ValueError(f"{reason}; register it, or use one of: {', '.join(self.names())}")
            return name
        kind = {"module": getattr(entry, "keras_module", self.module), "class_name": type(entry).__name__}
        return {**kind, "config": plain(entry.get_config()), "registered_name": None}


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def register(registry: Registry, *aliases: str) -> Callable[[T], T]:
    """Return a decorator that makes a class a frozen dataclass and registers it, as :meth:`Registry.register` does.

    Args:
        registry: the registry, such as ``jaxconv.contract.layers``.
        aliases: further names for the class.

    Raises:
        ValueError: when the decorator is applied, for a name that another class has.

    >>> things = Registry("thing", "keras.things")
    >>> @register(things, "plus")
    ... class Add:
    ...     amount: int = 1
    >>> things["plus"](2), things["add"]()
    (Add(amount=2), Add(amount=1))
    """
    return lambda cls: registry.register(*aliases)(dataclasses.dataclass(frozen=True)(cls))
