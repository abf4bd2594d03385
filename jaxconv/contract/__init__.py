"""The interface of all layers: ``Layer``, ``Apply``, windows, masks, symbolic inputs, dtype policies.

The packages models, files, training, inspect, tuning, app and cli must not import jaxconv.layers; they use this one.
"""

from jaxconv.contract.apply import Apply, Effects, Params, as_layer, merge
from jaxconv.contract.graph import Call, Graph
from jaxconv.contract.layer import Layer
from jaxconv.contract.registered import layers
from jaxconv.contract.shapes import LEAF, Shape, as_shape, as_shapes, shape_of
from jaxconv.contract.symbolic import Input, Node, SymbolicTensor, as_lists
from jaxconv.contract.weights import Weight, param_shapes
from jaxconv.registry import register
from jaxconv.windows import MIXED, POINTWISE, Window, whole

__all__ = [
    "LEAF",
    "MIXED",
    "POINTWISE",
    "Apply",
    "Call",
    "Effects",
    "Graph",
    "Input",
    "Layer",
    "Node",
    "Params",
    "Shape",
    "SymbolicTensor",
    "Weight",
    "Window",
    "as_layer",
    "as_lists",
    "as_shape",
    "as_shapes",
    "layers",
    "merge",
    "param_shapes",
    "register",
    "shape_of",
    "whole",
]
