"""Keras's words for jaxconv's errors: its tests match fragments of them (``spec`` of the issue, section 15)."""

import contextlib
import re
from collections.abc import Iterator

# what jaxconv says, as a pattern -> the fragment that Keras says, with the groups of the match in it
WORDS: list[tuple[str, str]] = []


@contextlib.contextmanager
def keras_words() -> Iterator[None]:
    """Add Keras's fragment to the message of an error that means the same."""
    try:
        yield
    except (ValueError, TypeError) as error:
        said = str(error)
        for pattern, fragment in WORDS:
            match = re.search(pattern, said)
            if match:
                raise type(error)(f"{said} [{match.expand(fragment)}]") from error
        raise
