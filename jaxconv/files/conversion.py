"""Conversion of a model file to Keras 3's ``.keras`` format, or of its params to safetensors."""

import os
from pathlib import Path

import jax

from jaxconv.files.errors import FileError
from jaxconv.files.keras.writing import save_model
from jaxconv.files.loading import read_model
from jaxconv.files.outline import group_notes
from jaxconv.files.safetensors import save_params


def convert(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    until: str | None = None,
    force: bool = False,
) -> list[str]:
    """Read a model file, write it in another format, and return the lines to print. Raises FileError.

    new: ``.keras``, or ``.safetensors`` for only the params. weights: a file with the weights, for a model in JSON.
    until: the last layer to read; see :func:`jaxconv.load_model`. force: whether to overwrite an existing file.

    >>> convert("old.h5", "new.txt")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: new.txt: the suffix '.txt' is not valid; expected .keras, .safetensors
    """
    suffix = Path(new).suffix
    if suffix not in (".keras", ".safetensors"):
        raise FileError(f"{new}: the suffix {suffix!r} is not valid; expected .keras, .safetensors")
    for given in (old, weights or old):
        refuse_to_replace(given, new, force)
    read = read_model(old, until=until, weights=weights)
    if suffix == ".keras":
        save_model(new, read.layer, read.params, input_shape=read.input_shape, about=read.about)
    else:
        save_params(new, read.params)
    count = sum(leaf.size for leaf in jax.tree.leaves(read.params))
    version = f", Keras {read.version}" if read.version else ""
    what = "the model with its" if suffix == ".keras" else "its"
    both = f" and {weights}" if weights else ""
    return [
        f"{old}{both} ({read.format}{version}): {what} {count:,} parameters in {new}",
        *(f"note: {note}" for note in group_notes(read.notes)),
    ]


def refuse_to_replace(old: str | os.PathLike[str], new: str | os.PathLike[str], force: bool) -> None:
    """Check that ``new`` is neither a folder nor ``old``, and does not exist unless ``force``. Raises FileError."""
    if Path(new).is_dir():
        raise FileError(f"{new} is a folder; give the name of a file")
    if Path(new).exists() and Path(new).resolve() == Path(old).resolve():
        raise FileError(f"{new} is the file to read; give another name")
    if Path(new).exists() and not force:
        raise FileError(f"{new} exists already; give another name, or --force to overwrite it")
