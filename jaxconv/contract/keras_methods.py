"""Hints for methods and attributes of Keras's models that layers here do not have."""

from typing import Any

_SPLIT = "trainable, fixed = apply_fn.split(params)"
_INSTEAD = {
    "add": "give all layers in one list: Sequential([...])",
    "bias": "it is params['bias'], or params[name]['bias'] for a layer of a model",
    "build": "params, apply_fn = model.init(jax.random.key(0), (None, 128, 16))",
    "compile": "loss, optimizer and metrics are arguments of jaxconv.training.fit",
    "count_params": "model.summary(input_shape) counts them, as does sum(w.size for w in jax.tree.leaves(params))",
    "evaluate": "jaxconv.training.evaluate(apply_fn, params, x, y, loss=...)",
    "fit": "fitted = jaxconv.training.fit(apply_fn, params, x, y, loss=..., optimizer=...)",
    "get_layer": "model[name] is the layer, and params[name] its weights",
    "get_weights": "the weights are in params, as returned by model.init",
    "kernel": "it is params['kernel'], or params[name]['kernel'] for a layer of a model",
    "load_weights": "params = jaxconv.load_weights(path, model, params)",
    "losses": "apply_fn.penalty(params) for weights, and for outputs apply_fn.forward(params, x)[1].penalty",
    "non_trainable_variables": _SPLIT,
    "non_trainable_weights": _SPLIT,
    "pop": "give the layers that are left in one list: Sequential([...])",
    "predict": "jaxconv.training.predict(apply_fn, params, x), or apply_fn(params, x)",
    "predict_on_batch": "apply_fn(params, x)",
    "save": "jaxconv.save_model(path, model, params)",
    "save_weights": "jaxconv.save_params(path, params), or jaxconv.save_model(path, model, params)",
    "set_weights": "the weights are in params, which apply_fn takes",
    "to_json": "json.dumps(model.get_config()), which type(model).from_config(json.loads(text)) reads",
    "train_on_batch": "step = jaxconv.training.train_step(apply_fn, loss, optimizer), then step(state, x, y, key)",
    "trainable_variables": _SPLIT,
    "trainable_weights": _SPLIT,
    "variables": "the weights are in params, as returned by model.init",
}


def missing_attribute(layer: Any, name: str) -> Any:
    """Raise AttributeError for an attribute that a layer lacks, with a hint if Keras has that name."""
    cls = type(layer)
    if name in _INSTEAD and not hasattr(cls, name) and name not in cls.__dataclass_fields__:
        raise AttributeError(f"{cls.__name__} has no {name!r}: a layer stores no weights; {_INSTEAD[name]}")
    return object.__getattribute__(layer, name)  # raises; for a property its own error
