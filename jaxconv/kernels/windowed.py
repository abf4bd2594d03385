"""Maps of windows without weights, as JAX primitives: the maximum, the sum, and the patches.

Like the maps of a convolution (:mod:`.maps`), they define their own partitioning over devices. XLA's partitioner would
exchange more than halos, and it computes wrong gradients of maxima of overlapping windows with stride 1 along a sharded
axis.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from jaxconv.geometry import Geometry
from jaxconv.kernels import partition
from jaxconv.kernels.split import OPERANDS, dims_of, lengths_of
from jaxconv.kernels.varying import vary_alike, varying_zeros

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

MAX_SLICES = 16  # over all axes; with more, a window reduction is as fast


def largest(x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    """Return the maximum of each window of floats; padding counts as minus infinity.

    On CPU it is computed as maxima of shifted slices. For 32 images of 60 x 60 x 16, window 3, stride 2, on one core:
    1.76 ms as a window reduction, 0.30 ms as slices. The derivatives are those of the window reduction: the first of
    several equal values receives the gradient.

    Args:
        x: any shape; its first axis has no window. window, strides, padding: one for each axis of ``x``.

    >>> largest(np.array([[3.0, 1.0, 2.0]], np.float32), (1, 2), (1, 1), ((0, 0), (0, 1)))
    Array([[3., 2., 2.]], dtype=float32)
    """
    return _reduced("max", x, window, strides, padding)


def total(x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    """Return the sum of each window; the arguments are those of :func:`largest`.

    >>> total(np.array([[3.0, 1.0, 2.0]], np.float32), (1, 2), (1, 1), ((0, 0), (0, 1)))
    Array([[4., 3., 2.]], dtype=float32)
    """
    return _reduced("sum", x, window, strides, padding)


def patches(x: Array, geometry: Geometry) -> Array:
    """Return the inputs that a kernel reads for each output: all channels of the first tap, then of the next."""
    return _bind("patches", geometry, x)


def _reduced(name: str, x: Array, window: Sizes, strides: Sizes, padding: Pads) -> Array:
    """Compute a reduction; the last axis without a window is used as the channel axis."""
    free = [axis for axis in range(1, x.ndim) if (window[axis], strides[axis], padding[axis]) == (1, 1, (0, 0))]
    if not free:
        return _reduced(name, x[..., None], (*window, 1), (*strides, 1), (*padding, (0, 0)))[..., 0]
    spatial = [axis for axis in range(1, x.ndim) if axis != free[-1]]
    ones, dims = (1,) * len(spatial), (0, free[-1], *spatial)
    size, step, lengths = (tuple(v[a] for a in spatial) for v in (window, strides, x.shape))
    pads = tuple(padding[a] for a in spatial)
    return _bind(name, Geometry(lengths, size, step, pads, ones, ones, 1, dims, dims, dims), x)


# -- on one device


def _over_all_axes(geometry: Geometry, ndim: int) -> tuple[Sizes, Sizes, Pads]:
    """Return window, strides and padding for all axes of an array."""
    window, strides, padding = [1] * ndim, [1] * ndim, [(0, 0)] * ndim
    for i, axis in enumerate(geometry.x_dims[2:]):
        window[axis], strides[axis], padding[axis] = geometry.w_lengths[i], geometry.strides[i], geometry.padding[i]
    return tuple(window), tuple(strides), tuple(padding)


def _pad(x: Array, padding: Pads, fill: float) -> Array:
    return lax.pad(x, np.array(fill, x.dtype), [(*pair, 0) for pair in padding]) if any(map(any, padding)) else x


def _reduce(x: Array, geometry: Geometry, fill: float, operation: Callable[..., Any]) -> Array:
    window, strides, padding = _over_all_axes(geometry, x.ndim)
    if min(min(pair) for pair in padding) < 0:
        x, padding = _pad(x, padding, fill), ((0, 0),) * x.ndim
    return lax.reduce_window(x, np.array(fill, x.dtype), operation, window, strides, padding)


def _max(x: Array, *, geometry: Geometry) -> Array:
    return _reduce(x, geometry, -np.inf, lax.max)


def _max_of_slices(x: Array, *, geometry: Geometry) -> Array:
    window, strides, padding = _over_all_axes(geometry, x.ndim)
    static = all(isinstance(n, int) for n, size in zip(x.shape, window, strict=True) if size > 1)
    if not static or sum(size for size in window if size > 1) > MAX_SLICES:
        return _max(x, geometry=geometry)
    x = _pad(x, padding, -np.inf)
    for axis, (size, stride) in enumerate(zip(window, strides, strict=True)):
        if (size, stride) == (1, 1):
            continue
        last = (x.shape[axis] - size) // stride * stride  # the start of the last window
        steps = [lax.slice_in_dim(x, tap, tap + last + 1, stride, axis) for tap in range(size)]
        x = functools.reduce(lax.max, steps)
    return x


def _sum(x: Array, *, geometry: Geometry) -> Array:
    return _reduce(x, geometry, 0, lax.add)


def _taps(x: Array, geometry: Geometry, fill: float) -> Iterator[Array]:
    """Yield the inputs that each tap of the windows reads."""
    _, strides, padding = _over_all_axes(geometry, x.ndim)
    x = _pad(x, padding, fill)
    for tap in np.ndindex(*geometry.w_lengths):
        start, stop = [0] * x.ndim, list(x.shape)
        for axis, t, n, s in zip(geometry.x_dims[2:], tap, geometry.y_lengths, geometry.strides, strict=True):
            start[axis], stop[axis] = t, t + (n - 1) * s + 1
        yield lax.slice(x, start, stop, strides)


def _patches(x: Array, *, geometry: Geometry) -> Array:
    return jnp.concatenate(list(_taps(x, geometry, 0)), geometry.x_dims[1])


def _select(x: Array, u: Array, *, geometry: Geometry) -> Array:
    """Return the entry of u where x is the first of the largest in each window: the derivative of the maximum."""
    if x.dtype != np.float64:
        return jax.jvp(functools.partial(_max, geometry=geometry), (x,), (u,))[1]
    # JAX would lower this by Python functions, whose dtypes depend on the settings of the compiler's thread.
    # No value is compared with the maximum itself: XLA may recompute x for the comparison, and round it differently.
    (top, y), *others = zip(_taps(x, geometry, -np.inf), _taps(u, geometry, 0), strict=True)
    for one, other in others:
        larger = one > top
        top, y = jnp.where(larger, one, top), jnp.where(larger, other, y)
    return y


def _transpose(name: str, *operands: Array, geometry: Geometry) -> Array:
    """Transpose one of the maps in its last operand."""
    *constants, y = operands
    shape = list(y.shape)
    for axis, length in zip(geometry.x_dims[2:], geometry.x_lengths, strict=True):
        shape[axis] = length
    if name == "patches":
        shape[geometry.x_dims[1]] //= len(list(np.ndindex(*geometry.w_lengths)))
    zeros = varying_zeros(shape, y.dtype, y)
    return jax.linear_transpose(functools.partial(SOLVE[name], *constants, geometry=geometry), zeros)(y)[0]


SOLVE: dict[str, Callable[..., Array]] = {"max": _max, "sum": _sum, "patches": _patches, "select": _select}
SOLVE |= {f"{name}_transpose": functools.partial(_transpose, name) for name in ("sum", "patches", "select")}


def _solve(name: str, *operands: Array, geometry: Geometry, platform: str | None) -> Array:
    """Compute one of the maps on one device."""
    function = _max_of_slices if (name, platform) == ("max", "cpu") else SOLVE[name]
    return function(*operands, geometry=geometry)


# -- the primitives


def _bind(name: str, geometry: Geometry, *operands: Array) -> Array:
    operands = vary_alike(*operands)
    if partition.left_to_lax(geometry, *operands):
        return SOLVE[name](*operands, geometry=geometry)
    return PRIMITIVES[name].bind(*operands, geometry=geometry)


def _abstract(name: str, *operands: Any, geometry: Geometry) -> Any:
    last, third = operands[-1], OPERANDS[name][-1]
    shape = list(last.shape)
    for axis, length in zip(dims_of(third, geometry)[2:], lengths_of(third, geometry), strict=True):
        shape[axis] = length
    if name.startswith("patches"):
        taps, channels = len(list(np.ndindex(*geometry.w_lengths))), geometry.x_dims[1]
        shape[channels] = shape[channels] * taps if name == "patches" else shape[channels] // taps
    explicit = partition.explicit_mesh(*operands) is not None
    sharding = {"sharding": partition.result_sharding(name, geometry, operands, tuple(shape))} if explicit else {}
    return last.update(shape=tuple(shape), **sharding)


def _zero(y: Array) -> Any:
    return ad.Zero.from_primal_value(y)  # type: ignore[attr-defined]


def _differentiate_max(primals: Sequence[Array], tangents: Sequence[Any], *, geometry: Geometry) -> tuple[Array, Any]:
    (x,), (u,) = primals, tangents
    y = _bind("max", geometry, x)
    return y, _zero(y) if isinstance(u, ad.Zero) else _bind("select", geometry, x, u)


def _adjoint(name: str, cotangent: Any, *operands: Any, geometry: Geometry) -> list[Any]:
    """Transpose a linear map in its last operand."""
    *constants, linear = operands
    other = name.removesuffix("_transpose") if name.endswith("_transpose") else f"{name}_transpose"
    if isinstance(cotangent, ad.Zero):
        return [None] * len(constants) + [ad.Zero(linear.aval)]
    return [None] * len(constants) + [partition.placed_like(_bind(other, geometry, *constants, cotangent), linear.aval)]


def _derive(name: str, primals: Sequence[Array], tangents: Sequence[Any], *, geometry: Geometry) -> tuple[Array, Any]:
    """Differentiate a map that is linear in its last operand; the selection of entries has no derivative."""
    y = _bind(name, geometry, *primals)
    zero = isinstance(tangents[-1], ad.Zero)
    return y, _zero(y) if zero else _bind(name, geometry, *primals[:-1], tangents[-1])


def _batch(name: str, operands: Sequence[Array], axes: Sequence[Any], *, geometry: Geometry) -> tuple[Array, int]:
    """Fold the new axis into the batch."""
    size = next(v.shape[axis] for v, axis in zip(operands, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(v, (size, *v.shape)) if axis is None else jnp.moveaxis(v, axis, 0)
        for v, axis in zip(operands, axes, strict=True)
    ]
    y = _bind(name, geometry, *(v.reshape(size * v.shape[1], *v.shape[2:]) for v in moved))
    return y.reshape(*moved[-1].shape[:2], *y.shape[1:]), 0


def _lower(name: str, context: Any, *operands: Any, geometry: Geometry) -> Any:
    platforms = tuple(context.platforms or context.module_context.platforms)

    def solve(platform: str | None) -> Callable[..., Array]:
        return functools.partial(_solve, platform=platform)

    if partition.applies(context):
        jnp.finfo(context.avals_in[-1].dtype)  # computed and cached here: the compiler's threads flush subnormals
        return partition.lower(name, solve(platforms[0]), context, *operands, geometry=geometry)

    def rule(*operands: Array) -> Array:
        cpu, other = (functools.partial(solve(p), name, geometry=geometry) for p in ("cpu", None))
        if len(platforms) == 1:
            return (cpu if platforms == ("cpu",) else other)(*operands)
        return lax.platform_dependent(*operands, cpu=cpu, default=other)

    return mlir.lower_fun(rule, multiple_results=False)(context, *operands)


def _primitive(name: str) -> Primitive:
    primitive = Primitive(f"window_{name}")
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(functools.partial(_abstract, name))
    ad.primitive_jvps[primitive] = _differentiate_max if name == "max" else functools.partial(_derive, name)
    if name != "max":
        ad.primitive_transposes[primitive] = functools.partial(_adjoint, name)
    batching.primitive_batchers[primitive] = functools.partial(_batch, name)
    mlir.register_lowering(primitive, functools.partial(_lower, name), cacheable=False)
    return primitive


PRIMITIVES = {name: _primitive(name) for name in SOLVE}
