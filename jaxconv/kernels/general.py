"""``conv_general_dilated``: the signature and the meaning of ``jax.lax``'s, computed by the three maps."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxconv.geometry import Geometry, dilate
from jaxconv.kernels.maps import convolve

MAX_RANK = 3


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    *,
    lowering: str | None = None,
) -> jax.Array:
    """Convolve exactly as ``jax.lax.conv_general_dilated`` does; pass it wherever that one goes.

    The differences are how it is computed and differentiated, and the names of its primitives, which only a policy that
    selects those of ``jax.lax`` sees (``jaxconv.convs_saveable`` saves ours as well). What the three maps do not cover
    is passed to ``jax.lax``: more than three spatial axes or none, ``batch_group_count``, an explicit output sharding.
    ``jax.lax`` checks every call, so its own errors are raised.

    Args:
        lhs: input; its axes are named by ``dimension_numbers`` (default: batch, channels, \\*spatial).
        rhs: kernel (default: filters, channels of a group, \\*spatial). The other arguments are those of ``jax.lax``.
        lowering: the lowering of this convolution, as ``with jaxconv.lowering(name)`` requests for many.

    Returns:
        The output, with its axes in the order of ``dimension_numbers``.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html

    >>> x, w = jnp.ones((1, 1, 6)), jnp.ones((1, 1, 3))
    >>> conv_general_dilated(x, w, (1,), "SAME")[0, 0]
    Array([2., 3., 3., 3., 3., 2.], dtype=float32)
    """

    def to_xla() -> jax.Array:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
            batch_group_count, precision, preferred_element_type, out_sharding,
        )  # fmt: skip

    # as in jax.lax, NumPy's arrays are placed on no device before the operation, which may run for an abstract mesh
    x: Any = lhs if isinstance(lhs, np.ndarray) else jnp.asarray(lhs)
    w: Any = rhs if isinstance(rhs, np.ndarray) else jnp.asarray(rhs)
    rank = x.ndim - 2
    if batch_group_count != 1 or out_sharding is not None or not 1 <= rank <= MAX_RANK:
        return to_xla()
    # jax.lax validates, and determines the result's dtype: one source for every rule and message
    result = jax.eval_shape(lambda lhs, rhs: lax.conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
        precision=precision, preferred_element_type=preferred_element_type,
    ), x, w)  # fmt: skip
    dims = lax.conv_dimension_numbers(x.shape, w.shape, dimension_numbers)
    x_lengths = tuple(x.shape[d] for d in dims.lhs_spec[2:])
    w_lengths = tuple(w.shape[d] for d in dims.rhs_spec[2:])
    ones = (1,) * rank
    strides, lhs_rates, rhs_rates = (
        tuple(map(int, ones if v is None else v)) for v in (window_strides, lhs_dilation, rhs_dilation)
    )
    if isinstance(padding, str):
        extents = [dilate(k, d) for k, d in zip(w_lengths, rhs_rates, strict=True)]
        padding = lax.padtype_to_pads(x_lengths, extents, strides, padding)
    pads = tuple((_as_length(low), _as_length(high)) for low, high in padding)
    geometry = Geometry(
        x_lengths, w_lengths, strides, pads, lhs_rates, rhs_rates, feature_group_count,
        tuple(dims.lhs_spec), tuple(dims.rhs_spec), tuple(dims.out_spec),
    )  # fmt: skip
    return convolve(x, w, geometry, precision=precision, dtype=result.dtype, lowering=lowering)


def _as_length(value: Any) -> int:
    return int(value) if hasattr(value, "__index__") else value  # a symbolic length
