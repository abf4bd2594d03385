"""Layers that contain layers: Sequential, Model (any graph), the combinators Parallel and Residual; and ``remat``.

Must not import a layer.
"""

from jaxconv.models.combinators import Parallel, Residual
from jaxconv.models.graph import Model
from jaxconv.models.remat import remat
from jaxconv.models.sequential import Sequential

__all__ = ["Model", "Parallel", "Residual", "Sequential", "remat"]
