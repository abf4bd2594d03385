"""Look inside models: attribution, receptive fields, curvature and pictures.

Works through the contract and through JAX's own transformations; knows no particular layer.
"""

from jaxconv.inspect import plot
from jaxconv.inspect.activation_maps import class_activation
from jaxconv.inspect.observing import Observed, observe

__all__ = ["Observed", "class_activation", "observe", "plot"]
