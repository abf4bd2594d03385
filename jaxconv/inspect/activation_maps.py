"""Class activation maps: CAM, Grad-CAM and guided Grad-CAM of any layer inside a model."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.contract.tap import tap
from jaxconv.inspect.attribution import attribute
from jaxconv.inspect.observing import channel_axis, find_layer
from jaxconv.inspect.target import Target, logits, select
from jaxconv.registry import nearest

METHODS = ("grad", "cam", "guided")


def class_activation(
    layer: Layer | Apply,
    params: Params,
    x: Any,
    target: Target = None,
    at: str | None = None,
    method: str = "grad",
    resize: bool = False,
    relu: bool = False,
    mask: Any = None,
    per_channel: bool = False,
) -> Any:
    """Compute how much each position of an inner layer's output contributes to a class.

    The map is the sum over channels of ``weight * value``, with one weight for each channel: with "grad" (Grad-CAM) the
    mean over positions of the gradient of the target's score, with "cam" (CAM) the weights of the dense layer for the
    target. If the head is global average pooling and a dense layer, CAM is Grad-CAM times the number of positions.
    "guided" (guided Grad-CAM) multiplies the positive part of the Grad-CAM map, resized to the input by repetition,
    by the guided backpropagation of ``attribute``.

    The map is raw, as in captum: negative where the layer contributes against the class, and neither scaled nor
    resized. pytorch-grad-cam instead sets negative values to zero, resizes to the input and scales each map to [0, 1].
    The score is a logit: a softmax or sigmoid at the end of the model is left out.

    Args:
        layer: a model or its ``apply_fn``, in either data format, of any depth.
        params, x, mask: as for ``apply_fn``; the first axis of ``x`` is the batch. Masked steps are excluded from the
            mean, and their entry in the map is 0.
        target: the class, as for ``select``: an integer, an array with an integer for each example, a tuple, or a
            function of the output. None is the class with the highest score.
        at: the path of the layer, as in ``observe``: "encoder/conv1d". None is the last layer whose output has
            several positions: the last one before the head.
        method: "grad", "cam" or "guided".
        resize: whether to interpolate the map linearly to the positions of the input.
        relu: whether to set negative values to zero.
        per_channel: whether to return ``weight * value`` of each channel instead of their sum; not with "guided".

    Returns:
        (batch, ...): the positions of the layer's output, or with ``resize`` those of the input; with ``per_channel``
        also the channels, on the same axis as in that output. With "guided" an array with the shape of ``x``, or a
        structure of such arrays.

    Raises:
        ValueError: an unknown layer, method or target; a layer without positions; "cam" without the required head.

    Source: Zhou et al. 2016, arXiv:1512.04150; Selvaraju et al. 2017, arXiv:1610.02391.

    >>> layers = [jaxconv.Conv1D(4, 3), jaxconv.ReLU(), jaxconv.GlobalAveragePooling1D(), jaxconv.Dense(2)]
    >>> params, apply_fn = jaxconv.Sequential(layers).init(jax.random.key(0), (None, 8, 1))
    >>> class_activation(apply_fn, params, jnp.ones((5, 8, 1)), target=1).shape
    (5, 6)
    """
    layer = as_layer(layer, "class_activation(layer, params, x)", params)
    if method not in METHODS:
        raise ValueError(f"class_activation: unknown method {method!r}; {nearest(method, METHODS)}")
    if per_channel and method == "guided":
        raise ValueError("class_activation: method 'guided' does not support per_channel; give 'grad' or 'cam'")
    seen: dict[str, tuple[Any, Any]] = {}
    with tap(lambda path, y, real: seen.setdefault(path, (y, real))[0]):
        layer.forward(params, x, train=False, key=None, mask=mask)
    at = _last_with_positions(seen, jax.tree.leaves(x)[0].shape[0]) if at is None else at
    channels = _check(layer, seen, at, method)
    value, real = seen[at]

    def output(added: Any) -> Any:
        with tap(lambda path, y, _: y + added if path == at else y):
            return layer.forward(params, x, train=False, key=None, mask=mask)[0]

    gradient = jax.grad(lambda added: jnp.sum(select(logits(output)(added), target)))(jnp.zeros_like(value))
    positions = tuple(axis for axis in range(1, value.ndim) if axis != channels)
    weight = jnp.sum(gradient, positions, keepdims=True)
    real = _real(real, jnp.take(value, 0, channels))
    if method != "cam":
        count = jnp.sum(real, tuple(range(1, real.ndim)), keepdims=True, dtype=value.dtype)
        weight = weight / jnp.expand_dims(jnp.maximum(count, 1), channels)
    maps = jnp.where(jnp.expand_dims(real, channels), weight * value, jnp.zeros((), value.dtype))
    found = maps if per_channel else jnp.sum(maps, channels)
    found = jnp.maximum(found, 0) if relu or method == "guided" else found
    if method == "guided":
        guided = attribute(lambda x: layer.apply_fn(params, x, mask), x, target, method="guided", mask=mask).values
        found = _resized(found, layer, seen, x, "nearest")
        return jax.tree.map(lambda one: one * jnp.expand_dims(found, channel_axis(layer, seen, one.ndim)), guided)
    if not resize:
        return found
    if per_channel:
        return jax.vmap(lambda one: _resized(one, layer, seen, x, "linear"), channels, channels)(found)
    return _resized(found, layer, seen, x, "linear")


def _last_with_positions(seen: dict[str, Any], batch: int) -> str:
    """Return the path of the last layer whose output has several positions for each example of the batch."""
    found = [
        path
        for path, (y, _) in seen.items()
        if path and len(getattr(y, "shape", ())) > 2 and y.shape[0] == batch and sorted(y.shape[1:])[-2] > 1
    ]
    inside = [path for path in found if not any(other.startswith(f"{path}/") for other in found)]
    if not inside:
        raise ValueError("class_activation: no layer inside has an output with positions; give the path of one: at=...")
    return inside[-1]


def _check(layer: Layer, seen: dict[str, Any], at: str, method: str) -> int:
    """Return the channel axis of the output of ``at``. Raises ValueError if this layer has no map."""
    if at not in seen:
        raise ValueError(f"class_activation: {layer.label} has no layer {at!r}; {nearest(at, filter(None, seen))}")
    y, _ = seen[at]
    shape = getattr(y, "shape", None)
    if shape is None or len(shape) < 3 or not jnp.issubdtype(y.dtype, jnp.floating):
        got = f"an output of shape {shape} and type {y.dtype}" if shape else "several outputs"
        raise ValueError(f"class_activation: {at!r} has {got}; a map needs real values with positions and channels")
    if method == "cam":
        leaves = [path for path in seen if path and not any(other.startswith(f"{path}/") for other in seen)]
        rest = leaves[leaves.index(at) + 1 :] if at in leaves else []
        after = [type(find_layer(layer, path)).__name__ for path in rest]
        head = [name for name in after if name not in ("Activation", "Dropout", "Flatten", "Softmax")]
        if len(head) != 2 or not head[0].startswith("GlobalAveragePooling") or head[1] != "Dense":
            needs = f"method 'cam' needs global average pooling and a dense layer after {at!r}"
            got = f"there is {', '.join(after) or 'nothing'}"
            raise ValueError(f"class_activation: {needs}; {got}; method 'grad' needs neither")
    paths = list(seen)
    index = paths.index(at)
    return channel_axis(layer, [*reversed(paths[: index + 1]), *paths[index + 1 :]], len(shape))


def _real(mask: Any, like: Array) -> Array:
    """Return a mask in the shape of a map, (batch, ...); a mask with fewer axes is broadcast along the others."""
    if mask is None:
        return jnp.ones(like.shape, bool)
    return jnp.broadcast_to(mask.reshape(*mask.shape, *(1,) * (like.ndim - mask.ndim)), like.shape)


def _resized(found: Array, layer: Layer, seen: dict[str, Any], x: Any, how: str) -> Array:
    """Interpolate a map to the positions of the input."""
    shape = jax.tree.leaves(x)[0].shape
    channels = channel_axis(layer, seen, len(shape))
    sizes = tuple(size for axis, size in enumerate(shape) if axis not in (0, channels))
    if len(sizes) != found.ndim - 1:
        raise ValueError(f"class_activation: cannot resize a map of shape {found.shape} to an input of shape {shape}")
    return jax.image.resize(found, (found.shape[0], *sizes), how)
