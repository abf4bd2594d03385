"""The choice of a lowering: a pure function of (map, geometry, operands, platform).

One lowering exists so far, XLA's own; faster ones enter here and nowhere else.
"""

from collections.abc import Callable
from typing import Any

from jaxconv.geometry import Geometry
from jaxconv.kernels import xla

LOWERINGS: dict[str, dict[str, Callable[..., Any]]] = {
    "xla": {"convolve": xla.convolve, "transpose": xla.transpose, "correlate": xla.correlate},
}


def choose(name: str, geometry: Geometry, a: Any, b: Any, platform: str | None) -> Callable[..., Any]:
    """Give the function that computes map ``name`` for these operands (arrays or avals) on ``platform`` (None: any)."""
    return LOWERINGS["xla"][name]
