"""Lowering "xla": each map as one ``jax.lax.conv_general_dilated``, on every platform and for every dtype.

It uses any geometry unchanged, without the standard form.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.dtypes import promote
from jaxconv.geometry import Geometry, Pairs, dilate
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Form
from jaxconv.kernels.xla_convolution import xla_convolution

Array = jax.Array


def convolve(x: Array, w: Array, geometry: Geometry, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``C(x, w)``: the convolution as XLA defines it."""
    g = geometry
    return _conv(
        x, w, (g.x_dims, g.w_dims, g.y_dims), g.padding, g.strides, g.lhs_dilation, g.rhs_dilation, arithmetic,
        feature_group_count=g.groups,
    )  # fmt: skip


def transpose(y: Array, w: Array, geometry: Geometry, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``T(y, w)``: dilate ``y`` by the strides and convolve with the mirrored kernel, channels exchanged.

    Tap j is ``extent - 1 - j * dilation`` from the end of the mirrored kernel, so the pads extend the dilated ``y`` to
    the length of the dilated input; they are negative where the convolution had cropped.
    """
    g = geometry
    filters, channels, *spatial = g.w_dims
    mirrored = _exchange_groups(lax.rev(w, spatial), filters, channels, g.groups)
    padding: list[tuple[int, int]] = []
    for n, b, k, d, o, s, (low, _) in zip(
        g.x_lengths, g.lhs_dilation, g.w_lengths, g.rhs_dilation, g.y_lengths, g.strides, g.padding, strict=True
    ):
        before = dilate(k, d) - 1 - low
        padding.append((before, dilate(n, b) + dilate(k, d) - 1 - dilate(o, s) - before))
    if 0 in g.y_lengths or _is_empty(y):
        shape = dict(zip(g.x_dims, (y.shape[g.y_dims[0]], w.shape[channels] * g.groups, *g.x_lengths), strict=True))
        return jnp.zeros([shape[axis] for axis in range(y.ndim)], arithmetic.result_dtype)
    return _conv(
        y, mirrored, (g.y_dims, (channels, filters, *spatial), g.x_dims), tuple(padding), g.lhs_dilation, g.strides,
        g.rhs_dilation, arithmetic, feature_group_count=g.groups,
    )  # fmt: skip


def correlate(x: Array, y: Array, geometry: Geometry, arithmetic: Arithmetic, solve: Solve | None = None) -> Array:
    """Compute ``K(x, y)``: slide ``y``, dilated by the strides, over ``x``; batch and channels exchange their roles.

    Without groups, the channels of ``x`` are the batch of this convolution, and it sums over the batch. With groups,
    that is XLA's ``batch_group_count``.
    """
    g = geometry
    padding: list[tuple[int, int]] = []
    for n, b, k, d, o, s, (low, _) in zip(
        g.x_lengths, g.lhs_dilation, g.w_lengths, g.rhs_dilation, g.y_lengths, g.strides, g.padding, strict=True
    ):
        padding.append((low, dilate(o, s) + dilate(k, d) - 1 - dilate(n, b) - low))
    if 0 in g.y_lengths or _is_empty(x) or _is_empty(y):
        sizes = (y.shape[g.y_dims[1]], x.shape[g.x_dims[1]] // g.groups, *g.w_lengths)
        shape = dict(zip(g.w_dims, sizes, strict=True))
        return jnp.zeros([shape[axis] for axis in range(x.ndim)], arithmetic.result_dtype)
    x_dims, y_dims, w_dims = ((dims[1], dims[0], *dims[2:]) for dims in (g.x_dims, g.y_dims, g.w_dims))
    return _conv(
        x, y, (x_dims, y_dims, w_dims), tuple(padding), g.rhs_dilation, g.lhs_dilation, g.strides, arithmetic,
        batch_group_count=g.groups,
    )  # fmt: skip


def _conv(
    a: Array, b: Array, dims: tuple, padding: Pairs, strides: tuple[int, ...], lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...], arithmetic: Arithmetic, **groups: Any,
) -> Array:  # fmt: skip
    """Call XLA with operands of one dtype; if the result's dtype is wider than both, accumulate in it."""
    common, result = promote(a.dtype, b.dtype), arithmetic.result_dtype
    if not all(isinstance(n, int) for pair in padding for n in pair):  # symbolic: XLA's convolution takes numbers only
        config = dict(zip(dims[0][2:], ((*p, d - 1) for p, d in zip(padding, lhs_dilation, strict=True)), strict=True))
        a = lax.pad(a, jnp.zeros((), a.dtype), [config.get(axis, (0, 0, 0)) for axis in range(a.ndim)])
        padding, lhs_dilation = ((0, 0),) * len(padding), (1,) * len(padding)
    out = xla_convolution(
        _cast(a, common), _cast(b, common), strides, padding, lhs_dilation, rhs_dilation,
        lax.ConvDimensionNumbers(*dims), precision=arithmetic.precision,
        preferred_element_type=promote(common, result), **groups,
    )  # fmt: skip
    return _cast(out, result)


def _cast(array: Array, dtype: Any) -> Array:
    return array if array.dtype == dtype else array.astype(dtype)  # the cast would make a weak type strong


def _exchange_groups(w: Array, filters: int, channels: int, groups: int) -> Array:
    """Move the group index of a kernel from its filter axis to its channel axis, where the transposed map needs it."""
    if groups == 1:
        return w
    split = (*w.shape[:filters], groups, w.shape[filters] // groups, *w.shape[filters + 1 :])
    w = jnp.moveaxis(w.reshape(split), filters, channels)  # the groups are now just before the channels
    return w.reshape(*w.shape[:channels], groups * w.shape[channels + 1], *w.shape[channels + 2 :])


def _is_empty(array: Array) -> bool:
    return any(isinstance(size, int) and size == 0 for size in array.shape)


def _unchanged(name: str, geometry: Geometry, a: Any, b: Any) -> Form:
    return Form(name, geometry, {}, lambda a, b: (a, b), lambda result: result)


XLA = Lowering("xla", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, form=_unchanged)
