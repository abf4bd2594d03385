"""Inspection of models: attribution, receptive fields, curvature and pictures.

Must not import a layer: models are inspected through the contract and JAX's transformations.
"""

from jaxconv.inspect import plot
from jaxconv.inspect.activation_maps import class_activation
from jaxconv.inspect.attribution import Attribution, attribute
from jaxconv.inspect.communication import Communication, communication
from jaxconv.inspect.compiled import Collective, collectives
from jaxconv.inspect.curvature import Curvature, curvature
from jaxconv.inspect.linear_maps import Spectrum, singular_values, spectrum
from jaxconv.inspect.maximizing import Maximized, maximize
from jaxconv.inspect.observing import Observed, observe
from jaxconv.inspect.occlusion import mutations, occlusion
from jaxconv.inspect.receptive_fields import ReceptiveField, receptive_field

__all__ = [
    "Attribution",
    "Collective",
    "Communication",
    "Curvature",
    "Maximized",
    "Observed",
    "ReceptiveField",
    "Spectrum",
    "attribute",
    "class_activation",
    "collectives",
    "communication",
    "curvature",
    "maximize",
    "mutations",
    "observe",
    "occlusion",
    "plot",
    "receptive_field",
    "singular_values",
    "spectrum",
]
