"""Layers made of layers: Sequential, Model (any graph), and the combinators Parallel and Residual."""

from jaxconv.models.combinators import Parallel, Residual
from jaxconv.models.graph import Model
from jaxconv.models.sequential import Sequential

__all__ = ["Model", "Parallel", "Residual", "Sequential"]
