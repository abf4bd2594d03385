"""The three bilinear maps of a convolution, as JAX primitives that are closed under differentiation and batching.

For a :class:`~jaxconv.geometry.Geometry`, with indices n (batch), g (group), c and f (channels of a group), spatial:

    convolve   C(x, w) -> y     y[n,g,f,o] = sum over c, j      of x[n,g,c,i] w[g,c,f,j]
    transpose  T(y, w) -> x     x[n,g,c,i] = sum over f, (o, j) of y[n,g,f,o] w[g,c,f,j]
    correlate  K(x, y) -> w     w[g,c,f,j] = sum over n, o      of x[n,g,c,i] y[n,g,f,o]

with i = o * stride + j * dilation - pad. All three are one trilinear form with one argument left out. So the transposes
of each map are the other two, and derivatives of all orders use the same choice of lowering (:mod:`.choice`).
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from jaxconv.geometry import Geometry
from jaxconv.kernels import choice, partition, tuning_cache
from jaxconv.kernels.apart import tracing_for
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.halo import PADDING_MODES
from jaxconv.kernels.lowerings.xla import XLA
from jaxconv.kernels.override import current as current_override
from jaxconv.kernels.split import Split, padded
from jaxconv.kernels.varying import vary_alike
from jaxconv.kernels.xla_convolution import tracing_a_lowering

# operands and result of each map, by the letter of the array
SIGNATURES = {"convolve": ("x", "w", "y"), "transpose": ("y", "w", "x"), "correlate": ("x", "y", "w")}
# the index into which a batch axis of these arrays can be folded: the one that they share
SHARED_INDEX = {frozenset("xy"): "n", frozenset("xw"): "c", frozenset("yw"): "f", frozenset("xyw"): "g"}


def convolve(
    x: Array, w: Array, geometry: Geometry, *, precision: Any = None, dtype: Any = None, lowering: str | None = None,
    mode: str = "zeros",
) -> Array:  # fmt: skip
    """Convolve: ``C(x, w) -> y``.

    Args:
        mode: the values of the padding: "zeros", or values of x as in :func:`jaxconv.conv`.
        dtype: the dtype of the result, by default that of ``x``.
        lowering: the lowering of this map, and of its derivatives if it can compute them; by default the one that
            ``with jaxconv.lowering(name)`` requests, otherwise that of :func:`.choice.choose`.
    """
    if mode != "zeros" and (not all(isinstance(n, int) for n in x.shape) or partition.left_to_lax(geometry, x, w)):
        pads = dict(zip(geometry.x_dims[2:], geometry.padding, strict=True))
        x = jnp.pad(x, [pads.get(axis, (0, 0)) for axis in range(x.ndim)], PADDING_MODES[mode])
        geometry, mode = padded(geometry), "zeros"
    return _checked("convolve", x, w, geometry, precision, dtype, lowering, mode)


def transpose(
    y: Array, w: Array, geometry: Geometry, *, precision: Any = None, dtype: Any = None, lowering: str | None = None
) -> Array:
    """Scatter ``y`` through the kernel: ``T(y, w) -> x``, the adjoint of :func:`convolve` in ``x``."""
    return _checked("transpose", y, w, geometry, precision, dtype, lowering)


def correlate(
    x: Array, y: Array, geometry: Geometry, *, precision: Any = None, dtype: Any = None, lowering: str | None = None
) -> Array:
    """Correlate input and output: ``K(x, y) -> w``, the adjoint of :func:`convolve` in ``w``."""
    return _checked("correlate", x, y, geometry, precision, dtype, lowering)


def _checked(
    name: str, a: Array, b: Array, geometry: Geometry, precision: Any, dtype: Any, lowering: str | None,
    mode: str = "zeros",
) -> Array:  # fmt: skip
    lowering = current_override() if lowering is None else lowering
    choice.check(lowering, name, geometry, a, b)
    return _bind(name, a, b, geometry, precision, dtype, lowering, mode)


def _bind(
    name: str, a: Array, b: Array, geometry: Geometry, precision: Any, dtype: Any, lowering: str | None, mode: str
) -> Array:
    a, b = vary_alike(a, b)
    dtype = jnp.dtype(a.dtype if dtype is None else dtype)
    precision = tuple(precision) if isinstance(precision, list) else precision  # a parameter must be hashable
    if precision is None:  # the default that is active here: when jit lowers, its context manager may have exited
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    # the result's sharding is part of its type, and jax.lax has the rules for it
    if partition.left_to_lax(geometry, a, b):
        return XLA.maps[name](a, b, geometry, Arithmetic(a.dtype, dtype, precision))
    options = {"precision": precision, "dtype": dtype, "lowering": lowering}
    options |= {} if mode == "zeros" else {"mode": mode}
    return PRIMITIVES[name].bind(a, b, geometry=geometry, **options)


def _dims(letter: str, geometry: Geometry) -> tuple[int, ...]:
    return {"x": geometry.x_dims, "w": geometry.w_dims, "y": geometry.y_dims}[letter]


def _result_shape(name: str, a: Any, b: Any, geometry: Geometry) -> tuple[int, ...]:
    """Return the shape of the result: batch and channels from the operands, spatial lengths from the geometry."""
    g, letters = geometry, SIGNATURES[name]
    size = {letter: [v.shape[d] for d in _dims(letter, g)[:2]] for letter, v in zip(letters, (a, b), strict=False)}
    if name == "convolve":
        outer, inner, dims = (size["x"][0], size["w"][0]), g.y_lengths, g.y_dims
    elif name == "transpose":
        outer, inner, dims = (size["y"][0], size["w"][1] * g.groups), g.x_lengths, g.x_dims
    else:
        outer, inner, dims = (size["y"][1], size["x"][1] // g.groups), g.w_lengths, g.w_dims
    shape = dict(zip(dims, (*outer, *inner), strict=True))
    return tuple(shape[axis] for axis in range(len(dims)))


def _abstract(name: str, a: Any, b: Any, *, geometry: Geometry, dtype: Any, mode: str = "zeros", **_: Any) -> Any:
    shape = _result_shape(name, a, b, geometry)
    explicit = partition.explicit_mesh(a, b) is not None
    sharding = {"sharding": partition.result_sharding(name, geometry, (a, b), shape, mode)} if explicit else {}
    return a.update(shape=shape, dtype=dtype, weak_type=a.weak_type and b.weak_type, **sharding)


# -- differentiation: the transpose of each map in each argument is one of the other two


def _adjoint(name: str, operand: int) -> Callable[..., Array]:
    """Return the transpose of map ``name`` in operand 0 or 1: the map whose result is that operand."""
    target = SIGNATURES[name][operand]
    adjoint = next(other for other, letters in SIGNATURES.items() if letters[2] == target)

    def rule(
        cotangent: Array, a: Any, b: Any, *, geometry: Geometry, precision: Any, dtype: Any, lowering: Any,
        mode: str = "zeros",
    ) -> Array:  # fmt: skip
        linear, constant = (a, b) if operand == 0 else (b, a)
        arrays = {SIGNATURES[name][1 - operand]: constant, SIGNATURES[name][2]: cotangent}
        first, second, _ = SIGNATURES[adjoint]
        out = _bind(adjoint, arrays[first], arrays[second], geometry, precision, linear.aval.dtype, lowering, mode)
        return partition.placed_like(out, linear.aval)

    return rule


# -- batching: fold the new axis into the index that the batched arrays share


def _fold(array: Array, letter: str, axis: int, index: str, geometry: Geometry) -> Array:
    """Merge the new axis of ``array`` into index n, g, c or f; the group stays the slowest part of a channel."""
    dims, size = _dims(letter, geometry), array.shape[axis]
    host, after_groups = _host(letter, index, dims)
    array = jnp.moveaxis(array, axis, 0)
    rest = array.shape[1:]
    outer = geometry.groups if after_groups else 1
    array = array.reshape(size, *rest[:host], outer, rest[host] // outer, *rest[host + 1 :])
    array = jnp.moveaxis(array, 0, host + 1)
    return array.reshape(*rest[:host], rest[host] * size, *rest[host + 1 :])


def _unfold(array: Array, letter: str, size: int, index: str, geometry: Geometry) -> Array:
    """Undo :func:`_fold` on a result, with the batch axis first."""
    dims, shape = _dims(letter, geometry), array.shape
    host, after_groups = _host(letter, index, dims)
    outer = geometry.groups if after_groups else 1
    array = array.reshape(*shape[:host], outer, size, shape[host] // (outer * size), *shape[host + 1 :])
    array = jnp.moveaxis(array, host + 1, 0)
    return array.reshape(size, *shape[:host], shape[host] // size, *shape[host + 1 :])


def _host(letter: str, index: str, dims: tuple[int, ...]) -> tuple[int, bool]:
    """Return the axis of array ``letter`` that contains ``index``, and whether the group index precedes it there."""
    batch_or_filters, channels = dims[:2]
    if letter == "w":
        return {"c": (channels, False), "f": (batch_or_filters, True), "g": (batch_or_filters, False)}[index]
    return {"n": (batch_or_filters, False), "g": (channels, False)}.get(index, (channels, True))


def _batch(
    name: str, operands: Any, axes: Any, *, geometry: Geometry, precision: Any, dtype: Any, lowering: Any,
    mode: str = "zeros",
) -> tuple[Array, int]:  # fmt: skip
    letters = SIGNATURES[name]
    batched = [letter for letter, axis in zip(letters, axes, strict=False) if axis is not None]
    size = next(v.shape[d] for v, d in zip(operands, axes, strict=True) if d is not None)
    index = SHARED_INDEX[frozenset([*batched, letters[2]])]
    if size == 0:
        one, two = (jax.ShapeDtypeStruct(_without(v.shape, d), v.dtype) for v, d in zip(operands, axes, strict=True))
        return jnp.zeros((0, *_result_shape(name, one, two, geometry)), dtype), 0
    a, b = (
        v if d is None else _fold(v, letter, d, index, geometry)
        for v, letter, d in zip(operands, letters, axes, strict=False)
    )
    folded = replace(geometry, groups=geometry.groups * size) if index == "g" else geometry
    return _unfold(_bind(name, a, b, folded, precision, dtype, lowering, mode), letters[2], size, index, geometry), 0


def _without(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])


# -- evaluation and lowering


def _primitive(name: str) -> Primitive:
    primitive = Primitive(f"conv_{name}")
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(functools.partial(_abstract, name))
    ad.defbilinear(primitive, _adjoint(name, 0), _adjoint(name, 1))
    batching.primitive_batchers[primitive] = functools.partial(_batch, name)
    mlir.register_lowering(primitive, functools.partial(_lower, name), cacheable=False)
    return primitive


def _lower(name: str, context: Any, a: Any, b: Any, *, geometry: Geometry, mode: str = "zeros", **options: Any) -> Any:
    """Lower for one platform, or for several at once."""
    platforms = tuple(context.platforms or context.module_context.platforms)

    def solve(platform: str | None) -> Callable[..., Array]:
        winners = tuning_cache.winners(platform)
        return functools.partial(_solve, **options, platform=platform, winners=winners)

    if partition.applies(context):
        return partition.lower(name, solve(platforms[0]), context, a, b, geometry=geometry, mode=mode)

    def whole(platform: str | None, a: Array, b: Array) -> Array:
        if mode == "zeros":
            return solve(platform)(name, a, b, geometry=geometry)
        split = Split.of(name, geometry, 1, mode)
        return split.solve(solve(platform), {}, {}, SIGNATURES[name][2], a, b)[0]

    def rule(a: Array, b: Array) -> Array:
        ways = [functools.partial(whole, p) for p in (platforms[0], "cpu", None)]
        if len(platforms) == 1:
            return ways[0](a, b)
        return jax.lax.platform_dependent(a, b, cpu=ways[1], default=ways[2])

    # JAX's own cache would hide the operands from the code that splits a map; equal maps share a function nevertheless
    functions = context.module_context.cached_primitive_lowerings
    key = (name, platforms, *context.avals_in, geometry, mode, *options.items())
    function = functions.setdefault(key, jax.jit(rule))
    return mlir.lower_fun(function, multiple_results=False)(context, a, b)


def _solve(name: str, a: Array, b: Array, *, platform: str | None, **options: Any) -> Array:
    with tracing_a_lowering(), tracing_for(platform):
        return choice.compute(name, a, b, platform=platform, **options)


PRIMITIVES = {name: _primitive(name) for name in SIGNATURES}
