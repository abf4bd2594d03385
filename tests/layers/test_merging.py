"""Merging layers against Keras on random shapes, values by hand, and every message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

KEY = jax.random.key(0)


def test_values_by_hand():
    a, b = jnp.array([[1.0, 4.0]]), jnp.array([[3.0, 2.0]])
    for layer, want in [
        (jc.Add(), [[4, 6]]),
        (jc.Subtract(), [[-2, 2]]),
        (jc.Multiply(), [[3, 8]]),
        (jc.Average(), [[2, 3]]),
        (jc.Maximum(), [[3, 4]]),
        (jc.Minimum(), [[1, 2]]),
        (jc.Concatenate(), [[1, 4, 3, 2]]),
        (jc.Dot(1), [[11]]),
    ]:
        np.testing.assert_array_equal(layer.apply_fn({}, [a, b]), want)
        np.testing.assert_array_equal(layer.apply_fn({}, (a, b)), want)
    # (3, 4) and (4, 3) have lengths 5 and 5 and the product 24
    cosine = jc.Dot(1, normalize=True).apply_fn({}, [jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0]])])
    np.testing.assert_allclose(cosine, [[24 / 25]], rtol=1e-6)


def test_a_vector_gets_axes_after_its_batch():
    y = jc.Add().apply_fn({}, [jnp.zeros((2, 3, 2)), jnp.array([[1.0, 2.0], [3.0, 4.0]])])
    np.testing.assert_array_equal(y[:, 0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(y[:, 2], y[:, 0])


def test_the_cosine_of_zeros_is_zero_and_so_is_its_gradient():
    layer = jc.Dot(1, normalize=True)
    zeros, ones = jnp.zeros((1, 3)), jnp.ones((1, 3))
    y, grads = jax.value_and_grad(lambda x: jnp.sum(layer.apply_fn({}, [x, zeros])))(ones)
    assert y == 0 and jnp.all(grads == 0)
    assert jnp.all(jnp.isfinite(jax.grad(lambda x: jnp.sum(layer.apply_fn({}, [x, ones])))(zeros)))


def test_unknown_sizes_are_taken_from_the_other_input_where_they_must_be_equal():
    assert jc.Add().output_shape([(None, None, 3), (None, 5, 3)]) == (None, 5, 3)
    assert jc.Add().output_shape([(None, None, 3), (4, 1, 3)]) == (4, None, 3)
    assert jc.Concatenate().output_shape([(None, None, 3), (2, 5, None)]) == (2, 5, None)
    assert jc.Dot(1).output_shape([(None, None), (2, 5)]) == (2, 1)


def test_integers_and_half_precision_are_computed_in_the_layer_s_type():
    assert jc.Add().apply_fn({}, [jnp.ones((1, 2), int), np.ones((1, 2))]).dtype == jnp.float32
    assert jc.Add(dtype="mixed_bfloat16").apply_fn({}, [jnp.ones((1, 2)), jnp.ones((1, 2))]).dtype == jnp.bfloat16
    # the largest square of float16 is that of 255: the length is summed in float32
    big = jnp.full((1, 4), 300.0)
    np.testing.assert_allclose(jc.Dot(1, True, dtype="float16").apply_fn({}, [big, big]), [[1.0]], atol=2e-3)


@pytest.mark.parametrize(
    "layer, shapes, message",
    [
        (
            jc.Add(),
            [(2, 3), (2, 4)],
            r"Add: input 0 of shape \(2, 3\) and input 1 of shape \(2, 4\) do not fit: axis -1",
        ),
        (jc.Add(), [(2, 1), (2, 3), (2, 4)], r"input 1 of shape \(2, 3\) and input 2 of shape \(2, 4\)"),
        (jc.Multiply(), [(2, 3), (4, 3)], "input 0 .* input 1 .* batch sizes 2 and 4 differ"),
        (jc.Subtract(), [(2, 3)], r"Subtract: takes exactly 2 inputs; got 1, of shapes \[\(2, 3\)\]"),
        (jc.Dot(1), [(2, 3)] * 3, "Dot: takes exactly 2 inputs; got 3"),
        (jc.Average(), [(2, 3), ()], r"Average: input 1 of shape \(\) has no batch axis"),
        (jc.Concatenate(), [(2, 3), (2, 3, 1)], "input 0 .* input 1 .* ranks 2 and 3 differ"),
        (jc.Concatenate(), [(2, 3, 1), (2, 4, 1)], "axis 1 has 3 and 4; only axis 2 may differ"),
        (jc.Concatenate(3), [(2, 3)], r"axis=3 of input 0 of shape \(2, 3\), .* 2 axes"),
        (
            jc.Dot((1, 2)),
            [(2, 3), (2, 4, 5)],
            r"of shape \(2, 3\) and input 1 of shape \(2, 4, 5\).*axis 1 has 3 and axis 2",
        ),
        (jc.Dot(1), [(2, 3), (4, 3)], "batch sizes 2 and 4 differ"),
        (jc.Dot(0), [(2, 3), (2, 3)], "names axis 0 of input 0 .*expected 1 to 1"),
        (jc.Dot((1, 3)), [(2, 3), (2, 3)], "names axis 3 of input 1"),
    ],
)
def test_shapes_that_do_not_fit_name_both_inputs(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, shapes)
    with pytest.raises(ValueError, match=message):
        layer.apply_fn({}, [jnp.ones(shape) for shape in shapes])


def test_a_single_array_raises():
    message = r"Add: takes a list of inputs; got one of shape \(2, 3\); give \[x1, x2, ...\]"
    with pytest.raises(TypeError, match=message):
        jc.Add().init(KEY, (2, 3))
    with pytest.raises(TypeError, match=message):
        jc.Add().init(KEY, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match=message):
        jc.Add().apply_fn({}, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="takes a list of inputs"):
        jc.Add().init(KEY, [])
    with pytest.raises(TypeError, match="input 1: Add: got complex input"):
        jc.Add().apply_fn({}, [jnp.ones((2, 3)), jnp.ones((2, 3), complex)])
    with pytest.raises(TypeError, match="input 0: Add: the input is not an array of numbers"):
        jc.Add().apply_fn({}, ["text", jnp.ones((2, 3))])


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.Dot((1, 2, 3)), ValueError, "has 3 entries"),
        (lambda: jc.Dot("last"), TypeError, "axes='last' is not"),
        (lambda: jc.Dot((1, 2.0)), TypeError, "axes=2.0 is not"),
        (lambda: jc.Concatenate(1.5), TypeError, "axis=1.5 is not"),
        (lambda: jc.Add(axis=1), ValueError, "Add: unknown argument 'axis' = 1"),
    ],
)
def test_invalid_options_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()
