"""Keras's activation functions: plain functions of an array, found by name.

A function that works along an axis uses the last one by default, as in Keras. A NaN input gives a NaN output, also for
the shrinking and thresholding functions, where Keras replaces it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv.dtypes import widen
from jaxconv.registry import Registry

registry = Registry("activation", "keras.activations")

Activation = Callable[[jax.Array], jax.Array]


def get(identifier: Any) -> Activation:
    """Find an activation by name, config dict or callable; ``None`` is :func:`linear`.

    Names are case-sensitive, as in Keras: ``"relu"`` is a function here, ``"ReLU"`` is not.

    Raises:
        ValueError: for an unknown name (the message suggests the closest valid one), and for ``threshold``, which has
            no default arguments.
        TypeError: for any other value that is not callable.

    >>> get("swish").__name__
    'silu'
    """
    activation = linear if identifier is None else registry.get(identifier)
    if activation is threshold:
        remedy = "pass functools.partial(threshold, threshold=..., default_value=...)"
        raise ValueError(f"activation 'threshold' needs two more arguments; {remedy}")
    return activation


def serialize(activation: Any) -> Any:
    """Return the name that a config stores: ``silu`` for ``swish`` as well, ``linear`` for ``None``.

    Raises:
        ValueError: for a function without a registered name.

    >>> serialize(None), serialize(hard_swish)
    ('linear', 'hard_silu')
    """
    return registry.serialize(linear if activation is None else activation)


# --- Rectifiers -------------------------------------------------------------------------------------------------------


@registry.register()
def linear(x: jax.Array) -> jax.Array:
    """Return ``x`` unchanged."""
    return x


@registry.register()
def relu(
    x: jax.Array, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> jax.Array:
    """Return ``min(x, max_value)`` above ``threshold`` and ``negative_slope * (x - threshold)`` at or below it.

    The derivative at 0 is 0 if the slope is 0, otherwise 1; at ``max_value`` it is 0.

    Args:
        negative_slope: slope below the threshold.
        max_value: largest output; ``None`` means unbounded. As in Keras, with ``max_value`` the outputs between a
            negative threshold and 0 are raised to 0.
        threshold: largest input that is not passed through.

    >>> relu(jnp.array([-2.0, 1.0, 9.0]), negative_slope=0.5, max_value=6.0).tolist()
    [-1.0, 1.0, 6.0]
    """
    if max_value is None and threshold == 0:
        return jax.nn.leaky_relu(x, negative_slope) if negative_slope else jax.nn.relu(x)
    y = jnp.where(x <= threshold, 0, x)
    if max_value is not None:
        y = jnp.where(y >= max_value, max_value, jax.nn.relu(y))
    return y - negative_slope * jax.nn.relu(threshold - x) if negative_slope else y


@registry.register()
def relu6(x: jax.Array) -> jax.Array:
    """Clip to [0, 6]; the derivative at both ends is 0."""
    return jax.nn.relu6(x)


@registry.register()
def leaky_relu(x: jax.Array, negative_slope: float = 0.2) -> jax.Array:
    """Return ``x`` where it is positive, ``negative_slope * x`` elsewhere. The default slope is Keras's (JAX: 0.01)."""
    return jax.nn.leaky_relu(x, negative_slope)


@registry.register()
def elu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Return ``x`` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere.

    Source: Clevert et al. 2016, https://arxiv.org/abs/1511.07289
    """
    return jax.nn.elu(x, alpha)


@registry.register()
def celu(x: jax.Array, alpha: float = 1.0) -> jax.Array:
    """Return ``x`` where it is positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere: smooth for every ``alpha``.

    Source: Barron 2017, https://arxiv.org/abs/1704.07483
    """
    return jax.nn.celu(x, alpha)


@registry.register()
def selu(x: jax.Array) -> jax.Array:
    """Return ``1.05070098 * elu(x, 1.67326324)``, which preserves mean 0 and variance 1; use with ``lecun_normal``.

    Source: Klambauer et al. 2017, https://arxiv.org/abs/1706.02515
    """
    return jax.nn.selu(x)


@registry.register()
def threshold(x: jax.Array, threshold: float, default_value: float) -> jax.Array:
    """Return ``x`` above ``threshold`` and ``default_value`` elsewhere.

    Both arguments are required, so a layer cannot use it by name: pass ``functools.partial(threshold, ...)``.
    """
    return jnp.where(x <= threshold, default_value, x)


@registry.register()
def hard_shrink(x: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Return ``x`` where ``|x| > threshold``, 0 elsewhere."""
    return jnp.where(jnp.abs(x) <= threshold, 0, x)


@registry.register()
def soft_shrink(x: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Return ``x - threshold * sign(x)`` where ``|x| > threshold``, 0 elsewhere."""
    return jnp.where(jnp.abs(x) <= threshold, 0, x - threshold * jnp.sign(x))


# --- Smooth relatives of the rectifier --------------------------------------------------------------------------------


@registry.register("swish")
def silu(x: jax.Array) -> jax.Array:
    """Return ``x * sigmoid(x)``; also called swish.

    Source: Ramachandran et al. 2017, https://arxiv.org/abs/1710.05941
    """
    return jax.nn.silu(x)


@registry.register("hard_swish")
def hard_silu(x: jax.Array) -> jax.Array:
    """Return ``x * hard_sigmoid(x)``; also called hard swish.

    Source: Howard et al. 2019, https://arxiv.org/abs/1905.02244
    """
    return jax.nn.hard_silu(x)


@registry.register()
def gelu(x: jax.Array, approximate: bool = False) -> jax.Array:
    """Return ``x * Phi(x)`` with the standard normal distribution function ``Phi``; exact by default, unlike JAX's.

    Args:
        approximate: use ``(1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2`` for ``Phi``.

    Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415
    """
    if not approximate:
        return jax.nn.gelu(x, approximate=False)
    inner = jnp.clip(x, -10, 10)  # tanh is +-1 outside; the cube would overflow, with a NaN derivative
    return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))


@registry.register()
def mish(x: jax.Array) -> jax.Array:
    """Return ``x * tanh(softplus(x))``.

    Source: Misra 2019, https://arxiv.org/abs/1908.08681
    """
    return jax.nn.mish(x)


@registry.register()
def softplus(x: jax.Array) -> jax.Array:
    """Return ``log(1 + exp(x))`` without overflow."""
    return jax.nn.softplus(x)


@registry.register()
def squareplus(x: jax.Array, b: float = 4) -> jax.Array:
    """Return ``(x + sqrt(x^2 + b)) / 2`` without overflow of the square or cancellation for negative ``x``.

    Args:
        b: positive; as it approaches 0, the function approaches ``relu``.

    Source: Barron 2021, https://arxiv.org/abs/2112.11687
    """
    size = jnp.where(x >= 0, x, -x)  # the derivative of abs at 0 would be wrong
    larger = 0.5 * size + 0.5 * jnp.hypot(x, jnp.full_like(x, math.sqrt(b)))
    return jnp.where(x >= 0, larger, 0.25 * b / larger)  # the two roots of y^2 - |x| y = b/4


@registry.register()
def sparse_plus(x: jax.Array) -> jax.Array:
    """Return 0 below -1, ``(x + 1)^2 / 4`` in [-1, 1] and ``x`` above 1."""
    inner = jnp.clip(x, -1, 1)  # the square of a large x would overflow, with a NaN derivative
    return jnp.where(x >= 1, x, jnp.square(inner + 1) / 4)


# --- Sigmoids ---------------------------------------------------------------------------------------------------------


@registry.register()
def sigmoid(x: jax.Array) -> jax.Array:
    """Return ``1 / (1 + exp(-x))``."""
    return jax.nn.sigmoid(x)


@registry.register()
def hard_sigmoid(x: jax.Array) -> jax.Array:
    """Return ``relu6(x + 3) / 6``, as in Keras 3; Keras 2's function is :func:`hard_sigmoid_keras2`."""
    return jax.nn.hard_sigmoid(x)


@registry.register()
def hard_sigmoid_keras2(x: jax.Array) -> jax.Array:
    """Return ``clip(0.2 x + 0.5, 0, 1)``, the ``hard_sigmoid`` of Keras 1 and 2; used when reading their files."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


@registry.register()
def log_sigmoid(x: jax.Array) -> jax.Array:
    """Return ``log(sigmoid(x))`` without underflow."""
    return jax.nn.log_sigmoid(x)


@registry.register()
def sparse_sigmoid(x: jax.Array) -> jax.Array:
    """Return ``clip((x + 1) / 2, 0, 1)``, the derivative of ``sparse_plus``.

    Source: Blondel et al. 2019, https://arxiv.org/abs/1901.02324
    """
    return jax.nn.sparse_sigmoid(x)


@registry.register()
def tanh(x: jax.Array) -> jax.Array:
    """Return the hyperbolic tangent."""
    return jnp.tanh(x)


@registry.register()
def tanh_shrink(x: jax.Array) -> jax.Array:
    """Return ``x - tanh(x)``."""
    return x - jnp.tanh(x)


@registry.register()
def hard_tanh(x: jax.Array) -> jax.Array:
    """Clip to [-1, 1]; the derivative at both ends is 1."""
    return jax.nn.hard_tanh(x)


@registry.register()
def softsign(x: jax.Array) -> jax.Array:
    """Return ``x / (1 + |x|)``."""
    return jax.nn.soft_sign(x)


@registry.register()
def exponential(x: jax.Array) -> jax.Array:
    """Return ``exp(x)``."""
    return jnp.exp(x)


# --- Functions along an axis ------------------------------------------------------------------------------------------


def _in_float32(function: Callable[[jax.Array], jax.Array], x: Any) -> jax.Array:
    """Apply a function that sums, itself or in its derivative, in float32 if the input has 16-bit floats."""
    x = jnp.asarray(x)
    half = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
    return function(x.astype(jnp.float32)).astype(x.dtype) if half else function(x)


@registry.register()
def softmax(x: jax.Array, axis: int | tuple[int, ...] = -1) -> jax.Array:
    """Return ``exp(x) / sum(exp(x))`` along ``axis``. Half-precision inputs are computed in float32."""
    return _in_float32(lambda wide: jax.nn.softmax(wide, axis), x)


@registry.register()
def log_softmax(x: jax.Array, axis: int | tuple[int, ...] = -1) -> jax.Array:
    """Return ``log(softmax(x))`` along ``axis`` without underflow. Half-precision inputs are computed in float32."""
    return _in_float32(lambda wide: jax.nn.log_softmax(wide, axis), x)


@registry.register()
def sparsemax(x: jax.Array, axis: int = -1) -> jax.Array:
    """Return the Euclidean projection of ``x`` onto the probability simplex along ``axis``: a sparse softmax.

    The result is ``max(x - tau, 0)``, where ``tau`` is the maximum over ``k`` of ``(s_k - 1) / k`` and ``s_k`` is the
    sum of the ``k`` largest entries. Half-precision inputs are computed in float32. Keras up to 3.15 uses a wrong
    ``tau`` if more than one entry is nonzero, so that its results do not sum to 1 (keras#23425, fixed since).

    Source: Martins and Astudillo 2016, https://arxiv.org/abs/1602.02068

    >>> sparsemax(jnp.array([1.0, 1.5, -1.0])).tolist()
    [0.25, 0.75, 0.0]
    """
    x = jnp.asarray(x)
    z = widen(x)
    z = z - jax.lax.stop_gradient(jnp.max(z, axis, keepdims=True))  # the result is invariant to a common shift
    sums = jnp.cumsum(jnp.sort(z, axis, descending=True), axis)
    sizes = [n if a == axis % x.ndim else 1 for a, n in enumerate(x.shape)]
    count = jax.lax.broadcasted_iota(z.dtype, sizes, axis % x.ndim) + 1
    tau = jnp.max((sums - 1) / count, axis, keepdims=True)
    return jax.nn.relu(z - tau).astype(x.dtype)


@registry.register()
def glu(x: jax.Array, axis: int = -1) -> jax.Array:
    """Return ``a * sigmoid(b)`` for the two halves ``a, b`` of ``x`` along ``axis``.

    Raises:
        ValueError: for an axis of odd length.

    Source: Dauphin et al. 2017, https://arxiv.org/abs/1612.08083

    >>> glu(jnp.array([1.0, 2.0, 0.0, 0.0])).tolist()
    [0.5, 1.0]
    """
    if x.shape[axis] % 2:
        raise ValueError(f"glu: axis {axis} of the shape {x.shape} has length {x.shape[axis]}; it must be even")
    return jax.nn.glu(x, axis)


swish = silu
hard_swish = hard_silu
