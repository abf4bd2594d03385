"""Keras 3 on JAX as an oracle: the module, its promotion rules, and a comparison for any layer."""

import contextlib
import dataclasses
import functools
import inspect
import json
import operator
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.contract import layers, merge

os.environ["KERAS_BACKEND"] = "jax"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # warnings of Keras's imports
    keras = pytest.importorskip("keras")

KEY = jax.random.key(0)


@contextlib.contextmanager
def keras_rules():
    """Use JAX's default promotion rules, which Keras needs; the tests use strict ones."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def theirs(layer, shape):
    """Build Keras's layer from our config, without initial values, and check that its config gives our layer.

    Keras would compile each of its initializers.
    """
    bare = dataclasses.replace(layer, **dict.fromkeys(layer.call_options, False)) if layer.call_options else layer
    other = keras.layers.deserialize(json.loads(json.dumps(layers.serialize(bare))))
    assert_config_round_trip(bare, other)
    shapes = [(None, *one[1:]) for one in (shape if isinstance(shape, list) else [shape])]
    with keras_rules(), keras.StatelessScope(initialize_variables=False):
        other.build(*(shapes[:3] if layer.input_names else [shapes if isinstance(shape, list) else shapes[0]]))
    return other


def keras_arguments(layer, x):
    """Return the arguments with which Keras calls a layer on an input."""
    if not layer.input_names:
        return (x,), {}
    named = dict(zip(layer.input_names, x, strict=False))
    options = {name: True for name in layer.call_options if getattr(layer, name)}
    return (named.pop("query"), named.pop("value")), named | options


def without_names(layer):
    """Return the config without the keys that Keras adds or drops, and with the factors that it rounds to float32."""

    def strip(config):
        if isinstance(config, list):
            return [strip(v) for v in config]
        if not isinstance(config, dict):
            return config
        dropped = {"name", "trainable", "dtype"} if "layers" in config else {"name"}
        kept = {k: strip(v) for k, v in config.items() if k not in dropped}
        if "dtype" in kept:
            kept["dtype"] = kept["dtype"] or "float32"
        return kept | {k: float(np.float32(kept[k])) for k in ("l1", "factor") if k in kept}

    return strip(json.loads(json.dumps(layer.get_config())))


def assert_config_round_trip(layer, other):
    """Check that the config of Keras's layer gives our layer."""
    again = layers.get(json.loads(json.dumps(keras.layers.serialize(other))))
    assert type(again) is type(layer)
    assert without_names(again) == without_names(layer)


def paths(layer):
    """Return the paths of all weights of a layer in the order of Keras's variables."""
    inside = [(name, *path) for name, child in layer.children.items() for path in paths(child)]
    return [*layer.keras_variables, *(path for path in inside if path not in layer.keras_variables)]


def keras_values(params, layer):
    """Return our params in the order of Keras's (trainable, non-trainable) variables."""
    found = [
        [functools.reduce(operator.getitem, path, part) for path in paths(layer)]
        for part in layer.apply_fn.split(params)
    ]
    return [[value for value in values if value is not None] for values in found]


def random_params(layer, shape, rng):
    """Return normal random params without running an initializer; variances and deviations are positive."""

    def value(path, like):
        positive = path[-1].key.endswith(("variance", "stddev"))
        drawn = rng.normal(size=like.shape)
        return jnp.asarray(np.abs(drawn) + 0.5 if positive else drawn, like.dtype)

    return jax.tree.map_with_path(value, jax.eval_shape(lambda: layer.init(KEY, shape)[0]))


def assert_close(got, want, what, rtol=1e-5):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    # Relative to the largest entry, because terms of order 1 cancel in single entries. If all entries are below 0.1,
    # dozens of terms cancelled, with rounding errors of up to 1e-6.
    scale = max(np.abs(want).max(initial=0), 0.1)
    np.testing.assert_allclose(got, want, rtol=0, atol=rtol * scale, err_msg=what)


def compare(layer, shape, seed=0, train=False):
    """Compare a layer with Keras's on random weights and a random input.

    Compares the config round trip, the output, the statistics after the call, all penalties, the gradients of output
    and penalties with respect to weights and input, and the constrained weights.
    """
    rng = np.random.default_rng(seed)
    params, apply_fn = random_params(layer, shape, rng), layer.apply_fn
    is_shape = lambda one: isinstance(one, tuple)  # noqa: E731
    x = jax.tree.map(lambda one: jnp.asarray(rng.normal(size=one), jnp.float32), shape, is_leaf=is_shape)
    weight = jnp.asarray(rng.normal(size=layer.output_shape(shape)), jnp.float32)
    other = theirs(layer, shape)
    trainable, fixed = apply_fn.split(params)
    mine = keras_values(params, layer)
    assert [v.shape for v in mine[0]] == [tuple(v.shape) for v in other.trainable_variables]
    seeds = [np.zeros(v.shape, v.dtype) for v in other.non_trainable_variables if "seed" in v.path]
    flags = {"training": train} if "training" in inspect.signature(other.call).parameters else {}

    def ours(trainable, x):
        params = merge(trainable, fixed)
        y, effects = apply_fn.forward(params, x, train=train)
        penalty = effects.penalty + apply_fn.penalty(params)
        return jnp.sum(weight * y) + penalty, (y, penalty, effects.fixed)

    def keras_loss(trainable, x):
        variables = [*other.trainable_variables, *other.non_trainable_variables]
        values = list(zip(variables, [*trainable, *mine[1], *seeds], strict=True))
        # stateless_call omits the activity regularizer of the layer itself
        with keras.StatelessScope(values, collect_losses=True) as scope:
            args, named = keras_arguments(layer, x)
            y, penalty = other(*args, **named, **flags), jnp.asarray(sum(other.losses), jnp.float32)
        state = [scope.get_current_value(v) for v in other.non_trainable_variables]
        return jnp.sum(weight * y) + penalty, (y, penalty, state)

    @jax.jit  # one program for both, because compiling takes most of the time
    def both(trainable, flat, x):
        ours_of = jax.value_and_grad(ours, (0, 1), has_aux=True)(trainable, x)
        projected = apply_fn.project(merge(trainable, fixed))
        with keras_rules():
            bound = [
                v.constraint(w) if v.constraint else w for v, w in zip(other.trainable_variables, flat, strict=True)
            ]
            return (ours_of, projected), (jax.value_and_grad(keras_loss, (0, 1), has_aux=True)(flat, x), bound)

    (got, projected), (want, bound) = both(trainable, mine[0], x)
    ((_, (y, penalty, new)), (grads, x_grad)), ((_, (want_y, want_penalty, state)), (want_grads, want_x)) = got, want
    assert_close(y, want_y, "output")
    assert_close(penalty, want_penalty, "penalties")
    for one, wanted in zip(jax.tree.leaves(x_grad), jax.tree.leaves(want_x), strict=True):
        assert_close(one, wanted, "input gradient")
    full_grads = merge(grads, jax.tree.map(jnp.zeros_like, fixed))
    for one, wanted in zip(keras_values(full_grads, layer)[0], want_grads, strict=True):
        assert_close(one, wanted, "weight gradient")
    for one, wanted in zip(keras_values(merge(trainable, new), layer)[1], state, strict=False):
        assert_close(one, wanted, "statistics")
    if not isinstance(layer, jc.SpectralNormalization):  # ours divides the kernel in project, Keras in the call
        for one, wanted in zip(keras_values(projected, layer)[0], bound, strict=True):
            assert_close(one, wanted, "weight under its constraint")


def assert_file_goes_back(make, inputs, folder, ending="keras"):
    """Check that a file of Keras is read with the model's outputs, and that what jaxconv writes of it is the same.

    Args:
        make: builds the model. inputs: returns inputs for a model. folder: where files are written.
    """
    with keras_rules(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own
        model = make()
        x = inputs(model)
        want = np.asarray(model(x))
        model.save(folder / f"model.{ending}")
    params, apply_fn = jc.load_model(folder / f"model.{ending}")
    np.testing.assert_allclose(apply_fn(params, x), want, rtol=0, atol=1e-5)  # the order of sums in float32
    jc.save_model(folder / "again.keras", apply_fn.layer, params)
    with keras_rules():
        np.testing.assert_allclose(keras.models.load_model(folder / "again.keras")(x), want, rtol=0, atol=1e-5)
    assert jc.load_model(folder / "again.keras")[1] == apply_fn
