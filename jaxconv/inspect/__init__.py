"""Look inside models: attribution, receptive fields, curvature and pictures.

Works through the contract and through JAX's own transformations; knows no particular layer.
"""

from jaxconv.inspect import plot

__all__ = ["plot"]
