"""Matching of error messages by the facts in them (names, numbers), regardless of the other words."""

import re


def facts(*parts):
    """Return a regular expression for a message that contains each of the parts, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(str(part))})" for part in parts)
