"""Context for error messages, the caller's line for warnings, and the error for a package that is not installed."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def explain(place: str) -> Iterator[None]:
    """Prefix the message of a ValueError or TypeError with the location of the error.

    >>> with explain("conv1d, given shape (2, 3)"):
    ...     raise ValueError("too short")
    Traceback (most recent call last):
    ValueError: conv1d, given shape (2, 3): too short
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise  # a subclass may need more arguments than a message
        raise type(error)(f"{place}: {error}") from error


def caller_level() -> int:
    """Return the ``stacklevel`` of a warning that names the line outside of jaxconv and JAX that called it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("jaxconv", "jax"):
        frame, level = frame.f_back, level + 1
    return level


def require(module: str, user: str, package: str = "") -> Any:
    """Import a module for its user. Raises ImportError with the command that installs its package.

    >>> require("no_such_module", "this example", package="no-such-package")
    Traceback (most recent call last):
    ImportError: this example needs no-such-package; install it with: pip install no-such-package
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = package or module
        raise ImportError(f"{user} needs {package}; install it with: pip install {package}") from None
