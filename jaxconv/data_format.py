"""Where the channels are: the two data formats, and the default that a Keras config file may set.

The file is read at the first use, never at import, and never written.
"""

import json
import os
from pathlib import Path
from typing import Any

from jaxconv.registry import nearest

FORMATS = ("channels_last", "channels_first")
_default: str | None = None


def canonical(data_format: Any, where: str = "data_format") -> str:
    """Give ``"channels_last"`` or ``"channels_first"`` in lower case; ``None`` means :func:`image_data_format`.

    Raises:
        ValueError: for anything else (``"NHWC"`` included).
    """
    if data_format is None:
        return image_data_format()
    if not isinstance(data_format, str) or data_format.lower() not in FORMATS:
        raise ValueError(f"{where}: unknown data_format {data_format!r}; {nearest(str(data_format), FORMATS)}")
    return data_format.lower()


def image_data_format() -> str:
    """Give the data format that ``data_format=None`` stands for.

    Read once, at first use, from ``$KERAS_HOME/keras.json`` or ``~/.keras/keras.json``; ``"channels_last"`` where there
    is no such file. Raises ValueError where the file is there but cannot be understood.

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
        raise ValueError(
            f"{where}: input of shape {shape} has rank {len(shape)}; "
            f"this layer needs rank {rank + 2}: (batch, {', '.join(names)})"
        )


def set_image_data_format(data_format: str) -> None:
    """Set what ``data_format=None`` stands for from now on, in this process. Layers already built keep theirs.

    >>> set_image_data_format("channels_last")
    """
    global _default
    if data_format is None:
        raise ValueError(f"set_image_data_format: got None; legal: {', '.join(FORMATS)}")
    _default = canonical(data_format, "set_image_data_format")


def _read_keras_json() -> str:
    home = os.environ.get("KERAS_HOME")
    path = Path(home) / "keras.json" if home else Path("~/.keras/keras.json").expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return FORMATS[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; mend or remove it") from None
    try:
        content = json.loads(text)
        value = content.get("image_data_format", FORMATS[0])
    except (ValueError, AttributeError):
        raise ValueError(f"{path} does not hold a JSON object; mend or remove it") from None
    if value not in FORMATS:
        raise ValueError(f"{path}: unknown image_data_format {value!r}; {nearest(str(value), FORMATS)}")
    return value
