"""The two data formats, and the default that Keras's config file sets.

The file is read at first use, never at import, and never written.
"""

import json
import os
from pathlib import Path
from typing import Any

from jaxconv.registry import nearest

FORMATS = ("channels_last", "channels_first")
_default: str | None = None


def canonical(data_format: Any, where: str = "data_format") -> str:
    """Return ``"channels_last"`` or ``"channels_first"``; ``None`` means :func:`image_data_format`.

    Raises ValueError for any other value, including ``"NHWC"``.
    """
    if data_format is None:
        return image_data_format()
    if not isinstance(data_format, str) or data_format.lower() not in FORMATS:
        raise ValueError(f"{where}: unknown data_format {data_format!r}; {nearest(str(data_format), FORMATS)}")
    return data_format.lower()


def image_data_format() -> str:
    """Return the data format that ``data_format=None`` means.

    It is read once, at first use, from ``$KERAS_HOME/keras.json`` or ``~/.keras/keras.json``, and is
    ``"channels_last"`` if the file does not exist. Raises ValueError if the file exists but is invalid.

    >>> image_data_format()
    'channels_last'
    """
    global _default
    if _default is None:
        _default = _read_keras_json()
    return _default


def check_rank(shape: tuple, rank: int, data_format: str, where: str) -> None:
    """Raise ValueError unless ``shape`` has a batch axis, ``rank`` spatial axes and channels."""
    if len(shape) != rank + 2:
        spatial = ("time",) if rank == 1 else ("depth", "rows", "columns")[-rank:]
        names = (*spatial, "channels") if data_format == "channels_last" else ("channels", *spatial)
        channels = "x[..., None]" if data_format == "channels_last" else "x[:, None]"
        hint = f"; {channels} adds an axis of channels, x[None] a batch" if len(shape) == rank + 1 else ""
        what = f"input of shape {shape} has rank {len(shape)}"
        raise ValueError(f"{where}: {what}; this layer needs rank {rank + 2}: (batch, {', '.join(names)}){hint}")


def set_image_data_format(data_format: str) -> None:
    """Set the data format that ``data_format=None`` means in this process. Existing layers keep theirs.

    >>> set_image_data_format("channels_last")
    """
    global _default
    if data_format is None:
        raise ValueError(f"set_image_data_format: got None; expected {', '.join(FORMATS)}")
    _default = canonical(data_format, "set_image_data_format")


_MAX_BYTES = 2**20  # of keras.json; Keras writes about a hundred


def _read_keras_json() -> str:
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    path = Path(home) / "keras.json"
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ValueError(f"{path} is a {'directory' if path.is_dir() else 'special file'}; a file is required")
        if path.exists() and (size := path.stat().st_size) > _MAX_BYTES:
            raise ValueError(f"{path} has {size} bytes; at most {_MAX_BYTES} are valid; repair or remove it")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return FORMATS[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; repair or remove it") from None
    try:
        value = json.loads(text).get("image_data_format", FORMATS[0])
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"{path} must contain a JSON object; repair or remove it") from None
    if value not in FORMATS:
        word = value[:40] if isinstance(value, str) else ""
        shown = repr(word) if word else f"of type {type(value).__name__}"
        raise ValueError(f"{path}: unknown image_data_format {shown}; {nearest(word, FORMATS)}")
    return value
