"""The weights of one layer: declaring, making and checking them, and the regularizers and constraints on them."""

import math
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxconv.dtypes import promote
from jaxconv.errors import explain


class Weight(NamedTuple):
    """The declaration of one leaf of params.

    Args:
        shape: the shape of the leaf.
        initializer: ``(key, shape, dtype) -> array``.
        per_output: whether each output step has its own values in the leaf, as in a locally connected layer.

    >>> jaxconv.Dense(2).weights((None, 3))["kernel"].shape
    (3, 2)
    """

    shape: tuple[int, ...]
    initializer: Any
    per_output: bool = False


_shapes_only: ContextVar[bool] = ContextVar("shapes_only", default=False)


def param_shapes(layer: Any, input_shape: Any) -> Any:
    """Return the shapes and types of the params that a layer makes for an input, without computing any of them.

    Args:
        layer: the layer.
        input_shape: as for ``layer.init``.

    Returns:
        The structure of params with a ``jax.ShapeDtypeStruct`` for each leaf.

    >>> param_shapes(jaxconv.Dense(2), (None, 3))["kernel"]
    ShapeDtypeStruct(shape=(3, 2), dtype=float32)
    """
    token = _shapes_only.set(True)
    try:
        return jax.eval_shape(lambda key: layer.init(key, input_shape)[0], jax.random.key(0))
    finally:
        _shapes_only.reset(token)


def make_params(layer: Any, key: Any, input_shape: Any) -> dict[str, Array]:
    """Make the params of one layer: one key for each leaf, so that no two leaves are equal by accident.

    Raises ValueError for an initializer, regularizer or constraint that returns the wrong shape, TypeError if
    ``weights`` and ``leaves`` of the layer do not name the same leaves.
    """
    where, dtype = type(layer).__name__, layer.policy.variable
    layer.policy.require(where)
    params, weights = {}, layer.weights(input_shape)
    if set(weights) != set(layer.leaves):
        what = f"weights() returns {sorted(weights)}, and leaves names {sorted(layer.leaves)}"
        raise TypeError(f"{where}: {what}; each weight NAME has an option NAME_initializer, or override leaves")
    for index, (leaf, weight) in enumerate(weights.items()):
        with explain(f"{where}: initializer of {leaf}, called with (key, shape, dtype)"):
            if _shapes_only.get():  # tracing the initializers of a thousand layers takes seconds
                value = jnp.zeros(weight.shape, dtype)
            else:
                value = weight.initializer(jax.random.fold_in(key, index), weight.shape, dtype)
            if tuple(value.shape) != weight.shape:
                raise ValueError(f"returned shape {tuple(value.shape)}; this layer needs {weight.shape}")
        params[leaf] = jnp.asarray(value, dtype)
    for ending in ("regularizer", "constraint"):
        for leaf, entry in governing(layer, ending):
            wanted = () if ending == "regularizer" else params[leaf].shape
            with explain(f"{where}: {ending} of {leaf}"):
                got = jax.eval_shape(entry, params[leaf]).shape
                if got != wanted:
                    raise ValueError(f"returned shape {got}; it must return {wanted}")
    return params


def count_multiply_adds(layer: Any, shape: Any) -> int | None:
    """Return the number of uses of kernel entries for one example of an input of this shape, or None if unknown."""
    if not any("kernel" in leaf for leaf in layer.leaves):
        return 0
    out, windows = layer.output_shape(shape)[1:], layer.windows(shape)
    if None in (*shape[1:], *out) or sum(window.reads_all for window in windows) > 1:
        return None  # the windows do not say how often a kernel is used along an axis that is read entirely
    inputs = [shape[1 + (i if w.axis is None else w.axis)] for i, w in enumerate(windows)]
    steps = [n if w.transposed else m for n, m, w in zip(inputs, out, windows, strict=True) if not w.reads_all]
    kernels = [weight for leaf, weight in layer.weights(shape).items() if "kernel" in leaf]
    return sum(math.prod(kernel.shape) * (1 if kernel.per_output else math.prod(steps)) for kernel in kernels)


def governing(layer: Any, ending: str) -> list[tuple[str, Any]]:
    """Return the (leaf, entry) pairs of one table, "regularizer" or "constraint", that act on trainable leaves."""
    pairs = [(leaf, getattr(layer, f"{prefix}_{ending}", None)) for leaf, prefix in layer.leaves.items()]
    return [(leaf, entry) for leaf, entry in pairs if entry is not None and not layer.is_fixed(leaf)]


def check_shapes(layer: Any, params: dict[str, Any], input_shape: Any) -> None:
    """Raise ValueError for a leaf whose shape is not the one that an input of this shape needs."""
    for leaf, weight in layer.weights(input_shape).items():
        shape = getattr(params[leaf], "shape", None)
        if shape != weight.shape:
            got = f"one of shape {shape}" if shape is not None else f"{params[leaf]!r}; merge the parts of a split"
            needs = f"input of shape {input_shape} needs a {leaf} of shape {weight.shape}"
            raise ValueError(f"{layer.label}: {needs}; these params hold {got}")


def sum_penalties(terms: list[Any], dtype: Any) -> Array:
    """Sum scalar penalties in the widest of their types and ``dtype``."""
    terms = [term if hasattr(term, "dtype") else jnp.asarray(term, dtype) for term in terms]
    dtype = promote(dtype, *(term.dtype for term in terms))
    return sum((term.astype(dtype) for term in terms), start=jnp.zeros((), dtype))
