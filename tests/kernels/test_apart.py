"""Computations that XLA does not fuse with others."""

import jax
import jax.experimental.xla_metadata
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.kernels.apart import apart


def program(function, *arrays):
    return jax.jit(function).lower(*arrays).compile().as_text()


def calls(function, *arrays):
    return program(function, *arrays).count(" call(")


def test_what_is_computed_apart_keeps_its_values_and_is_not_fused():
    x = jnp.linspace(-3, 3, 12).reshape(3, 4)

    def function(x):
        return jnp.sin(apart(lambda a: (a * 2).astype(jnp.bfloat16), x))

    np.testing.assert_array_equal(jax.jit(function)(x), jnp.sin((x * 2).astype(jnp.bfloat16)))
    assert calls(function, x) == 1
    assert calls(lambda x: jnp.sin(x * 2), x) == 0


def test_apart_returns_a_tree_and_reads_what_surrounds_it():
    x = jnp.linspace(-3, 3, 12)

    def function(x):
        found = apart(lambda: {"sum": x + 1, "pair": (x * 2, x * 3)})
        return found["sum"] + found["pair"][0] * found["pair"][1]

    np.testing.assert_allclose(jax.jit(function)(x), x + 1 + 6 * x * x, rtol=1e-6)
    assert calls(function, x) == 1


def test_xla_does_not_know_constants_that_are_computed_apart():
    def add_rows(x, hidden):
        rows = [np.arange(4, dtype="float32")[None] + i for i in range(3)]
        return [x + row for row in (apart(lambda: rows) if hidden else rows)]

    text = program(lambda x: add_rows(x, True), jnp.ones((5, 4)))
    operands = [line.split(" fusion(")[1].split(")")[0] for line in text.splitlines() if " fusion(" in line]
    assert [text.count("%") for text in operands] == [2, 2, 2]  # each reads a row
    np.testing.assert_array_equal(
        jax.jit(lambda x: add_rows(x, True))(jnp.ones((5, 4))), add_rows(jnp.ones((5, 4)), False)
    )


def test_apart_computes_outside_of_jit():
    np.testing.assert_array_equal(apart(lambda a: a + 1, jnp.arange(3.0)), [1, 2, 3])


def test_other_attributes_of_the_call_are_kept():
    def function(x):
        with jax.experimental.xla_metadata.set_xla_metadata(label="mine"):
            return jnp.sin(apart(jnp.cos, x))

    (call,) = (line for line in program(function, jnp.ones(3)).splitlines() if " call(" in line)
    assert 'inlineable="false"' in call and 'label="mine"' in call


@pytest.mark.parametrize(
    ("lowering", "groups"), [("winograd", 1), ("block_diagonal", 4), ("matmul", 1), (None, 1), (None, 4)]
)
def test_programs_for_other_platforms_have_ordinary_calls(lowering, groups):
    x, w = jnp.ones((2, 28, 28, 128)), jnp.ones((3, 3, 128 // groups, 128))

    def input_gradient(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        options = {"dimension_numbers": numbers, "feature_group_count": groups, "lowering": lowering}
        return jax.vjp(lambda x: jaxconv.conv_general_dilated(x, w, (1, 1), "SAME", **options), x)[1](x)[0]

    def marked(*platforms):
        return jax.export.export(jax.jit(input_gradient), platforms=platforms)(x, w).mlir_module().count("inlineable")

    assert marked("cuda") == marked("tpu") == 0
    assert marked("cpu", "cuda") == marked("cpu")
    assert (marked("cpu") > 0) == (lowering != "matmul")


@pytest.mark.parametrize(
    ("numbers", "size", "count"),
    [
        (("NHWC", "HWIO", "NHWC"), 16, 0),
        (("NCHW", "OIHW", "NCHW"), 16, 1),
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
    assert calls(ours, x, w) == count
    np.testing.assert_allclose(  # sums of nine products
        jax.jit(ours)(x, w), compute(jax.lax.conv_general_dilated)(x, w), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("taps", "count"), [(4, 1), (1, 0)])  # one tap is a product, which is not fused
def test_sums_of_products_are_kept_apart_where_there_are_several(taps, count):
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(shape), "float32") for shape in ((32, 16, 16, 16), (32, 16, taps, taps)))
    y = jnp.asarray(rng.standard_normal((32, 32, 16 // taps, 16 // taps)), "float32")

    def input_gradient(conv, **options):
        def function(x, w, y):
            return jax.vjp(lambda x: conv(x, w, (taps, taps), "SAME", **options), x)[1](y)[0]

        return function

    ours = input_gradient(jaxconv.conv_general_dilated, lowering="matmul")
    assert calls(ours, x, w, y) == count
    expected = jax.jit(input_gradient(jax.lax.conv_general_dilated))(x, w, y)
    np.testing.assert_allclose(jax.jit(ours)(x, w, y), expected, atol=1e-4, rtol=1e-5)  # sums of 32 to 512 products
