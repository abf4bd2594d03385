"""Curvature against known spectra and ``jax.hessian``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxconv as jc
from jaxconv.contract import merge
from jaxconv.inspect import curvature
from jaxconv.inspect.lanczos import largest, quadrature


def network(key):
    """Return (loss of the trainable half, the trainable half, its dense Hessian) of a small network."""
    layers = [jc.Dense(3, activation="tanh"), jc.BatchNormalization(), jc.Dense(1)]
    params, apply_fn = jc.Sequential(layers).init(key, (None, 2))
    trainable, fixed = apply_fn.split(params)
    x = jax.random.normal(key, (5, 2))

    def loss(trainable):
        return jnp.mean(jnp.square(apply_fn(merge(trainable, fixed), x) - 1))

    flat, unravel = ravel_pytree(trainable)
    return loss, trainable, jax.hessian(lambda flat: loss(unravel(flat)))(flat)


@pytest.mark.slow
def test_a_network_has_the_eigenvalues_of_its_hessian(key):
    loss, trainable, hessian = network(key)
    found = curvature(loss, trainable, key, top=3)
    values, vectors = np.linalg.eigh(np.asarray(hessian, np.float64))
    np.testing.assert_allclose(found.eigenvalues, values[::-1][:3], rtol=1e-4)
    assert jax.tree.structure(found.eigenvectors[0]) == jax.tree.structure(trainable)
    flat = ravel_pytree(found.eigenvectors[0])[0]
    np.testing.assert_allclose(abs(flat @ vectors[:, -1]), 1, rtol=1e-3)
    assert found.residuals.max() <= 1e-3 * values[-1]
    assert abs(found.trace - values.sum()) <= 3 * found.trace_error


@pytest.mark.slow
def test_a_quadratic_loss_has_the_spectrum_that_it_was_built_with(x64, key):
    rng = np.random.default_rng(0)
    spectrum = np.array([7.0, 7, 7, 4, *rng.uniform(-5, 2, 116)])  # a value three times; negative ones
    rotation = np.linalg.qr(rng.standard_normal((120, 120)))[0]
    hessian = jnp.asarray(rotation * spectrum @ rotation.T)

    def loss(params):
        x = jnp.concatenate([params["a"].ravel(), params["b"]])
        return 0.5 * x @ hessian @ x

    params = {"a": jnp.ones((4, 10)), "b": jnp.zeros(80), "none": None}
    found = curvature(loss, params, key, top=4, density=True)
    np.testing.assert_allclose(found.eigenvalues, [7, 7, 7, 4], rtol=1e-9)
    assert found.eigenvectors[3]["none"] is None and found.eigenvectors[3]["a"].shape == (4, 10)
    assert abs(found.trace - spectrum.sum()) <= 3 * found.trace_error
    for power in (0, 1, 2):  # the mean over 4 random vectors
        error = np.std(spectrum**power) * np.sqrt(2 / (4 * 120))
        np.testing.assert_allclose(found.weights @ found.nodes**power, np.mean(spectrum**power), atol=3 * error + 1e-12)
    lowest = curvature(lambda params: -loss(params), params, key, trace=False)
    np.testing.assert_allclose(-lowest.eigenvalues, spectrum.min(), rtol=1e-9)
    assert lowest.trace is None and lowest.nodes is None
    # random signs have no error where the Hessian is diagonal
    diagonal = curvature(lambda x: jnp.sum(jnp.arange(5.0) * x**2), jnp.ones(5), key)
    np.testing.assert_allclose([diagonal.trace, diagonal.trace_error], [20, 0], atol=1e-12)


@pytest.mark.parametrize("size", [1, 20])
def test_lanczos_finds_all_eigenvalues_of_a_small_matrix(size):
    rng = np.random.default_rng(size)
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    found = largest(lambda v: matrix @ v, size, size, rng, 1e-12)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-10)
    np.testing.assert_allclose(matrix @ found.vectors, found.vectors * found.values, atol=1e-9)


@pytest.mark.slow
def test_lanczos_restarts_and_warns_where_the_products_do_not_suffice():
    rng = np.random.default_rng(0)
    slow = np.linspace(0, 1, 500) ** 2  # a basis of 100 vectors does not suffice
    np.testing.assert_allclose(largest(lambda v: slow[:, None] * v, 500, 2, rng, 1e-8).values, slow[:-3:-1], rtol=1e-9)
    with pytest.warns(RuntimeWarning, match="20 products"):
        largest(lambda v: slow[:, None] * v, 500, 2, rng, 1e-12, products=20)


def test_quadrature_is_exact_for_polynomials():
    rng = np.random.default_rng(0)
    values, start = rng.uniform(-1, 1, 60), rng.standard_normal(60)
    start /= np.linalg.norm(start)
    nodes, weights = quadrature(lambda v: values[:, None] * v, start, 6)
    for power in range(12):
        np.testing.assert_allclose(weights @ nodes**power, start**2 @ values**power, atol=1e-12)


def test_what_has_no_curvature_is_an_error(key):
    def square(x):
        return jnp.sum(x**2)

    for top in (0, 4, True, 1.5):
        with pytest.raises(ValueError, match=rf"top={top}.*3"):
            curvature(square, jnp.ones(3), key, top)
    with pytest.raises(ValueError, match="samples=0"):
        curvature(square, jnp.ones(3), key, samples=0)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        curvature(lambda x: x**2, jnp.ones(3), key)
    with pytest.raises(TypeError, match=r"\['steps'\].*int32"):
        curvature(lambda p: square(p["w"]), {"w": jnp.ones(3), "steps": jnp.zeros(2, jnp.int32)}, key)
    with pytest.raises(ValueError, match="not finite"):
        curvature(lambda x: jnp.sum(jnp.sqrt(x)), jnp.zeros(3), key)
    with pytest.raises(TypeError, match="key"):
        curvature(square, jnp.ones(3), 0)
