"""Support for the three primitives in transformations of JAX other than ``jit``, ``grad`` and ``vmap``.

* ``jax.checkpoint``: the policy :func:`convs_saveable`.
* ``jax.experimental.jet``: a rule is registered here; the import takes 1 ms.
* ``jax.experimental.checkify``: its table of NaN checks is private to JAX. A NaN that a convolution makes is reported
  by the next operation, such as the addition of a bias.
* ``jax.experimental.sparse``: its table is private too. Only dense arrays are convolved.
* ``jax.experimental.roofline``: it needs the package absl, and skips our primitives with a warning.
  ``explain_lowering`` counts operations and bytes.

The last three work with ``jax.lax.conv_general_dilated``.
"""

import functools
from typing import Any

import jax
from jax import Array
from jax.experimental import jet
from jax.extend.core import Primitive

from jaxconv.kernels.maps import PRIMITIVES


def convs_saveable(prim: Primitive, *avals: Any, **params: Any) -> bool:
    """Save the results of convolutions and matrix products: a policy for ``jax.checkpoint``.

    It saves what ``jax.checkpoint_policies.dots_saveable`` saves, and the results of this package's convolutions, which
    that policy recomputes.

    Source: https://docs.jax.dev/en/latest/gradient-checkpointing.html

    >>> x, w = jnp.ones((1, 8, 2)), jnp.ones((3, 2, 4))
    >>> layer = jax.checkpoint(lambda w: jnp.sum(jnp.sin(jaxconv.conv1d(x, w))), policy=jaxconv.convs_saveable)
    >>> jax.grad(layer)(w).shape
    (3, 2, 4)
    """
    return prim in PRIMITIVES.values() or bool(jax.checkpoint_policies.dots_saveable(prim, *avals, **params))


def _taylor_rule(primitive: Primitive, primals: Any, series: Any, **params: Any) -> tuple[Array, list[Array]]:
    """Return the Taylor coefficients of a bilinear map of two series, by the product rule."""
    a, b = ([primal, *terms] for primal, terms in zip(primals, series, strict=True))
    first, *rest = (sum(primitive.bind(a[j], b[k - j], **params) for j in range(k + 1)) for k in range(len(a)))
    return first, rest


jet.jet_rules.update({primitive: functools.partial(_taylor_rule, primitive) for primitive in PRIMITIVES.values()})
