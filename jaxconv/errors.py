"""Where an error happened, put in front of what it says. Knows no layers."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def explain(place: str) -> Iterator[None]:
    """Put a place in front of the message of a ValueError or TypeError: the one door for error context.

    >>> with explain("conv1d, given shape (2, 3)"):
    ...     raise ValueError("too short")
    Traceback (most recent call last):
    ValueError: conv1d, given shape (2, 3): too short
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):
            raise  # a subclass may not be made from a message alone
        raise type(error)(f"{place}: {error}") from error
