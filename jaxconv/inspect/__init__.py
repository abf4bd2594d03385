"""Models looked at from outside: how large each layer is, and how far it sees.

Knows layers by their contract alone; it computes no output.
"""

from jaxconv.inspect.survey import Row, survey

__all__ = ["Row", "survey"]
