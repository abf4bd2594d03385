"""The derivative of a maximum along axes, compared with NumPy, if XLA computes its operand more than once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.kernels.maximum import largest_along

SHAPE = (3, 7, 5, 4)


def smoothed(x, w):
    """Return sums of products, which XLA computes in every loop that reads them."""
    return w[0] * x[:, :-2] + w[1] * x[:, 1:-1] + w[2] * x[:, 2:] + w[3]


def oracle(x, w, axes):
    """Return the maximum, and its gradient in the operand for a cotangent of twice the maximum."""
    v = smoothed(x.astype("float64"), w.astype("float64"))
    y = v.max(axes, keepdims=True)
    equal = v == y
    return y, equal * 2 * y / equal.sum(axes, keepdims=True)


def spread(cotangent, w, shape):
    """Return the gradient in x."""
    out = np.zeros(shape)
    for tap in range(3):
        out[:, tap : tap + cotangent.shape[1]] += np.float64(w[tap]) * cotangent
    return out


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("axes", [(1,), (1, 2), (2, 3)])
def test_derivatives_in_every_mode(seed, axes):
    rng = np.random.default_rng(seed)
    x, w, u = (rng.normal(size=size).astype("float32") for size in (SHAPE, (4,), SHAPE))

    def loss(x, w):
        return jnp.sum(largest_along(smoothed(x, w), axes) ** 2)

    gradient = jax.grad(loss)
    y, cotangent = oracle(x, w, axes)
    expected = spread(cotangent, w, SHAPE)
    close = {"rtol": 2e-5, "atol": 2e-5}  # float32, four terms
    np.testing.assert_allclose(jax.jit(gradient)(x, w), expected, **close)
    each = jax.jit(jax.vmap(lambda x, w: gradient(x[None], w)[0], (0, None)))
    np.testing.assert_allclose(each(x, w), expected, **close)
    weights = jax.jit(jax.vmap(gradient, (None, 0)))(x, np.stack([w, w + 1]))
    np.testing.assert_allclose(weights[1], spread(oracle(x, w + 1, axes)[1], w + 1, SHAPE), **close)
    value, slope = jax.jit(lambda x, u: jax.jvp(lambda x: loss(x, w), (x,), (u,)))(x, u)
    np.testing.assert_allclose([value, slope], [(y**2).sum(), (expected * u).sum()], rtol=1e-4, atol=1e-3)
    # the maximum is linear in x nearby: its product with the Hessian is the gradient for the cotangent 2 dy
    moved = oracle(x, w, axes)[1] / (2 * y) * smoothed(u.astype("float64"), np.array([*w[:3], 0.0]))
    second = (oracle(x, w, axes)[1] / (2 * y)) * 2 * moved.sum(axes, keepdims=True)
    product = jax.jit(lambda x, u: jax.jvp(lambda x: gradient(x, w), (x,), (u,))[1])(x, u)
    np.testing.assert_allclose(product, spread(second, w, SHAPE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_equal_values_share_the_gradient_in_half_precision(dtype):
    x = jnp.zeros((1, 4096, 2), dtype).at[0, 5, 1].set(1)
    gradient = jax.jit(jax.grad(lambda x: largest_along(x, (1,)).sum()))(x)
    assert gradient.dtype == x.dtype
    np.testing.assert_array_equal(gradient[0, :, 0], np.full(4096, 2.0**-12))  # 4096 ones are not counted in float16
    np.testing.assert_array_equal(gradient[0, :, 1], np.arange(4096) == 5)


def test_a_program_for_any_platform_can_be_exported():
    step = jax.jit(jax.grad(lambda x: largest_along(x, (1,)).sum()))
    program = jax.export.export(step, platforms=["cpu", "cuda", "tpu"])(jax.ShapeDtypeStruct((2, 3), jnp.float32))
    again = jax.export.deserialize(program.serialize())
    np.testing.assert_array_equal(again.call(np.array([[1.0, 3, 3], [2, 1, 0]], "float32")), [[0, 0.5, 0.5], [1, 0, 0]])
