"""Replacements for the checks of Keras's ``TestCase``: ``run_layer_test`` and the config round trip."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv import merge
from tests.keras_suite.adapter import StandIn, Symbol, arrays, is_leaf, is_symbolic
from tests.support.keras_oracle import keras


def run_class_serialization_test(self: Any, instance: Any, custom_objects: Any = None) -> Any:
    """Check that a config round-trips through JSON, for the stand-in and for the layer."""
    config = instance.get_config()
    revived = type(instance).from_config(json.loads(json.dumps(config)))
    self.assertEqual(config, revived.get_config())
    mine = instance.layer if isinstance(instance, StandIn) else instance
    self.assertEqual(mine, type(mine).from_config(json.loads(json.dumps(mine.get_config()))))
    return revived


def run_layer_test(
    self: Any,
    layer_cls: Any,
    init_kwargs: dict[str, Any],
    input_shape: Any = None,
    input_dtype: Any = None,
    input_data: Any = None,
    call_kwargs: Any = None,
    expected_output_shape: Any = None,
    expected_output_dtype: Any = None,
    expected_output: Any = None,
    expected_num_trainable_weights: int | None = None,
    expected_num_non_trainable_weights: int | None = None,
    expected_num_non_trainable_variables: int | None = None,
    expected_num_seed_generators: int | None = None,
    expected_num_losses: int | None = None,
    run_training_check: bool = True,
    run_mixed_precision_check: bool = True,
    **unchecked: Any,
) -> None:
    """Check config round trip, weight counts, output shape (declared, symbolic, computed), dtypes, one gradient step.

    Ignores ``supports_masking``, because masks are arguments here, and ``assert_built_after_instantiation``.
    """
    call_kwargs = call_kwargs or {}
    if unchecked.get("expected_output_sparse") or unchecked.get("input_ragged"):
        self.fail("jaxconv has no sparse or ragged arrays")
    run_class_serialization_test(self, layer_cls(**init_kwargs))
    if input_data is None and input_shape is None:
        return
    data = input_data if input_data is not None else draw(input_shape, input_dtype or "float32")

    def check(layer: Any, y: Any) -> None:
        for weights, expected in [
            (layer.trainable_weights, expected_num_trainable_weights),
            (layer.non_trainable_weights, expected_num_non_trainable_weights),
        ]:
            if expected is not None:
                self.assertLen(weights, expected)
        if expected_num_seed_generators is not None:
            self.assertEqual(expected_num_seed_generators, int(layer.needs_key))
        if expected_output_shape is not None:
            self.assertEqual(len(y.shape), len(expected_output_shape))
            for given, wanted in zip(y.shape, expected_output_shape, strict=True):
                self.assertTrue(wanted is None or given == wanted, f"{y.shape} is not {expected_output_shape}")
        if expected_output_dtype is not None:
            self.assertDType(y, expected_output_dtype)

    shapes = jax.tree.map(np.shape, arrays(data))
    layer = layer_cls(**init_kwargs)
    layer.build(shapes if input_shape is None else input_shape)
    declared = layer.compute_output_shape(shapes)

    inputs = jax.tree.map(lambda x: keras.KerasTensor(x.shape, dtype=str(x.dtype)), data, is_leaf=is_leaf)
    layer = layer_cls(**init_kwargs)
    y = layer(inputs)
    self.assertIsInstance(y, Symbol)
    check(layer, y)

    layer = layer_cls(**init_kwargs)
    y = layer(data, **call_kwargs)
    check(layer, y)
    self.assertEqual(tuple(declared), tuple(y.shape))
    if expected_output is not None:
        self.assertAllClose(expected_output, y)
    if expected_num_losses is not None:
        self.assertLen(layer.losses, expected_num_losses)
    if run_training_check:
        gradient_step(self, layer, data)
    if run_mixed_precision_check:
        layer = layer_cls(**{**init_kwargs, "dtype": "mixed_float16"})
        self.assertDType(layer(data, **call_kwargs), "float16")
        for weight in layer.weights:
            self.assertDType(weight, "float32")


def draw(shape: Any, dtype: Any) -> Any:
    """Return random inputs in [0, 3), as Keras does, for one shape or a list of shapes."""
    if shape and isinstance(shape[0], list | tuple):
        dtypes = dtype if isinstance(dtype, list | tuple) else [dtype] * len(shape)
        return [draw(one, kind) for one, kind in zip(shape, dtypes, strict=True)]
    return jnp.asarray(np.random.default_rng(0).uniform(size=shape) * 3).astype(dtype)


def gradient_step(self: Any, layer: Any, data: Any) -> None:
    """Take one gradient descent step on the sum of the outputs in training mode."""
    apply_fn = layer.apply_fn
    trainable, fixed = apply_fn.split(layer.params)

    def loss(trainable: Any) -> Any:
        y, effects = apply_fn.forward(merge(trainable, fixed), arrays(data), train=True, key=jax.random.key(1))
        return jnp.sum(y).astype(jnp.float32) + effects.penalty

    gradient = jax.jit(jax.grad(loss))(trainable)
    stepped = jax.tree.map(lambda w, g: w - 0.01 * g, trainable, gradient)
    params = apply_fn.project(merge(stepped, fixed))
    self.assertEqual(jax.tree.map(jnp.shape, params), jax.tree.map(jnp.shape, layer.params))
    for leaf in jax.tree.leaves(params):
        self.assertTrue(bool(jnp.isfinite(leaf).all()), "a weight is not finite after one step")
    self.assertFalse(is_symbolic(params))
