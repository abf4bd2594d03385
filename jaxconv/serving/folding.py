"""Rules by layer type for folding at inference: a layer may do nothing, scale and shift, or absorb a scale and shift.

The arithmetic is numpy's in float64: it is done once, outside of jit. A layer type that no table names is not changed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxconv.contract import Layer, Params
from jaxconv.layers.activation import Activation, ActivityRegularization, Identity
from jaxconv.layers.activation_axis import is_linear
from jaxconv.layers.conv import BaseConv
from jaxconv.layers.conv_transpose import BaseConvTranspose
from jaxconv.layers.convolving import Convolving
from jaxconv.layers.dense import Dense
from jaxconv.layers.depthwise import BaseDepthwiseConv, BaseSeparableConv
from jaxconv.layers.dropout import Noise
from jaxconv.layers.normalization import BatchNormalization
from jaxconv.layers.reparametrization import Reparametrization
from jaxconv.layers.time_distributed import TimeDistributed

Leaves = dict[str, np.ndarray]
Folded = tuple[Any, Params]


class Affine(NamedTuple):
    """``scale * x + shift`` along one axis: (channels,) each, in float64."""

    axis: int
    scale: np.ndarray
    shift: np.ndarray


def simplified(layer: Layer, params: Params) -> Folded:
    """Return (layer, params) that compute the same at inference with less work, or (None, {}) for nothing."""
    if isinstance(layer, Noise | ActivityRegularization | Identity):
        return None, {}
    if isinstance(layer, Activation) and is_linear(layer.activation):
        return None, {}
    if isinstance(layer, Reparametrization):
        inside, leaf = params["layer"], layer.leaf
        kernel = layer.kernel(params, train=False)[0].astype(inside[leaf].dtype)
        return dataclasses.replace(layer.layer, name=layer.name), {**inside, leaf: kernel}
    if isinstance(layer, TimeDistributed):
        inside, own = simplified(layer.layer, params.get("layer", {}))
        return (None, {}) if inside is None else _around(layer, inside, own)
    return layer, params


def as_affine(layer: Layer, params: Params) -> Affine | None:
    """Return the scale and shift that a layer applies to each channel at inference, or None for others."""
    if isinstance(layer, BatchNormalization):
        own = _float64(params)
        scale = own.get("gamma", 1.0) / np.sqrt(own["moving_variance"] + layer.epsilon)
        return Affine(layer.axis, scale, own.get("beta", 0.0) - scale * own["moving_mean"])
    if isinstance(layer, TimeDistributed):
        found = as_affine(layer.layer, params.get("layer", {}))
        return found and found._replace(axis=found.axis + (found.axis > 0))
    return None


def fold_output_affine(layer: Layer, params: Params, affine: Affine) -> Folded | None:
    """Return (layer, params) that compute ``affine(layer(x))``, or None if this layer cannot."""
    if isinstance(layer, TimeDistributed):
        return _inside(fold_output_affine, layer, params, affine)
    rule = _rule(layer)
    if rule is None or not is_linear(layer.activation) or not _along_channels(layer, affine.axis):  # type: ignore[attr-defined]
        return None
    own = _float64(params)
    bias = affine.scale * own.get("bias", np.zeros(1)) + affine.shift
    return _with(layer, {**rule.scale_outputs(layer, own, affine.scale), "bias": bias}, params)


def fold_input_affine(layer: Layer, params: Params, affine: Affine) -> Folded | None:
    """Return (layer, params) that compute ``layer(affine(x))``, or None if this layer cannot."""
    if isinstance(layer, TimeDistributed):
        return _inside(fold_input_affine, layer, params, affine)
    rule = _rule(layer)
    if rule is None or not _along_channels(layer, affine.axis) or (affine.shift.any() and not _shiftable(layer)):
        return None
    own = _float64(params)
    kernels, added = rule.scale_inputs(layer, own, affine.scale, affine.shift)
    return _with(layer, {**kernels, "bias": own.get("bias", np.zeros(1)) + added}, params)


# -- the table


class Rule(NamedTuple):
    """Functions that fold a scale of each channel into the kernels of a layer type.

    scale_outputs: (layer, leaves, scale) -> kernels that multiply each output channel by ``scale``.
    scale_inputs: (layer, leaves, scale, shift) -> (kernels for the unscaled input, what ``shift`` adds to each output).
    """

    scale_outputs: Callable[[Any, Leaves, np.ndarray], Leaves]
    scale_inputs: Callable[[Any, Leaves, np.ndarray, np.ndarray], tuple[Leaves, np.ndarray]]


def _conv_inputs(layer: Any, own: Leaves, scale: np.ndarray, shift: np.ndarray) -> tuple[Leaves, np.ndarray]:
    each = layer.filters // layer.groups
    scale, shift = (one.reshape(layer.groups, -1).T.repeat(each, 1) for one in (scale, shift))  # (inputs, filters)
    added = (own["kernel"] * shift).sum(tuple(range(layer.rank + 1)))
    return {"kernel": own["kernel"] * scale}, added


def _depthwise_inputs(layer: Any, own: Leaves, scale: np.ndarray, shift: np.ndarray) -> tuple[Leaves, np.ndarray]:
    added = (own["kernel"] * shift[:, None]).sum(tuple(range(layer.rank))).ravel()
    return {"kernel": own["kernel"] * scale[:, None]}, added


def _separable_inputs(layer: Any, own: Leaves, scale: np.ndarray, shift: np.ndarray) -> tuple[Leaves, np.ndarray]:
    depthwise, pointwise = own["depthwise_kernel"], own["pointwise_kernel"]
    added = (depthwise * shift[:, None]).sum(tuple(range(layer.rank))).ravel()
    return own | {"depthwise_kernel": depthwise * scale[:, None]}, added @ pointwise.reshape(-1, layer.filters)


def _transpose_outputs(layer: Any, own: Leaves, scale: np.ndarray) -> Leaves:
    each = own["kernel"].shape[-1] // layer.groups
    return {"kernel": own["kernel"] * scale.reshape(layer.groups, -1).T.repeat(each, 1)}


RULES: dict[type, Rule] = {
    Dense: Rule(
        lambda layer, own, scale: {"kernel": own["kernel"] * scale},
        lambda layer, own, scale, shift: ({"kernel": scale[:, None] * own["kernel"]}, shift @ own["kernel"]),
    ),
    BaseConv: Rule(lambda layer, own, scale: {"kernel": own["kernel"] * scale}, _conv_inputs),
    BaseDepthwiseConv: Rule(
        lambda layer, own, scale: {"kernel": own["kernel"] * scale.reshape(-1, layer.depth_multiplier)},
        _depthwise_inputs,
    ),
    BaseSeparableConv: Rule(
        lambda layer, own, scale: own | {"pointwise_kernel": own["pointwise_kernel"] * scale}, _separable_inputs
    ),
    BaseConvTranspose: Rule(
        _transpose_outputs,
        lambda layer, own, scale, shift: ({"kernel": own["kernel"] * scale}, np.zeros(layer.filters)),
    ),
}


def _rule(layer: Layer) -> Rule | None:
    return next((RULES[cls] for cls in type(layer).__mro__ if cls in RULES), None)


def _along_channels(layer: Any, axis: int) -> bool:
    if not isinstance(layer, Convolving):
        return axis == -1
    return axis % (layer.rank + 2) == (layer.rank + 1 if layer.data_format == "channels_last" else 1)


def _shiftable(layer: Any) -> bool:
    """Return whether a shift of the input adds the same to every output: no zeros are padded, nothing is cut off."""
    if not isinstance(layer, Convolving):
        return True
    if isinstance(layer, BaseConvTranspose):
        return False
    return layer.padding_mode != "zeros" or all(window.pads() == (0, 0) for window in layer.spatial_windows())


def _with(layer: Any, leaves: Leaves, like: Mapping[str, Any]) -> Folded:
    """Return the layer with a bias, and the leaves in the types of ``like``; a new leaf has that of the first one."""
    first = next(iter(like.values()))
    cast = {leaf: jnp.asarray(value.astype(like.get(leaf, first).dtype)) for leaf, value in leaves.items()}
    return dataclasses.replace(layer, use_bias=True), cast


def _around(layer: TimeDistributed, inside: Any, own: Params) -> Folded:
    return dataclasses.replace(layer, layer=inside), {"layer": own} if own else {}


def _inside(fold: Callable, layer: TimeDistributed, params: Params, affine: Affine) -> Folded | None:
    if affine.axis in (0, 1):
        return None  # a scale of each step
    found = fold(layer.layer, params.get("layer", {}), affine._replace(axis=affine.axis - (affine.axis > 0)))
    return found and _around(layer, *found)


def _float64(params: Mapping[str, Any]) -> Leaves:
    return {leaf: np.asarray(value).astype(np.float64) for leaf, value in params.items()}
