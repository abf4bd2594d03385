"""What a layer may say of itself at inference, so that an optimizer need not know what it computes.

Every method has a default that says nothing. Arithmetic here is numpy's in float64: it happens once, outside of jit.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

Array = np.ndarray
Params = dict[str, Any]


class Affine(NamedTuple):
    """``scale * x + shift`` along one axis: (channels,) each, in float64."""

    axis: int
    scale: Array
    shift: Array


class AtInference:
    """The part of the contract that :func:`jaxconv.serving.optimize` works with."""

    def at_inference(self, params: Params) -> tuple[Any, Params]:
        """Give (layer, params) that compute the same at inference with less; (None, {}) where nothing is done then."""
        return self, params

    def as_affine(self, params: Params) -> Affine | None:
        """Give what this layer computes at inference, if that is a scale and a shift of each channel."""
        return None

    def absorb_after(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        """Give (layer, params) that compute ``affine(layer(x))``; None where this layer cannot."""
        return None

    def absorb_before(self, params: Params, affine: Affine) -> tuple[Self, Params] | None:
        """Give (layer, params) that compute ``layer(affine(x))``; None where this layer cannot."""
        return None


def wide(params: Mapping[str, Any]) -> dict[str, Array]:
    """Give the leaves in float64."""
    return {leaf: np.asarray(value).astype(np.float64) for leaf, value in params.items()}


def cast(leaves: Mapping[str, Array], like: Mapping[str, Any]) -> Params:
    """Give the leaves as JAX's arrays in the types of ``like``; a new one in that of the first."""
    first = next(iter(like.values()))
    return {leaf: jnp.asarray(value.astype(like.get(leaf, first).dtype)) for leaf, value in leaves.items()}
