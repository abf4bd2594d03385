"""Optimization of a model for inference: layers for training are removed, scales and shifts are folded."""

import jax.numpy as jnp

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.models import Model, Sequential
from jaxconv.models.container import Container
from jaxconv.serving.folding import as_affine, fold_input_affine, fold_output_affine, simplified
from jaxconv.serving.wiring import Step, Wiring


def optimize(layer: Layer | Apply, params: Params) -> tuple[Layer, Params]:
    """Return a layer and params that compute the same at inference with less work.

    * Layers that do nothing at inference are removed: dropout and noise, Identity, ActivityRegularization, linear
      activations.
    * A batch normalization is folded into the convolution or dense layer before it: kernel and bias are scaled, once,
      in float64. If there is none, or an activation is between, it is folded into the one after it, unless that one
      pads with zeros, which would have to be shifted.
    * Spectral and weight normalization are replaced by the layer inside, with the kernel that they computed.

    The remaining layers keep their names. Nested containers are optimized separately: nothing moves across their
    borders. Nothing is folded into or from layers that are called more than once, or that compute in half precision,
    whose rounding would change. The result is only for inference: training it would train a different model.

    Args:
        layer: any layer, usually a Sequential or Model, or its ``apply_fn``.
        params: its weights.

    Returns:
        (layer, params): the outputs equal the original ones to about 1e-5 of their size.

    Raises:
        TypeError: ``layer`` is not a layer.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3), jaxconv.BatchNormalization(), jaxconv.Dropout(0.5)])
    >>> params, _ = model.init(jax.random.key(0), (None, 10, 2))
    >>> small, params = optimize(model, params)
    >>> small.names, sorted(params["conv1d"])
    (('conv1d',), ['bias', 'kernel'])
    """
    layer = as_layer(layer, "optimize(layer, params)", params)
    if not isinstance(layer, Container):
        less, own = simplified(layer, params)
        return (layer, params) if less is None else (less, own)
    inside = {name: optimize(child, params.get(name, {})) for name, child in layer.children.items()}
    kept = {name: own for name, (_, own) in inside.items() if own}
    optimized = layer.map_layers(lambda name, _: inside[name][0])
    if not isinstance(optimized, Sequential | Model):
        return optimized, kept  # a kind of container whose graph follows from its options
    wiring = Wiring(optimized, kept)
    for step in list(wiring.steps):  # remove layers that do nothing, unless their rounding matters
        less, _ = simplified(wiring.children[step.name], wiring.params.get(step.name, {}))
        if less is None and _keeps_type(wiring, step):
            wiring.drop(step)
    while _fold_one(wiring):
        pass
    return wiring.result()


def _keeps_type(wiring: Wiring, step: Step) -> bool:
    """Return whether a layer's output has the type of its input, or is cast to that type anyway."""
    own = wiring.children[step.name].policy.compute
    before = wiring.producer(step.inputs[0])
    if before is not None:
        return wiring.children[before.name].policy.compute == own
    after = wiring.consumers(step.outputs[0])
    ends = step.outputs[0] in wiring.outputs
    return own == jnp.float32 and not ends and all(wiring.children[one.name].policy.compute == own for one in after)


def _fold_one(wiring: Wiring) -> bool:
    """Fold one scale and shift into a neighbour. Return whether there was one."""
    for step in wiring.steps:
        layer = wiring.children[step.name]
        affine = as_affine(layer, wiring.params.get(step.name, {}))
        if affine is None or wiring.calls(step.name) > 1 or layer.policy.compute not in (jnp.float32, jnp.float64):
            continue
        before = wiring.producer(step.inputs[0]) if wiring.only_consumer(step.inputs[0]) is step else None
        after = wiring.only_consumer(step.outputs[0])
        for neighbour, fold in ((before, fold_output_affine), (after, fold_input_affine)):
            if neighbour is None or wiring.calls(neighbour.name) > 1:
                continue
            other = wiring.children[neighbour.name]
            if other.policy != layer.policy:
                continue
            folded = fold(other, wiring.params.get(neighbour.name, {}), affine)
            if folded is not None:
                wiring.put(neighbour.name, *folded)
                wiring.drop(step)
                return True
    return False
