"""Embedding: valid ids and their types, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc

KEY = jax.random.key(0)


@pytest.fixture
def table():
    """Return params, apply_fn and the table of a small embedding."""
    params, apply_fn = jc.Embedding(5, 3).init(KEY, (None, 4))
    return params, apply_fn, np.asarray(params["embeddings"])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.float32, np.bool_])
def test_each_id_gives_its_row_whatever_type_it_has(table, kind):
    params, apply_fn, rows = table
    ids = np.array([[0, 1, 1, 0]]).astype(kind)
    np.testing.assert_array_equal(apply_fn(params, ids), rows[ids.astype(int)])


def test_ids_stay_whole_under_half_precision():
    params, apply_fn = jc.Embedding(4099, 2, dtype="bfloat16").init(KEY, (None,))
    y = apply_fn(params, jnp.array([4097, 4098]))  # bfloat16 has steps of 32 there
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, params["embeddings"][jnp.array([4097, 4098])])


def test_sixty_four_bit_ids_stay_so(x64):
    assert jc.Embedding(5, 3).input_dtype(jnp.dtype("int64")) == jnp.int64


def test_an_id_outside_the_table_gives_nan_and_a_negative_one_counts_from_the_end(table):
    params, apply_fn, rows = table
    for function in (apply_fn, jax.jit(apply_fn)):
        y = np.asarray(function(params, jnp.array([[-1, -5, 5, -6]])))[0]
        np.testing.assert_array_equal(y[:2], rows[[4, 0]])
        assert np.isnan(y[2:]).all()


def test_the_gradient_counts_how_often_a_row_was_used(table):
    params, apply_fn, _ = table
    grads = jax.grad(lambda p: apply_fn(p, jnp.array([[0, 3, 3, 1]])).sum())(params)
    np.testing.assert_array_equal(grads["embeddings"], np.array([1, 1, 0, 2, 0])[:, None] * np.ones((1, 3)))


def test_a_constraint_on_the_filter_is_one_on_each_row():
    layer = jc.Embedding(5, 3, "ones", embeddings_constraint=jc.constraints.UnitNorm("filter"))
    params, apply_fn = layer.init(KEY, (None,))
    # the norm has Keras's 1e-7 added
    np.testing.assert_allclose(apply_fn.project(params)["embeddings"], np.full((5, 3), 3**-0.5), rtol=1e-6)


def test_given_weights_are_an_initializer(table):
    _, _, rows = table
    params, _ = jc.Embedding(5, 3, rows).init(KEY, (None,))
    np.testing.assert_array_equal(params["embeddings"], rows)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: jc.Embedding(0, 3), ValueError, "Embedding: input_dim=0 is not positive"),
        (lambda: jc.Embedding(5, 1.5), ValueError, "output_dim=1.5 is not an integer"),
        (lambda: jc.Embedding("5", 3), TypeError, "input_dim is the string '5'"),
        (lambda: jc.Embedding(5, 3).init(KEY, ()), ValueError, "has no batch axis"),
        (lambda: jc.Embedding(5, 3).apply_fn({"embeddings": jnp.ones((5, 3))}, 1j), TypeError, "got complex input"),
    ],
)
def test_invalid_options_and_inputs_raise(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_table_of_numpy_is_taken_as_params_of_all_other_layers_are():
    layer = jc.Embedding(5, 3)
    params, apply_fn = layer.init(jax.random.key(0), (None, 2))
    x = jnp.array([[0, 4]])
    np.testing.assert_array_equal(apply_fn({"embeddings": np.asarray(params["embeddings"])}, x), apply_fn(params, x))
