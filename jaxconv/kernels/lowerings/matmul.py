"""Lowering "matmul": matrix products of the channels, for each kernel tap.

    C: y = sum_j window_j(x) w[j]        T: x = sum_j scatter_j(y w[j]^T)        K: w[j] = window_j(x)^T y

``window_j`` selects the entries of the padded input that tap j reads. A kernel of one tap is a single product, and so
is one that covers the input once, as in a dense layer. The products of T share an operand and are combined into one
over all taps, without a copy of the kernel; so are those of C if the filters are few: window_j(x) w[j] = window_j(x
w[j]), and x need not be sliced or padded. K loops over the taps: one window is in memory at a time, it stays in the
cache, and none is computed before y is known. (XLA computes values that do not depend on y before the forward pass, and
keeps them until the backward pass.)

16-bit floats use the matrix units only in this form: products of bfloat16, sums in float32.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxconv.kernels.apart import apart
from jaxconv.kernels.arithmetic import Arithmetic
from jaxconv.kernels.lowering import Lowering, Solve
from jaxconv.kernels.parts import divisor, in_parts, part_at
from jaxconv.kernels.problem import Problem, Shapes
from jaxconv.kernels.taps import (
    pad,
    scatter,
    tap_indices,
    total,
    transposed_copy,
    window,
    window_at,
    window_starts,
)
from jaxconv.kernels.varying import varying_zeros
from jaxconv.kernels.xla_convolution import xla_product

Array = jax.Array

# C and T write a step for each tap into the program
MAX_TAPS = 64
MAX_GROWTH = 1.5
# One tap: limits of the products that Eigen computes faster. Small ones of C: the fewest and the most multiplications;
# 1.14 times as fast, the mean of 137 random ones. Large ones whose kernel fits the cache of a core: the most entries of
# the kernel; for C, the fewest contracted channels, 1.2 times, the mean of 29; for T, the fewest multiplications, 1.19
# times, the mean of 22.
SMALL_PRODUCTS, CACHED_KERNEL, FEWEST_CONTRACTED, LARGE_TRANSPOSED = (1 << 19, 1 << 24), 1 << 15, 64, 1 << 26
# and the fewest and the most channels of the result
RESULTS = 24, 512
# bytes of the 16-bit operands of K, which all taps read in turn: above MANY, it is computed in parts of CACHED
MANY, CACHED = 1 << 23, 1 << 21
# the most entries of the products of T that are computed at a time, for 16-bit floats
PRODUCTS = 1 << 21


def limits(name: str, problem: Problem, shapes: Shapes) -> str | None:
    """Return the reason why a problem is not supported, or None."""
    if problem.groups > 1:
        return f"it computes one group, not {problem.groups}"
    if name != "correlate" and problem.taps > MAX_TAPS and not problem.has_one_window:
        return f"it takes kernels of up to {MAX_TAPS} taps, not {problem.taps}"
    return None


def convolve(x: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``C(x, w)``."""
    p, taps, (channels, filters) = problem, tap_indices(problem), w.shape[-2:]
    if p.has_one_window:
        flat = pad(x, p.pads).reshape(x.shape[0], *p.y, -1)
        return arithmetic.dot(flat, w.reshape(-1, filters), ([p.rank + 1], [0]))
    if len(taps) > 1 and product_growth(p, channels, filters) <= MAX_GROWTH:
        kernel = jnp.moveaxis(w.reshape(-1, channels, filters), 0, 1).reshape(channels, -1)
        products = arithmetic.dot(x, kernel, ([x.ndim - 1], [0]))
        parts = (lax.slice_in_dim(products, i * filters, (i + 1) * filters, axis=-1) for i in range(len(taps)))
        return total(_shift(part, tap, p) for part, tap in zip(parts, taps, strict=True))
    x = pad(x, p.pads)
    if len(taps) == 1 and _suits_eigen("convolve", x, w[taps[0]], math.prod(p.y)):
        return _product(window(x, taps[0], p), w[taps[0]], arithmetic)
    return total(arithmetic.dot(window(x, tap, p), w[tap], ([x.ndim - 1], [0])) for tap in taps)


def _suits_eigen(name: str, a: Array, w: Array, positions: int) -> bool:
    """Return whether Eigen computes C or T of one tap faster than YNNPACK, to which XLA gives products."""
    if not isinstance(a.shape[0], int) or a.dtype.itemsize != 4:
        return False
    contracted, results = w.shape if name == "convolve" else w.shape[::-1]
    multiplications, (fewest, most) = a.shape[0] * positions * w.size, RESULTS
    if name == "convolve" and SMALL_PRODUCTS[0] <= multiplications <= SMALL_PRODUCTS[1]:
        return results >= fewest
    if w.size > CACHED_KERNEL or not fewest <= results <= most:
        return False
    return multiplications >= LARGE_TRANSPOSED if name == "transpose" else contracted >= FEWEST_CONTRACTED


def _product(a: Array, w: Array, arithmetic: Arithmetic) -> Array:
    """Contract the last axis with a matrix, by Eigen."""
    rows = a.reshape(-1, a.shape[-1])
    y = xla_product(rows, w, precision=arithmetic.precision, preferred_element_type=arithmetic.accumulate_dtype)
    return y.reshape(*a.shape[:-1], w.shape[-1])


def product_growth(problem: Problem, channels: int, filters: int) -> float:
    """Return the size of the products of the input with all taps, relative to the input's.

    It is infinite with strides, or if more than half of the products are not needed.
    """
    needed = max(problem.strides) == 1 and math.prod(problem.x) <= 2 * math.prod(problem.y)
    return problem.taps * filters / channels if needed else math.inf


def _shift(products: Array, tap: tuple[int, ...], p: Problem) -> Array:
    """Move the products of one tap to the positions of y that read them."""
    first = [low - j * d for (low, _), j, d in zip(p.pads, tap, p.dilation, strict=True)]
    return pad(products, [(low, o - n - low) for low, o, n in zip(first, p.y, p.x, strict=True)])


def transpose(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``T(y, w)``."""
    images = _images(y, w, problem)
    return in_parts(lambda part: _scattered(part, w, problem, arithmetic), y, images, arithmetic.accumulate_dtype)


def _images(y: Array, w: Array, problem: Problem) -> int:
    """Return the number of images that T computes at a time.

    For 16-bit floats, the products in float32 should fit the cache.
    """
    if y.dtype.itemsize > 2 or problem.taps == 1 or problem.has_one_window:
        return y.shape[0]
    return divisor(y.shape[0], PRODUCTS // (math.prod(problem.y) * problem.taps * w.shape[-2]))


def _scattered(y: Array, w: Array, problem: Problem, arithmetic: Arithmetic) -> Array:
    """Compute the products of T, and add them at the positions that each tap reads."""
    channels, filters = w.shape[-2:]
    taps = tap_indices(problem)
    if len(taps) == 1 and _suits_eigen("transpose", y, w[taps[0]], math.prod(problem.y)):
        return scatter(_product(y, w[taps[0]].T, arithmetic), taps[0], problem)
    products = arithmetic.dot(y, w.reshape(-1, filters), ([y.ndim - 1], [1]))
    if problem.has_one_window:
        whole = products.reshape(y.shape[0], *problem.w, channels)
        return pad(whole, [(-low, -high) for low, high in problem.pads])
    if len(taps) == 1:
        return scatter(products, taps[0], problem)
    parts = (lax.slice_in_dim(products, i * channels, (i + 1) * channels, axis=-1) for i in range(len(taps)))
    return total(scatter(part, tap, problem) for part, tap in zip(parts, taps, strict=True))


def correlate(x: Array, y: Array, problem: Problem, arithmetic: Arithmetic, solve: Solve) -> Array:
    """Compute ``K(x, y)``."""
    channels, filters = x.shape[-1], y.shape[-1]
    x = pad(x, problem.pads)
    if problem.taps == 1 or problem.has_one_window:
        shown = x if problem.has_one_window else window(x, (0,) * problem.rank, problem)
        samples = y.reshape(-1, filters)
        out = _product_of_samples(shown.reshape(samples.shape[0], -1), samples, arithmetic)
        return out.reshape(*problem.w, channels, filters)

    def products(x: Array, y: Array) -> Array:
        y = transposed_copy(y.reshape(-1, filters))
        return lax.map(
            lambda start: arithmetic.dot(y, window_at(x, start, problem).reshape(-1, channels), ([1], [0])),
            window_starts(problem),
        )

    parts = _parts(x, y)
    if parts == 1:
        out = products(x, y)
    else:
        size = y.shape[0] // parts

        def add(i: Array, out: Array) -> Array:
            return out + products(*(part_at(a, i, size) for a in (x, y)))

        zeros = varying_zeros((problem.taps, filters, channels), arithmetic.accumulate_dtype, x, y)
        out = lax.fori_loop(0, parts, add, zeros)
    return out.mT.reshape(*problem.w, channels, filters)


def _product_of_samples(x: Array, y: Array, arithmetic: Arithmetic) -> Array:
    """Compute ``x^T y``.

    XLA computes products of bfloat16 in float32 unless both operands are row-major, and it undoes a transposed copy of
    one. So x is transposed separately from the product, and the product is compiled separately from its surroundings.
    Random products are 1.55 times as fast on average, large ones twice.
    """
    if x.dtype != jnp.bfloat16 or not isinstance(x.shape[0], int):
        return arithmetic.dot(x, y, ([0], [0]))

    def product(x: Array, y: Array) -> Array:
        return arithmetic.dot(apart(jnp.transpose, x), y, ([1], [0]))

    return apart(product, x, y)


def _parts(x: Array, y: Array) -> int:
    """Return the number of parts of the batch in which K is computed, so that their operands stay in the cache.

    In float32, products take twice the time, and one part is as fast.
    """
    batch = x.shape[0]
    if x.dtype.itemsize > 2 or not isinstance(batch, int) or 2 * (x.size + y.size) <= MANY:
        return 1
    parts = 2 * (x.size + y.size) // CACHED
    return next(n for n in range(min(batch, parts), batch + 1) if batch % n == 0)


# the sums of C have few filters, and little is gained by compiling them separately
MATMUL = Lowering(
    "matmul", {"convolve": convolve, "transpose": transpose, "correlate": correlate}, limits, sums=("transpose",)
)
