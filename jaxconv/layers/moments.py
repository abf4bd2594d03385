"""The arithmetic of normalizations: moments, standardization, gamma and beta."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Axes = tuple[int, ...]


def average(x: Array, axes: Axes, where: Array | None = None) -> Array:
    """Return the mean along ``axes``, which are kept with size 1, of the entries where ``where`` is True.

    The mean of no entries is 0.

    Args:
        where: booleans that broadcast against ``x``; None means all entries.

    >>> average(jnp.array([[1.0, 3.0, 8.0]]), (1,), jnp.array([[True, True, False]]))
    Array([[2.]], dtype=float32)
    """
    if where is None:
        return x.mean(axes, keepdims=True)
    total = jnp.where(where, x, jnp.zeros((), x.dtype)).sum(axes, keepdims=True)
    count = jnp.broadcast_to(where, x.shape).sum(axes, keepdims=True, dtype=x.dtype)
    return total / jnp.maximum(count, 1)


def moments(x: Array, axes: Axes, where: Array | None = None) -> tuple[Array, Array]:
    """Return mean and biased variance along ``axes``, which are kept with size 1.

    Entries where ``where`` is False are left out. The variance is computed from deviations: the mean of squares minus
    the squared mean would lose digits by cancellation.
    """
    mean = average(x, axes, where)
    return mean, average(jnp.square(x - mean), axes, where)


def standardize(x: Array, axes: Axes, epsilon: float, where: Array | None = None) -> Array:
    """Return ``x`` with mean 0 and variance 1 along ``axes``: ``(x - mean) / sqrt(variance + epsilon)``.

    >>> standardize(jnp.array([[1.0, 3.0]]), (1,), 0.0)
    Array([[-1.,  1.]], dtype=float32)
    """
    return normalize(x, jnp.ones((), x.dtype), jnp.zeros((), x.dtype), where, None, axes, epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def normalize(
    x: Array, scale: Array, offset: Array, where: Array | None, statistics: tuple[Array, Array] | None, axes: Axes,
    epsilon: float,
) -> Array:  # fmt: skip
    """Return ``z * scale + offset``, where z is x standardized along ``axes``.

    The derivative is explicit: it stores only z at the size of x, and needs two sums instead of five, so that training
    takes less memory and bandwidth. It can be differentiated again, in either mode.

    Args:
        scale, offset: the same for all entries along ``axes``: they broadcast against the mean.
        statistics: the :func:`moments` of x, if they are known. Computing them over several devices needs
            communication.
    """
    return _standardize(x, where, statistics, axes, epsilon)[0] * scale + offset


@normalize.defjvp
def _normalize_jvp(axes: Axes, epsilon: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    # the statistics depend on x, so their tangents are left out: the rule below contains them
    (x, scale, offset, where, statistics), (dx, d_scale, d_offset, *_) = primals, tangents
    z, rate = _standardize(x, where, statistics, axes, epsilon)
    # scale and rate are multiplied after the averages, so that the transpose shares its sums with that of d_scale
    steep = scale * rate
    d_scale, d_offset = d_scale - steep * average(z * dx, axes, where), d_offset - steep * average(dx, axes, where)
    return z * scale + offset, dx * steep + z * d_scale + d_offset


def _standardize(
    x: Array, where: Array | None, statistics: tuple[Array, Array] | None, axes: Axes, epsilon: float
) -> tuple[Array, Array]:
    """Return the standardized x, and the factor of its deviations."""
    mean, variance = moments(x, axes, where) if statistics is None else statistics
    rate = lax.rsqrt(variance + epsilon)
    return (x - mean) * rate, rate


def spread(value: Array, axes: Axes, like: Array) -> Array:
    """Reshape a weight so that it broadcasts along ``axes`` against ``like``, and cast it to its type."""
    shape = [n if axis in axes else 1 for axis, n in enumerate(like.shape)]
    return value.astype(like.dtype).reshape(shape)


def affine(y: Array, params: Mapping[str, Any], axes: Axes) -> Array:
    """Multiply by ``gamma`` and add ``beta`` along ``axes``, if params has them."""
    if "gamma" in params:
        y = y * spread(params["gamma"], axes, y)
    return y + spread(params["beta"], axes, y) if "beta" in params else y
