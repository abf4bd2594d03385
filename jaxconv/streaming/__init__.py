"""Streaming: the outputs of a model for a whole sequence, computed step by step as the input arrives.

Uses the windows of layers, and their types only where the mathematics requires it (operation.py, choice.py).
"""

from jaxconv.streaming.stream import Stream, stream

__all__ = ["Stream", "stream"]
