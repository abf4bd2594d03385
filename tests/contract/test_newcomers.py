"""Common first mistakes raise errors that say what to write instead."""

import dataclasses
import json
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv as jc
from jaxconv.models.container import count_names
from tests.support.messages import facts

LAYER = jc.Dense(2)
PARAMS, APPLY = LAYER.init(jax.random.key(0), (None, 3))
X = jnp.ones((1, 3))
MISTAKES = {
    **{
        name: (
            lambda name=name: getattr(jc.Sequential([LAYER]), name),
            AttributeError,
            ["Sequential", repr(name), instead],
        )
        for name, instead in {
            "fit": "jaxconv.training.fit(apply_fn, params, x, y",
            "compile": "jaxconv.training.fit",
            "predict": "jaxconv.training.predict(apply_fn, params, x)",
            "save": "jaxconv.save_model(path, model, params)",
            "get_layer": "model[name] is the layer, and params[name]",
            "kernel": "params['kernel'], or params[name]['kernel']",
            "bias": "params['bias'], or params[name]['bias']",
            "losses": "apply_fn.penalty(params)",
            "non_trainable_variables": "trainable, fixed = apply_fn.split(params)",
            "non_trainable_weights": "trainable, fixed = apply_fn.split(params)",
            "train_on_batch": "jaxconv.training.train_step(apply_fn, loss, optimizer)",
            "predict_on_batch": "apply_fn(params, x)",
            "save_weights": "jaxconv.save_params(path, params)",
            "count_params": "model.summary(input_shape)",
            "to_json": "json.dumps(model.get_config())",
            "variables": "in params, as returned by model.init",
            "nothing": "no attribute",
        }.items()
    },
    "train": (lambda: APPLY(PARAMS, X, train=True), TypeError, ["Dense", "'train'", "forward(params, x, train=True"]),
    "training": (lambda: APPLY.forward(PARAMS, X, training=True), TypeError, ["Dense", "'training'", "'train'?"]),
    "layers without a list": (
        lambda: jc.Sequential(LAYER, LAYER),
        TypeError,
        ["Sequential", "2 arguments", "Sequential(layers)", "list"],
    ),
    "too many options": (lambda: jc.Dropout(0.5, None, 0, 1, 2), TypeError, ["Dropout", "5 arguments", "rate"]),
    "array for params": (
        lambda: APPLY(X, PARAMS),
        ValueError,
        ["Dense", "array of shape (1, 3)", "['bias', 'kernel']"],
    ),
    "list for params": (lambda: APPLY([1], X), ValueError, ["Dense", "of type list", "['bias', 'kernel']"]),
    "traced shape": (
        lambda: jax.jit(LAYER.init)(jax.random.key(0), (None, 3)),
        TypeError,
        ["Dense", "static_argnums=1"],
    ),
    "save dict": (
        lambda: jc.save_model("m.keras", PARAMS, LAYER),
        TypeError,
        ["save_model(path, layer, params)", "dict"],
    ),
    "save first": (lambda: jc.save_model(LAYER, PARAMS, "m.keras"), TypeError, ["save_model(path, layer, params)"]),
    **{
        f"{wrong[0]} for {wrong[1]} of {name}": (f, TypeError, [name, *wrong])
        for name, f, wrong in [
            ("save_model", lambda: jc.save_model("m.keras", LAYER, None), ["NoneType", "dict"]),
            ("optimize", lambda: jc.optimize(LAYER, X), ["(1, 3)", "dict"]),
            ("params_to_torch", lambda: jc.params_to_torch(LAYER, [X]), ["list", "dict"]),
            ("params_to_torch", lambda: jc.params_to_torch(PARAMS, LAYER), ["layer", "dict"]),
            ("params_from_torch", lambda: jc.params_from_torch({}, LAYER), ["dict", "layer"]),
            ("observe", lambda: jc.inspect.observe(LAYER, None, X), ["NoneType", "dict"]),
        ]
    },
    "lowering": (lambda: jc.lowering(["xla"]).__enter__(), ValueError, ["xla", "expected"]),
    "kernel None": (lambda: jc.conv1d(jnp.ones((1, 5, 3)), None), TypeError, ["conv1d", "kernel", "NoneType"]),
    "input of text": (lambda: jc.conv1d("x", jnp.ones((3, 3, 3))), TypeError, ["conv1d", "input", "str"]),
    "no sharding": (
        lambda: jc.inspect.communication(LAYER, X),
        TypeError,
        ["Dense", "NamedSharding", type(X).__name__],
    ),
    "optimize": (lambda: jc.optimize(PARAMS, LAYER), TypeError, ["optimize(layer, params)", "dict"]),
    "load_weights": (
        lambda: jc.load_weights("m.keras", PARAMS, LAYER),
        TypeError,
        ["load_weights(path, layer,", "dict"],
    ),
    **{
        f"{name} of a symbolic tensor": (
            lambda call=call: call(jc.Input((8, 3))),
            TypeError,
            ["SymbolicTensor", "(None, 8, 3)", "no values"],
        )
        for name, call in {
            "condition": bool,
            "float": float,
            "mean": np.mean,
            "stack": lambda x: jnp.stack([x]),
        }.items()
    },
    "Model of arrays": (
        lambda: jc.Model(np.ones((99, 3)), X),
        TypeError,
        ["Model", "inputs", "array of shape (99, 3)"],
    ),
    "stream params": (lambda: jc.stream(LAYER, PARAMS), TypeError, ["Dense", "a dict as a shape"]),
    "export shape first": (
        lambda: jc.export(APPLY, PARAMS, (None, 3), "m.jaxexport"),
        TypeError,
        ["export(apply_fn, params, path, input_shape)", "path is of type tuple"],
    ),
    "export float": (
        lambda: jc.export(APPLY, PARAMS, "m.jaxexport", (None, 3.0)),
        TypeError,
        ["input shape (None, 3.0)"],
    ),
    "custom_objects": (lambda: jc.load_model("m", custom_objects=["a"]), TypeError, ["custom_objects=['a']", "dict"]),
    "custom_layers": (lambda: jc.load_model("m", {"A": 3}), TypeError, ["custom_layers", "3 for 'A'", "factory"]),
    "Keras's schedule": (
        lambda: jc.training.schedule({"class_name": "CosineDecay", "config": {}}),
        ValueError,
        ["schedule", "'CosineDecay'", "'name'", "cosine_decay"],
    ),
    "negative rate": (
        lambda: jc.training.schedule({"name": "linear", "init_value": 0.1, "end_value": -0.1}, 5),
        ValueError,
        ["linear", "step 5", "-0.1"],
    ),
    "shuffle": (
        lambda: jc.training.fit(APPLY, PARAMS, X, X[:, :2], loss="mse", shuffle="no"),
        ValueError,
        ["shuffle", "'no'", "True or False"],
    ),
}


def test_the_error_inside_a_property_is_not_hidden():
    class Odd(jc.Layer):
        @property
        def wide(self):
            return self.widht

    with pytest.raises(AttributeError, match="widht"):
        _ = Odd().wide
    assert not hasattr(Odd(), "fit") and jc.Dense(2) == jc.Dense(2)


def test_a_name_that_a_layer_uses_itself_is_not_taken_for_keras():
    @dataclasses.dataclass(frozen=True)
    class Uses(jc.Layer):
        kernel: int = 3

        @property
        def losses(self):
            return self.lossez

    assert Uses().kernel == 3 and callable(jc.WeightNormalization(LAYER).kernel)
    with pytest.raises(AttributeError, match="lossez"):
        _ = Uses().losses


def test_the_hints_in_place_of_keras_methods_work():
    model = jc.Sequential([jc.Conv1D(4, 3, kernel_regularizer="l2"), jc.BatchNormalization()])
    params, apply_fn = model.init(jax.random.key(0), (None, 8, 2))
    assert model["conv1d"] == model.children["conv1d"] and params["conv1d"]["kernel"].shape == (3, 2, 4)
    assert apply_fn.penalty(params) > 0 and apply_fn.forward(params, jnp.ones((1, 8, 2)))[1].penalty == 0
    assert apply_fn.split(params)[1]["batch_normalization"]["moving_mean"] is not None
    total = model.summary((None, 8, 2), print_fn=None)[0]
    assert total.trainable + total.fixed == sum(w.size for w in jax.tree.leaves(params))
    assert type(model).from_config(json.loads(json.dumps(model.get_config()))) == model
    assert callable(jc.training.train_step) and callable(jc.save_params)


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_answered_by_what_is_right(kind):
    mistake, error, parts = MISTAKES[kind]
    with pytest.raises(error, match=facts(*parts)):
        mistake()


def test_only_layers_of_one_dimension_are_offered_causal_padding():
    with pytest.raises(ValueError, match="causal"):
        jc.Conv1D(2, 3, padding="cusal")
    for wrong in ("cusal", 3, [(1, 1)]):
        with pytest.raises((ValueError, TypeError)) as caught:
            jc.Conv2D(2, 3, padding=wrong)
        assert "'causal', or" not in str(caught.value) and "expected causal" not in str(caught.value)
    assert jc.Conv2D(2, 3, padding=("causal", "same")).padding[0] == "causal"


def test_an_apply_fn_stands_for_its_layer(tmp_path):
    pytest.importorskip("h5py")
    jc.save_model(tmp_path / "m.keras", APPLY, PARAMS)
    params, apply_fn = jc.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(apply_fn(params, X), APPLY(PARAMS, X))
    assert jc.optimize(APPLY, PARAMS)[0] == LAYER
    assert jc.stream(APPLY, (None, None, 3)).layer == LAYER


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_load_model_refuses_are_not_saved(wrong, tmp_path):
    pytest.importorskip("h5py")
    jc.save_model(tmp_path / "m.keras", LAYER, PARAMS)
    whole = (tmp_path / "m.keras").read_bytes()
    with pytest.raises(jc.FileError, match=facts("m.keras", "kernel", "NaN" if np.isnan(wrong) else "infinity")):
        jc.save_model(tmp_path / "m.keras", LAYER, {**PARAMS, "kernel": PARAMS["kernel"].at[0, 0].set(wrong)})
    assert (tmp_path / "m.keras").read_bytes() == whole


def test_training_is_there_after_importing_jaxconv():
    code = "import sys, jaxconv; assert 'optax' not in sys.modules; print(jaxconv.training.fit.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "fit\n"
    with pytest.raises(AttributeError, match="'trainig'"):
        _ = jc.trainig


def test_names_of_many_layers_are_counted_in_linear_time():
    named = [types.SimpleNamespace(name=f"n{number}") for number in range(20_000)]
    start = time.perf_counter()
    assert len(count_names(named, "Sequential")) == 20_000
    assert time.perf_counter() - start < 1  # 10 ms; 10 s if each name is looked for in the list of all
    with pytest.raises(ValueError, match=facts("2 layers", "'n7'")):
        count_names([*named, named[7]], "Sequential")
