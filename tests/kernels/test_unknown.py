"""Computations that XLA does not fuse with others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.kernels.unknown import apart, copied


def conditionals(function, *arrays):
    return jax.jit(function).lower(*arrays).compile().as_text().count(" conditional(")


def test_what_is_computed_apart_keeps_its_values_and_is_not_fused():
    x = jnp.linspace(-3, 3, 12).reshape(3, 4)

    def function(x):
        return jnp.sin(apart(lambda a: (a * 2).astype(jnp.bfloat16), x))

    np.testing.assert_array_equal(jax.jit(function)(x), jnp.sin((x * 2).astype(jnp.bfloat16)))
    assert conditionals(function, x) == 1


def test_what_is_computed_apart_needs_no_array_of_zeros():
    text = jax.jit(lambda x: jnp.sin(apart(lambda a: a * a, x))).lower(jnp.ones((7, 300))).compile().as_text()
    assert " conditional(" in text
    assert " broadcast(" not in text


def test_a_copy_keeps_its_values_and_is_not_fused():
    x = jnp.linspace(-3, 3, 12).reshape(3, 4)
    np.testing.assert_array_equal(jax.jit(copied)(x), x)
    assert conditionals(lambda x: jnp.sin(copied(x.T)), x) == 1


@pytest.mark.parametrize(
    ("numbers", "size", "count"),
    [
        (("NHWC", "HWIO", "NHWC"), 16, 0),
        (("NCHW", "OIHW", "NCHW"), 16, 2),  # what is read, and what is computed
        (("NCHW", "OIHW", "NCHW"), 4, 0),  # small
    ],
)
def test_sums_are_kept_apart_from_the_transposes_of_channels_that_are_not_last(numbers, size, count):
    rng = np.random.default_rng(0)
    lengths = {"N": 4, "H": size, "W": size, "C": 32, "I": 1, "O": 32}
    x = jnp.asarray(rng.standard_normal([lengths[letter] for letter in numbers[0]]), "float32")
    w = jnp.asarray(rng.standard_normal([(lengths | {"H": 3, "W": 3})[letter] for letter in numbers[1]]), "float32")

    def compute(conv):
        return lambda x, w: conv(x, w, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=32)

    ours = compute(jaxconv.conv_general_dilated)
    assert conditionals(ours, x, w) == count
    np.testing.assert_allclose(  # sums of nine products
        jax.jit(ours)(x, w), compute(jax.lax.conv_general_dilated)(x, w), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("taps", "count"), [(4, 2), (1, 0)])  # one tap is a product, which is not fused
def test_sums_of_products_are_kept_apart_where_there_are_several(taps, count):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), "float32") for shape in ((32, 16, 16, 16), (32, 16, taps, taps)))
    y = jnp.asarray(rng.standard_normal((32, 32, 16 // taps, 16 // taps)), "float32")

    def input_gradient(conv, **options):
        def function(x, w, y):
            return jax.vjp(lambda x: conv(x, w, (taps, taps), "SAME", **options), x)[1](y)[0]

        return function

    ours = input_gradient(jaxconv.conv_general_dilated, lowering="matmul")
    assert conditionals(ours, x, w, y) == count
    expected = jax.jit(input_gradient(jax.lax.conv_general_dilated))(x, w, y)
    np.testing.assert_allclose(jax.jit(ours)(x, w, y), expected, atol=1e-4, rtol=1e-5)  # sums of 32 to 512 products
