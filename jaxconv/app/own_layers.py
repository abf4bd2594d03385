"""Import of Python files with the user's own layers, which register themselves.

A file is imported only if the user names it: in a config that is given on the command line, or with --import. A file
that a run folder or a model file names is never imported.
"""

import functools
import hashlib
import importlib.util
import sys
from pathlib import Path

from jaxconv.app.schema import ConfigError


def import_file(path: Path) -> None:
    """Import a Python file, which can import modules next to it; again only if it has changed. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a Python file with layers") from None
    _import(path.resolve(), hashlib.sha256(content).hexdigest())


@functools.cache
def _import(path: Path, digest: str) -> None:
    loaded = getattr(sys.modules.get(path.stem), "__file__", None)
    if loaded and Path(loaded).is_file() and hashlib.sha256(Path(loaded).read_bytes()).hexdigest() == digest:
        return  # the program that calls the command line has already imported it
    name = f"jaxconv_import_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
