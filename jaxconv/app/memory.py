"""The memory of this machine. Knows nothing about what needs it."""

import math
import os


def machine_memory() -> float:
    """Return the memory of this machine in bytes; infinity if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf
