"""Dtype policies: types of weights, computation and result; names, and errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract.policy import POLICIES, policy, policy_name

LAYERS = [jc.Conv1D(2, 3), jc.Dense(2), jc.BatchNormalization(), jc.MaxPooling1D(2), jc.Flatten(), jc.Dropout(0.5)]


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "float64"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_weights_and_results_have_the_policy_s_types(key, name, layer):
    variable, compute = POLICIES[name]
    layer = dataclasses.replace(layer, dtype=name)
    params, apply_fn = layer.init(key, (2, 6, 3))
    assert all(v.dtype == variable for v in jax.tree.leaves(params))
    y, effects = jax.eval_shape(lambda x: apply_fn.forward(params, x, train=True, key=key), jnp.ones((2, 6, 3)))
    assert y.dtype == compute and effects.penalty.dtype == jnp.float32
    assert all(v.dtype == variable for v in jax.tree.leaves(effects.fixed))


def test_float64(x64, key):
    params, apply_fn = jc.Conv1D(2, 3, dtype="float64", kernel_regularizer="l2").init(key, (2, 6, 3))
    assert params["kernel"].dtype == jnp.float64
    assert apply_fn(params, jnp.ones((2, 6, 3), jnp.float32)).dtype == jnp.float64
    assert apply_fn.penalty(params).dtype == jnp.float64


@pytest.mark.slow
def test_float64_layers_in_containers_have_float64_penalties(x64, key):
    options = {"dtype": "float64", "kernel_regularizer": "l2", "activity_regularizer": "l1"}
    dense = jc.Sequential([jc.Dense(3, **options), jc.Dense(2, **options)])
    turns = jc.Bidirectional(jc.GRU(3, **options), None, jc.GRU(3, go_backwards=True))
    for model in (dense, turns, jc.Sequential([jc.Residual([jc.Dense(3, **options)]), jc.TimeDistributed(dense)])):
        params, apply_fn = model.init(key, (2, 4, 3))
        penalty = apply_fn.forward(params, jnp.ones((2, 4, 3)), train=True)[1].penalty
        assert penalty.dtype == apply_fn.penalty(params).dtype == jnp.float64 and penalty > 0


def test_float32_stays_float32_with_64_bit_types_on(x64, key):
    params, apply_fn = jc.Conv1D(2, 3).init(key, (2, 6, 3))
    assert params["kernel"].dtype == jnp.float32
    assert apply_fn(params, np.ones((2, 6, 3))).dtype == jnp.float32


def test_float64_without_64_bit_types_is_refused_at_init_and_at_apply(key):
    with pytest.raises(ValueError, match=r"Dense: dtype 'float64' needs 64-bit types.*jax_enable_x64"):
        jc.Dense(2, dtype="float64").init(key, (None, 3))
    with pytest.raises(ValueError, match="needs 64-bit types"):
        jc.Flatten(dtype="float64").apply_fn({}, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "given, want",
    [
        (None, None),
        ("mixed_float16", "mixed_float16"),
        (jnp.bfloat16, "bfloat16"),
        (np.float32, "float32"),
        (np.dtype("float16"), "float16"),
        (float, "float64"),
        ({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}, "mixed_bfloat16"),
        ({"class_name": "Policy", "config": {"name": "mixed_float16"}}, "mixed_float16"),  # Keras 2's
    ],
)
def test_forms_of_a_policy(given, want):
    assert policy_name(given, "test") == want


@pytest.mark.parametrize(
    "given", ["int32", "uint8", np.int8, complex, "float", "Float32", "int8_from_float32", object()]
)
def test_policies_that_are_not_valid(given):
    with pytest.raises(ValueError, match=r"Dense: unknown dtype policy .*expected bfloat16, float16, float32, float64"):
        jc.Dense(2, dtype=given)


def test_none_is_float32():
    assert policy(None) == policy("float32")
