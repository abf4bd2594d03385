"""Layers made of layers: Sequential, Model (any graph), and the combinators Parallel and Residual; ``remat``."""

from jaxconv.models.combinators import Parallel, Residual
from jaxconv.models.graph import Model
from jaxconv.models.remat import remat
from jaxconv.models.sequential import Sequential

__all__ = ["Model", "Parallel", "Residual", "Sequential", "remat"]
