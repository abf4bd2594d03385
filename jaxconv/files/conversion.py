"""One model file into another: any that can be read, into Keras 3's format or params alone.

Knows the kinds of files by their readers and writers.
"""

import os
from pathlib import Path

import jax

from jaxconv.files.errors import FileError
from jaxconv.files.keras.writing import save_model
from jaxconv.files.model import model_info
from jaxconv.files.safetensors import save_params


def convert(
    old: str | os.PathLike[str], new: str | os.PathLike[str], *, until: str | None = None, force: bool = False
) -> list[str]:
    """Read a model file and write it anew, and give the lines to print: what was written, and what was unusual.

    Args:
        old: the file to read.
        new: the file to write: ``.keras``, or ``.safetensors`` for the params alone.
        until: the last layer to read; see :func:`jaxconv.load_model`.
        force: whether a file that is there is written over.

    Raises:
        FileError: a file that cannot be read or written; ``new`` is there already, or has another ending.

    >>> convert("old.h5", "new.txt")
    Traceback (most recent call last):
    jaxconv.files.errors.FileError: new.txt: what to write is told by the ending; give one of .keras, .safetensors
    """
    ending = Path(new).suffix
    if ending not in (".keras", ".safetensors"):
        raise FileError(f"{new}: what to write is told by the ending; give one of .keras, .safetensors")
    refuse_to_replace(old, new, force)
    held = model_info(old, until)
    if ending == ".keras":
        shape = held["input_shape"]
        save_model(new, held["layer"], held["params"], input_shape=shape, about=held["about"])
    else:
        save_params(new, held["params"])
    count = sum(leaf.size for leaf in jax.tree.leaves(held["params"]))
    version = f", Keras {held['version']}" if held["version"] else ""
    what = "the model with its" if ending == ".keras" else "its"
    return [
        f"{old} ({held['format']}{version}): {what} {count:,} parameters in {new}",
        *(f"note: {note}" for note in held["notes"]),
    ]


def refuse_to_replace(old: str | os.PathLike[str], new: str | os.PathLike[str], force: bool) -> None:
    """Raise FileError where a file would be written over that the user did not say to write over."""
    if Path(new).is_dir():
        raise FileError(f"{new} is a folder; give the name of a file")
    if Path(new).exists() and Path(new).resolve() == Path(old).resolve():
        raise FileError(f"{new} is the file to read; give another name")
    if Path(new).exists() and not force:
        raise FileError(f"{new} is there already; give another name, or --force to write over it")
