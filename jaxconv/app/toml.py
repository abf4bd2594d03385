"""Reading and writing of TOML, and settings of the command line, regardless of the meaning of the keys."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.app.schema import ConfigError, entries, format_value
from jaxconv.registry import nearest

_MAX_BYTES, _MAX_LEVELS = 1 << 20, 50
_TEXT = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?|#[^\n]*', re.DOTALL)
_TOO_DEEP = f"tables and lists are nested too deeply; expected at most {_MAX_LEVELS} levels"


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError if the file is missing or is not TOML."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; a config file is expected (to continue a run, use --resume {path})")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a regular file; a config file is expected")
    if not path.is_file():
        near = path.parent.glob("*.toml") if path.parent.is_dir() else path.parent.parent.glob(f"*/{path.name}")
        others = [str(entry) for entry in near]
        hint = nearest(str(path), others) if others else "expected a .toml file"
        raise ConfigError(f"{path}: no such config file; {hint}")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; expected at most {_MAX_BYTES:,} for a config")
    try:
        return _loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        raise ConfigError(f"{path}: not a TOML file: {byte}, which is not UTF-8; save it as text in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: {_TOO_DEEP}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def _loads(text: str) -> dict[str, Any]:
    """Parse TOML. Raises RecursionError for long dotted keys, in whose length tomllib's time is quadratic."""
    outside = re.sub(r"[\w\- \t]+", "", _TEXT.sub("", text))  # without strings, comments and words
    if "." * _MAX_LEVELS in outside:
        raise RecursionError
    return tomllib.loads(text)


def check_limits(tree: Mapping[str, Any], file: str) -> None:
    """Check the depth of tables and lists, and TOML's range of integers. Raises ConfigError."""
    remaining: list[tuple[str, int, Any]] = [("", 0, tree)]
    while remaining:
        path, depth, value = remaining.pop()
        if depth > _MAX_LEVELS:
            raise ConfigError(f"{file}: {path[:80]}...: {_TOO_DEEP}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(f"{file}: {path} = {format_value(value)}: expected integers of 64 bits, as in TOML")
        remaining += [(f"{path}.{key}" if path else str(key), depth + 1, entry) for key, entry in entries(value)]


def override(tree: dict[str, Any], settings: Sequence[str]) -> None:
    """Apply settings such as ``"train.epochs=50"`` to a config, in place. Raises ConfigError.

    The value is read as TOML (``50``, ``1e-3``, ``true``, ``"text"``, ``[1, 2]``, ``{name = "sgd"}``); if it is not
    TOML, it is a string. List entries are addressed by index: ``model.layers.0.filters=64``. Missing tables are added.

    >>> tree = {"train": {"epochs": 9}}
    >>> override(tree, ["train.epochs=50", "data.name=GunPoint"]); tree
    {'train': {'epochs': 50}, 'data': {'name': 'GunPoint'}}
    """
    for setting in settings:
        dotted, equals, text = setting.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {setting[:80]}: expected KEY=VALUE, such as train.epochs=50")
        here: Any = tree
        for i, key in enumerate(keys):
            place = _place(here, key, keys[:i], setting)
            if i == len(keys) - 1:
                here[place] = _parse(text)
                break
            if isinstance(here, dict):
                if isinstance(here.get(key), str):  # "adam" is {name = "adam"}, and a table can have more keys
                    here[key] = {"name": here[key]}
                here.setdefault(key, {})
            here = here[place]


def _place(here: Any, key: str, above: Sequence[str], setting: str) -> Any:
    """Return a key of a table, or the index of an entry of a list. Raises ConfigError."""
    if isinstance(here, dict):
        return key
    where = f"--set {setting[:80]}: {'.'.join(above)}"
    if not isinstance(here, list):
        raise ConfigError(f"{where} is {format_value(here)}; expected a table")
    if key.isdecimal() and len(key) < 10 and int(key) < len(here):
        return int(key)
    raise ConfigError(f"{where} is a list; expected 0 to {len(here) - 1}, not {key[:40]!r}")


def _parse(text: str) -> Any:
    text = text.strip()
    try:
        parsed = _loads(f"value = {text}")
    except RecursionError:
        raise ConfigError(f"--set ...={text[:40]}...: {_TOO_DEEP}") from None
    except ValueError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def dumps(tree: Mapping[str, Any]) -> str:
    """Return a config as TOML: a section for each table, ``[[...]]`` for each entry of a list of tables.

    Every other value is on one line. (The usual writers use one line per list entry, which is hard to read for the
    sizes of a kernel.)

    >>> print(dumps({"name": "a", "model": {"layers": [{"layer": "Conv1D", "kernel_size": [3]}]}}))
    name = "a"
    <BLANKLINE>
    [[model.layers]]
    layer = "Conv1D"
    kernel_size = [3]
    <BLANKLINE>
    """
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in tree.items() if not isinstance(value, Mapping)]
    for section, table in tree.items():
        if not isinstance(table, Mapping):
            continue
        plain = {key: value for key, value in table.items() if not _is_tables(value)}
        if plain or not table:
            lines += ["", f"[{_key(section)}]", *(f"{_key(key)} = {_inline(value)}" for key, value in plain.items())]
        for key in [key for key in table if key not in plain]:
            for entry in table[key]:
                lines += ["", f"[[{_key(section)}.{_key(key)}]]"]
                lines += [f"{_key(name)} = {_inline(value)}" for name, value in entry.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_inline(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(item) for item in value)}]"
    raise TypeError(f"a config cannot contain {value!r}; expected strings, numbers, booleans, lists and tables")
