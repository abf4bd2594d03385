"""What takes the place of the methods of Keras's models, which layers here do not have."""

from typing import Any

_INSTEAD = {
    "add": "give all layers in one list: Sequential([...])",
    "build": "params, apply_fn = model.init(jax.random.key(0), (None, 128, 16))",
    "compile": "loss, optimizer and metrics are arguments of jaxconv.training.fit",
    "evaluate": "jaxconv.training.evaluate(apply_fn, params, x, y, loss=...)",
    "fit": "fitted = jaxconv.training.fit(apply_fn, params, x, y, loss=..., optimizer=...)",
    "get_layer": "model.children[name] is a layer, and params[name] its weights",
    "get_weights": "the weights are in params, as returned by model.init",
    "load_weights": "params = jaxconv.load_weights(path, model, params)",
    "pop": "give the layers that are left in one list: Sequential([...])",
    "predict": "jaxconv.training.predict(apply_fn, params, x), or apply_fn(params, x)",
    "save": "jaxconv.save_model(path, model, params)",
    "set_weights": "the weights are in params, which apply_fn takes",
    "trainable_variables": "trainable, fixed = apply_fn.split(params)",
    "trainable_weights": "trainable, fixed = apply_fn.split(params)",
}


def missing_attribute(layer: Any, name: str) -> Any:
    """Raise AttributeError for an attribute that a layer lacks, with what to call in place of a method of Keras."""
    if name in _INSTEAD:
        raise AttributeError(f"{type(layer).__name__} has no {name!r}: a layer holds no weights; {_INSTEAD[name]}")
    return object.__getattribute__(layer, name)  # raises; for a property its own error
