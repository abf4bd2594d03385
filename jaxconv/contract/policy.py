"""Dtype policies: the types of a layer's weights and of its computation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.dtypes import promote
from jaxconv.registry import nearest

# name -> (type of the weights, type of the computation and of the result)
POLICIES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "mixed_float16": ("float32", "float16"),
    "mixed_bfloat16": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class Policy:
    """A pair of types: ``variable`` for weights, ``compute`` for input, arithmetic and output."""

    name: str
    variable: Any
    compute: Any

    @property
    def penalty(self) -> Any:
        """Return the type in which penalties are summed: that of the weights, at least float32."""
        return promote(self.variable, jnp.float32)

    def require(self, where: str) -> None:
        """Raise ValueError if this policy needs float64 and JAX would silently compute in float32."""
        if self.name == "float64" and not jax.config.read("jax_enable_x64"):
            what = f"{where}: dtype 'float64' needs 64-bit types, which are disabled in JAX"
            raise ValueError(f"{what}; call jax.config.update('jax_enable_x64', True) first")


def policy_name(dtype: Any, where: str) -> str | None:
    """Return the canonical name of a policy from a name, a dtype or Keras's config dict; None stays None.

    Raises ValueError for an unknown name, or a type that a layer cannot compute in (integers, complex).
    """
    if isinstance(dtype, Mapping):
        dtype = (dtype.get("config") or {}).get("name")
    if dtype is None:
        return None
    if not isinstance(dtype, str):
        try:
            dtype = jnp.dtype(dtype).name
        except TypeError:
            dtype = getattr(dtype, "name", repr(dtype))
    if dtype not in POLICIES:
        raise ValueError(f"{where}: unknown dtype policy {dtype!r}; {nearest(dtype, POLICIES)}")
    return dtype


def policy(name: str | None) -> Policy:
    """Return the policy of a canonical name; ``None`` means float32."""
    name = name or "float32"
    variable, compute = POLICIES[name]
    return Policy(name, jnp.dtype(variable), jnp.dtype(compute))
