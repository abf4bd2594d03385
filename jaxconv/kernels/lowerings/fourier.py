"""Lowering "fourier": long kernels as products of spectra.

A circular convolution is a product of Fourier transforms, and a long enough transform has no wrap-around in the
positions that are kept: n log n operations instead of n times the kernel. C multiplies by the conjugate spectrum of the
kernel (it is a correlation), T by the spectrum itself, K correlates x with y.

It is used only on request (``lowering="fourier"``), not by the table or by ``tune``. Rounding errors are spread evenly
over the positions: about ``eps * log2(n) * norm(x) * norm(w)`` for every output, with the norms of all entries that
share a transform, while a direct sum's error is relative to the terms of each output. One large entry causes errors in
outputs far away, and one NaN or infinity makes every position NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.geometry import dilate
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.problem import Problem
from jaxconv.kernels.taps import pad

Array = jax.Array


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    x = pad(arithmetic.upcast(x), problem.pads)
    sizes = _sizes(x.shape[1:-1])
    product = _multiply("xw", _spectrum(x, sizes, 1), jnp.conj(_kernel(w, problem, arithmetic, sizes)), problem)
    y = _signal(product, sizes, 1, arithmetic)
    for axis, (o, s) in enumerate(zip(problem.y, problem.strides, strict=True), start=1):
        y = lax.slice_in_dim(y, 0, dilate(o, s), s, axis)
    return y


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    lengths = [n + low + high for n, (low, high) in zip(problem.x, problem.pads, strict=True)]
    sizes = _sizes(lengths)
    dilated = _dilate(arithmetic.upcast(y), problem.strides, 1)
    product = _multiply("yw", _spectrum(dilated, sizes, 1), _kernel(w, problem, arithmetic, sizes), problem)
    x = _signal(product, sizes, 1, arithmetic)
    for axis, (n, (low, _), length) in enumerate(zip(problem.x, problem.pads, lengths, strict=True), start=1):
        x = lax.slice_in_dim(x, 0, length, 1, axis)
        config = [(0, 0, 0)] * x.ndim
        config[axis] = (-low, n + low - length, 0)
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
    return x


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    x = pad(arithmetic.upcast(x), problem.pads)
    sizes = _sizes(x.shape[1:-1])
    dilated = _dilate(arithmetic.upcast(y), problem.strides, 1)
    product = _multiply("xy", _spectrum(x, sizes, 1), jnp.conj(_spectrum(dilated, sizes, 1)), problem)
    w = _signal(product, sizes, 0, arithmetic)
    for axis, (k, d) in enumerate(zip(problem.w, problem.dilation, strict=True)):
        w = lax.slice_in_dim(w, 0, dilate(k, d), d, axis)
    return w


def _sizes(lengths: Any) -> tuple[int, ...]:
    """Return the next lengths without a prime factor above 5, for which transforms are fast."""
    return tuple(next(n for n in range(length, 2 * length + 1) if _is_smooth(n)) for length in lengths)


def _is_smooth(n: int) -> bool:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n == 1


def _dilate(a: Array, rates: tuple[int, ...], first: int) -> Array:
    config = [(0, 0, 0)] * first + [(0, 0, rate - 1) for rate in rates]
    return lax.pad(a, jnp.zeros((), a.dtype), config + [(0, 0, 0)] * (a.ndim - len(config)))


def _spectrum(a: Array, sizes: tuple[int, ...], first: int) -> Array:
    """Transform the spatial axes and move them last, after batch and channels."""
    rank = len(sizes)
    a = jnp.moveaxis(a, range(first, first + rank), range(-rank, 0))
    full = [(0, 0)] * (a.ndim - rank) + [(0, n - size) for n, size in zip(sizes, a.shape[-rank:], strict=True)]
    return jnp.fft.rfftn(jnp.pad(a, full), axes=range(-rank, 0))


def _kernel(w: Array, problem: Problem, arithmetic: Arithmetic, sizes: tuple[int, ...]) -> Array:
    return _spectrum(_dilate(arithmetic.upcast(w), problem.dilation, 0), sizes, 0)


def _signal(spectrum: Array, sizes: tuple[int, ...], first: int, arithmetic: Arithmetic) -> Array:
    rank = len(sizes)
    a = jnp.fft.irfftn(spectrum, sizes, axes=range(-rank, 0)).astype(arithmetic.accumulate_dtype)
    return jnp.moveaxis(a, range(-rank, 0), range(first, first + rank))


def _multiply(letters: str, a: Array, b: Array, problem: Problem) -> Array:
    """Multiply two spectra frequency by frequency, and sum over the channels, filters or batch as the map does."""
    rank = problem.rank
    a, b = (
        v.reshape(v.shape[0], problem.groups, v.shape[1] // problem.groups, *v.shape[v.ndim - rank :]) for v in (a, b)
    )
    terms, out = {"xw": ("ngc,cgf", "ngf"), "yw": ("ngf,cgf", "ngc"), "xy": ("ngc,ngf", "cgf")}[letters]
    if a.shape[2] == b.shape[2] == 1 and b.shape[0] == 1 and letters != "xy":  # one channel in and out: nothing to sum
        product = a * b
    elif a.shape[2] == b.shape[2] == 1 and letters == "xy":
        product = jnp.sum(a * b, axis=0, keepdims=True)
    else:
        product = jnp.einsum(f"{terms.replace(',', '...,')}...->{out}...", a, b)
    return product.reshape(product.shape[0], problem.groups * product.shape[2], *product.shape[3:])


FOURIER = Lowering(
    "fourier", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, by_default=False, is_direct=False
)
