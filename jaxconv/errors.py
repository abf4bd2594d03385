"""Context for error messages. Independent of layers."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def explain(place: str) -> Iterator[None]:
    """Prefix the message of a ValueError or TypeError with the place where it occurred.

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
