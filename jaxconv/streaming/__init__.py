"""Models that run step by step: the outputs of the whole sequence, computed as the input arrives.

Knows layers by their windows, and by a table by type where the mathematics needs it (operations.py, choice.py).
"""

from jaxconv.streaming.stream import Stream, stream

__all__ = ["Stream", "stream"]
