"""Transformations of JAX other than jit, grad and vmap: checkpoint policies, jet and checkify."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.experimental.jet import jet
from jax.extend.core import jaxprs_in_params

import jaxconv

RNG = np.random.default_rng(0)
X, W = (jnp.asarray(RNG.standard_normal(shape), jnp.float32) for shape in ((2, 12, 3), (3, 3, 3)))


def conv(x, w):
    return jaxconv.conv1d(x, w, padding="same")


def primitives(jaxpr):
    """Count the primitives of a program, those inside calls too."""
    counts = collections.Counter()
    for equation in jaxpr.eqns:
        counts[equation.primitive.name] += 1
        for inner in jaxprs_in_params(equation.params):
            counts += primitives(inner)
    return counts


@pytest.mark.parametrize(
    ("policy", "forward"), [(jaxconv.convs_saveable, 2), (jax.checkpoint_policies.dots_saveable, 4)]
)
def test_the_policy_saves_convolutions_and_matrix_products(policy, forward):
    def loss(w, v):
        y = jnp.sin(conv(jnp.sin(conv(X, w)), w))
        return jnp.sum(jnp.sin(y @ v))

    program = jax.make_jaxpr(jax.grad(jax.checkpoint(loss, policy=policy), (0, 1)))(W, W[0])
    counts = primitives(program.jaxpr)
    assert counts["conv_convolve"] == forward
    assert counts["dot_general"] == 3  # one, and its two gradients: dots are saved by both
    got, want = (jax.grad(f)(W, W[0]) for f in (jax.checkpoint(loss, policy=policy), loss))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("function", [conv, lambda x, w: jax.vjp(conv, x, w)[1](conv(x, w))], ids=["conv", "gradients"])
def test_jet_agrees_with_nested_derivatives(function, x64):
    x, w = (jnp.asarray(array, jnp.float64) for array in (X, W))

    def along(t):
        return function(x + t * x[::-1], w + jnp.sin(t) * w[::-1])

    _, series = jet(along, (0.3,), ([1.0, 0.0, 0.0],))
    derivatives = [jax.jacfwd(along), jax.jacfwd(jax.jacfwd(along)), jax.jacfwd(jax.jacfwd(jax.jacfwd(along)))]
    wants = [derivative(0.3) for derivative in derivatives]
    if isinstance(series, tuple):  # of several outputs: a series for each
        wants = list(zip(*wants, strict=True))
    for got, want in zip(jax.tree.leaves(series), jax.tree.leaves(wants), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_checkify_reports_the_nan_of_a_convolution_at_the_next_operation():
    checked = checkify.checkify(lambda x, w: conv(x, w) + 1, errors=checkify.nan_checks)
    error, _ = checked(X * jnp.nan, W)
    assert "nan" in error.get()
