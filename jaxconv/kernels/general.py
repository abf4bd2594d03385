"""``conv_general_dilated``: a drop-in replacement for that of ``jax.lax``, computed by the three maps."""

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
    """Convolve like ``jax.lax.conv_general_dilated``, as a drop-in replacement.

    It differs in how it is computed and differentiated, and in the names of its primitives, which matter only to a
    policy that selects those of ``jax.lax`` (``jaxconv.convs_saveable`` saves ours too). Calls that the three maps do
    not cover are passed to ``jax.lax``: more than three spatial axes or none, ``batch_group_count``, an explicit output
    sharding. ``jax.lax`` checks every call and raises its own errors.

    Args:
        lhs: input; its axes are named by ``dimension_numbers`` (default: batch, channels, \\*spatial).
        rhs: kernel (default: filters, channels of a group, \\*spatial). The other arguments are those of ``jax.lax``.
        lowering: the lowering of this convolution; see :func:`jaxconv.lowering`.

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

    # as in jax.lax, NumPy arrays are not put on a device before the operation, which may be traced for an abstract mesh
    x: Any = lhs if isinstance(lhs, np.ndarray) else jnp.asarray(lhs)
    w: Any = rhs if isinstance(rhs, np.ndarray) else jnp.asarray(rhs)
    rank = x.ndim - 2
    if batch_group_count != 1 or out_sharding is not None or not 1 <= rank <= MAX_RANK:
        return to_xla()
    # jax.lax validates the arguments and determines the result's dtype: one source of all rules and messages
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
