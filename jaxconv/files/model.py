"""What a model file says about itself: its layer, the shape of its input, and what was kept with it.

Knows the kinds of files by ``loading`` alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxconv.files.input_shapes import input_shape_of
from jaxconv.files.keras.archive import read_archive
from jaxconv.files.loading import read_model


def model_info(path: str | os.PathLike[str], until: str | None = None) -> dict[str, Any]:
    """Read a model file, of jaxconv's or of Keras's, for what it says about itself.

    Returns:
        ``"layer"`` (the layer), ``"input_shape"`` (a tuple with batch first, a structure of them for several inputs, or
        None where it is not known), ``"about"`` (as given to :func:`jaxconv.save_model`; empty in Keras's files);
        ``"params"``, ``"format"``, ``"version"`` and ``"notes"`` as ``jaxconv.files.loading.read_model`` gives them.

    Raises:
        FileError: as :func:`jaxconv.load_model`.

    >>> import tempfile
    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", jaxconv.Dense(2), params, about={"classes": ["a", "b"]})
    ...     model_info(f"{folder}/m.keras")["about"]
    {'classes': ['a', 'b']}
    """
    read = read_model(path, until=until)
    own = _own(Path(path))
    about, shape = own.get("about"), own.get("input_shape")
    return read._asdict() | {
        "input_shape": _shape(shape) if isinstance(shape, list | dict) else input_shape_of(read.layer),
        "about": about if isinstance(about, dict) else {},
    }


def _own(path: Path) -> dict[str, Any]:
    """Give what jaxconv put into the metadata of an archive; nothing for other files."""
    with open(path, "rb") as handle:
        if handle.read(2) != b"PK":
            return {}
        own = read_archive(path, handle).metadata.get("jaxconv")
    return own if isinstance(own, dict) else {}


def _shape(told: Any) -> Any:
    """Give shapes as tuples from what JSON kept."""
    if isinstance(told, Mapping):
        return {key: _shape(one) for key, one in told.items()}
    return [_shape(one) for one in told] if any(isinstance(one, list | dict) for one in told) else tuple(told)
