"""Maxima of windows: the values and derivatives of a window reduction, by slices and by reduction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxconv.kernels.windowed import largest


def reduced(x, window, strides, padding):
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, window, strides, padding)


WINDOWS = {
    "one axis": ((1, 3, 1), (1, 2, 1), ((0, 0), (1, 1), (0, 0))),
    "two axes": ((1, 3, 2), (1, 2, 2), ((0, 0), (0, 1), (0, 0))),
    "steps beyond the window": ((1, 2, 1), (1, 5, 1), ((0, 0), (0, 0), (0, 0))),
    "one entry and a stride": ((1, 1, 1), (1, 3, 1), ((0, 0), (0, 0), (0, 0))),
    "too large for slices": ((1, 17, 1), (1, 1, 1), ((0, 0), (8, 8), (0, 0))),
    "all of it": ((1, 9, 1), (1, 9, 1), ((0, 0), (0, 0), (0, 0))),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_values_and_derivatives_are_those_of_the_window_reduction(name, dtype):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, 9, 4)) * 2).astype(dtype)  # many are equal
    own = lambda x: largest(x, *WINDOWS[name])  # noqa: E731
    other = lambda x: reduced(x, *WINDOWS[name])  # noqa: E731
    for run in (own, jax.jit(own)):
        np.testing.assert_array_equal(run(x), other(x))
    for got, expected in zip(jax.jvp(own, (x,), (x * x,)), jax.jvp(other, (x,), (x * x,)), strict=True):
        np.testing.assert_array_equal(got, expected)
    weights = jnp.arange(other(x).size, dtype=dtype).reshape(other(x).shape)
    grads = [jax.grad(lambda x, f=f: (f(x) * weights).sum())(x) for f in (own, other)]
    np.testing.assert_array_equal(*grads)
    np.testing.assert_array_equal(jax.vmap(own)(x[None]), other(x)[None])


def test_nan_is_largest_and_padding_smallest():
    x = jnp.array([[-jnp.inf, jnp.nan, -5.0]])
    np.testing.assert_array_equal(largest(x, (1, 2), (1, 1), ((0, 0), (0, 1))), [[np.nan, np.nan, -5.0]])


def test_elsewhere_than_on_cpu_it_is_a_window_reduction():
    from jax import export

    spec = jax.ShapeDtypeStruct((2, 9, 4), np.dtype("float32"))
    program = jax.jit(lambda x: largest(x, *WINDOWS["one axis"]))
    texts = {name: export.export(program, platforms=[name])(spec).mlir_module() for name in ("cpu", "cuda")}
    assert "reduce_window" not in texts["cpu"] and "reduce_window" in texts["cuda"]
