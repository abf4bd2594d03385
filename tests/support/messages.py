"""Messages of errors, matched by the facts in them (names, numbers), whatever the prose around them."""

import re


def facts(*parts):
    """Return a regular expression for a message that contains each of the parts, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(str(part))})" for part in parts)
