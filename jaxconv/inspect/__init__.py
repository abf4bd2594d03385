"""Look inside models: attribution, receptive fields, curvature and pictures.

Works through the contract and through JAX's own transformations; knows no particular layer.
"""

from jaxconv.inspect import plot
from jaxconv.inspect.activation_maps import class_activation
from jaxconv.inspect.curvature import Curvature, curvature
from jaxconv.inspect.linear_maps import Spectrum, singular_values, spectrum
from jaxconv.inspect.observing import Observed, observe

__all__ = [
    "Curvature",
    "Observed",
    "Spectrum",
    "class_activation",
    "curvature",
    "observe",
    "plot",
    "singular_values",
    "spectrum",
]
