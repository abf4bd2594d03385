"""Rematerialized blocks: the same numbers and derivatives, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.models import remat


def block(filters):
    return jc.Sequential([jc.Conv1D(filters, 3, padding="causal"), jc.BatchNormalization(), jc.Dropout(0.2), jc.ReLU()])


def model(kind):
    if kind == "sequential":
        return jc.Sequential([jc.Masking(), *(block(4) for _ in range(4)), jc.Dense(1)])
    x = inputs = jc.Input((64, 4))
    for _ in range(3):
        x = jc.Add()([x, block(4)(x)])
    return jc.Model(inputs, [x, jc.GlobalAveragePooling1D()(x)])


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", ["sequential", "model"])
def test_blocks_that_are_computed_again_change_no_number_and_need_less_memory(kind):
    """Temporaries of the compiled program, of the loss and its gradient."""
    x = np.random.default_rng(0).normal(size=(8, 64, 4)).astype(np.float32)
    x[:4, 40:] = 0
    params, apply_fn = model(kind).init(jax.random.key(0), x.shape)
    results, (trainable, fixed) = [], apply_fn.split(params)
    for functions in (apply_fn, remat(apply_fn)):

        def loss(trainable, x, functions=functions):
            y, effects = functions.forward(jc.merge(trainable, fixed), x, train=True, key=jax.random.key(1))
            return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(y)), effects

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)).lower(trainable, x).compile()
        results.append((step(trainable, x), step.memory_analysis().temp_size_in_bytes))
    (one, whole), (other, less) = results
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)
    assert less < 0.85 * whole
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_a_model_without_layers_inside_is_refused():
    with pytest.raises(ValueError, match="Dense"):
        remat(jc.Dense(1).apply_fn)
