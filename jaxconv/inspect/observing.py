"""The values of the layers inside a model, and gradients with respect to them, by a tap in the forward pass."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxconv.contract import Apply, Layer, Params, as_layer
from jaxconv.contract.tap import tap
from jaxconv.registry import nearest


class Observed(NamedTuple):
    """The value of a layer's output, and the gradient with respect to it.

    Both have the structure of the layer's output. The gradient is zero where the result does not depend on the value,
    and None for integers and booleans.
    """

    value: Any
    gradient: Any


def observe(
    layer: Layer | Apply,
    params: Params,
    x: Any,
    names: Sequence[str] | None = None,
    gradient_of: Callable[[Any], Any] | None = None,
    *,
    train: bool = False,
    key: Any = None,
    mask: Any = None,
) -> dict[str, Any]:
    """Compute a model and return the outputs of the layers inside it, by their paths.

    A path consists of the names of the containers around a layer and its own name, as in ``summary``:
    ``"encoder/conv1d"``. Further calls of a shared layer are numbered: ``"conv1d#2"``. The layer inside a wrapper is
    ``"layer"``: ``"time_distributed/layer"``. The empty path ``""`` is the whole model.

    A pure function of its arrays: it can be used inside ``jit``, ``grad`` and ``vmap``. Layers that run inside a
    transformation in the ``call`` of another layer (``jit``, ``scan``) are not observed.

    Args:
        layer: a layer or its ``apply_fn``.
        params, x, train, key, mask: as for ``apply_fn.forward``.
        names: the paths to return, in this order; a path may also be that of a container. None returns all layers
            inside the model, in the order in which they are computed, or the whole model if it has no layers inside.
        gradient_of: a scalar function of the model's output. With it each entry is ``Observed(value, gradient)``, with
            the gradient of ``gradient_of(output)`` with respect to that value.

    Returns:
        A dict from each path to the output of the layer, or to an ``Observed``.

    Raises:
        TypeError: ``names`` is a string.
        ValueError: a path that is not in the model; ``gradient_of`` does not return a real scalar.

    >>> model = jaxconv.Sequential([jaxconv.Conv1D(4, 3), jaxconv.ReLU(), jaxconv.Flatten(), jaxconv.Dense(2)])
    >>> params, apply_fn = model.init(jax.random.key(0), (None, 8, 1))
    >>> x = jnp.ones((1, 8, 1))
    >>> {name: value.shape for name, value in observe(model, params, x).items()}
    {'conv1d': (1, 6, 4), 're_lu': (1, 6, 4), 'flatten': (1, 24), 'dense': (1, 2)}
    >>> value, gradient = observe(model, params, x, ["conv1d"], gradient_of=lambda y: y[0, 1])["conv1d"]
    >>> value.shape, gradient.shape
    ((1, 6, 4), (1, 6, 4))
    """
    layer = as_layer(layer, "observe(layer, params, x)", params)
    if isinstance(names, str):
        raise TypeError(f"observe: names={names!r} is a string; give a list: [{names!r}]")
    order: list[str] = []  # transformations sort the keys of a dict

    def run(added: dict[str, list]) -> tuple[Any, dict[str, Any]]:
        order.clear()
        seen = {}

        def see(path: str, y: Any, _: Any) -> Any:
            order.append(path)
            leaves, form = jax.tree.flatten(y)
            pairs = zip(leaves, added.get(path, [None] * len(leaves)), strict=True)
            seen[path] = jax.tree.unflatten(form, [a if b is None else a + b for a, b in pairs])
            return seen[path]

        with tap(see):
            y, _ = layer.forward(params, x, train=train, key=key, mask=mask)
        return y, seen

    if gradient_of is None:
        seen = run({})[1]
        return {name: seen[name] for name in _chosen(names, order, layer)}
    shapes = jax.eval_shape(lambda: run({})[1])
    zeros = {name: list(map(_zeros, jax.tree.leaves(shapes[name]))) for name in _chosen(names, order, layer)}

    def result(added: dict[str, list]) -> tuple[Any, dict[str, Any]]:
        y, seen = run(added)
        return _scalar(gradient_of(y)), {name: seen[name] for name in zeros}

    gradients, values = jax.grad(result, has_aux=True)(zeros)
    forms: Any = {name: jax.tree.structure(shapes[name]) for name in zeros}
    return {name: Observed(values[name], form.unflatten(gradients[name])) for name, form in forms.items()}


def _zeros(like: jax.ShapeDtypeStruct) -> Any:
    """Return the zeros that are added to a value to differentiate with respect to it, or None for integers."""
    return jnp.zeros(like.shape, like.dtype) if jnp.issubdtype(like.dtype, jnp.inexact) else None


def _chosen(names: Sequence[str] | None, found: Sequence[str], layer: Layer) -> list[str]:
    """Return the requested names. Raises ValueError for a name that is not in ``found``."""
    if names is None:
        return [name for name in found if name] or [""]
    for name in names:
        if name not in found:
            raise ValueError(f"observe: {layer.label} has no layer {name!r}; {nearest(name, filter(None, found))}")
    return list(names)


def _scalar(value: Any) -> Any:
    """Check the result of ``gradient_of``."""
    dtype: Any
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        got = f"of type {type(value).__name__}" if shape is None else f"an array of shape {shape} and type {dtype}"
        raise ValueError(f"observe: gradient_of returned {got}; return a real scalar, such as y[0, 3] or y.sum()")
    return value


def find_layer(layer: Layer, path: str) -> Layer:
    """Return the layer at a path of ``observe``."""
    for name in filter(None, path.split("/")):
        layer = layer.children.get(name.partition("#")[0], layer)
    return layer


def channel_axis(layer: Layer, paths: Iterable[str], rank: int) -> int:
    """Return the channel axis according to the first layer with a data format, or the last axis if there is none."""
    formats = (getattr(find_layer(layer, path), "data_format", None) for path in paths)
    return 1 if next(filter(None, formats), "channels_last") == "channels_first" else rank - 1
