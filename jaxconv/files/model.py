"""What a model file says about itself. Knows the kinds of files by ``loading`` alone."""

import os
from typing import Any

from jaxconv.files.loading import read_model


def model_info(path: str | os.PathLike[str], until: str | None = None) -> dict[str, Any]:
    """Return the fields of ``jaxconv.files.keras.model.Read`` for a model file. Raises FileError.

    >>> import tempfile
    >>> params, _ = jaxconv.Dense(2).init(jax.random.key(0), (None, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxconv.save_model(f"{folder}/m.keras", jaxconv.Dense(2), params, about={"classes": ["a", "b"]})
    ...     model_info(f"{folder}/m.keras")["about"]
    {'classes': ['a', 'b']}
    """
    return read_model(path, until=until)._asdict()
