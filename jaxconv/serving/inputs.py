"""Shapes and types of a model's inputs: of a single input, or a list or dict for several."""

import bisect
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxconv.contract import Apply, Layer
from jaxconv.errors import explain
from jaxconv.models import Model


def read_function(model: Any, params: Any, call: str) -> Callable:
    """Return the function of (params, x) that a model is, or that a layer has. Raises TypeError.

    call: the call with its arguments in order, for messages.
    """
    function: Any = model.apply_fn if isinstance(model, Layer) else model
    if isinstance(function, type) or not callable(function):
        got = type(model).__name__
        raise TypeError(f"{call}: apply_fn is of type {got}; give a layer or its apply_fn, in this order")
    if (isinstance(function, Apply) and not isinstance(params, Mapping)) or isinstance(params, Apply | Layer):
        kind: Any = type(params)  # an Apply has a __name__ of its own
        raise TypeError(f"{call}: params is of type {kind.__name__}; give the first value of layer.init, in this order")
    return function


def is_shape(value: Any) -> bool:
    """Return whether a value is a tuple of sizes, None for an unknown one."""
    return isinstance(value, tuple) and all(hasattr(size, "__index__") or size is None for size in value)


def read_input_shape(function: Callable, value: Any) -> Any:
    """Return the shape of an input, or those of a ``Model`` in its structure. Raises TypeError, ValueError."""
    shapes = read_shapes(value)
    return function.layer.read_shape(shapes) if isinstance(function, Apply) else shapes


def read_shapes(value: Any) -> Any:
    """Return one shape as a tuple, or several in their list or dict. Raises TypeError.

    >>> read_shapes([[None, 8, 2], (None, 4)])
    [(None, 8, 2), (None, 4)]
    """
    if isinstance(value, Mapping):
        return {key: read_shapes(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and value:
        if is_shape(tuple(value)):
            return tuple(size if size is None else size.__index__() for size in value)
        if all(isinstance(one, list | tuple | Mapping) for one in value):
            return [read_shapes(one) for one in value]
    got = repr(value) if value is None or isinstance(value, str | int | tuple | list) else type(value).__name__
    raise TypeError(f"input shape {got} is not valid; give one like (None, 48, 48, 1)")


def map_shapes(function: Callable, shapes: Any, *more: Any) -> Any:
    """Return the structure of ``function(shape, ...)`` for each shape."""
    return jax.tree.map(function, shapes, *more, is_leaf=is_shape)


def resolve_dtypes(apply_fn: Any, shapes: Any, dtype: Any) -> Any:
    """Return the type of each input, in the structure of the shapes. Raises ValueError or TypeError.

    dtype: a list or dict of types, or one float type for all inputs that a ``Model`` does not declare as integers; None
    for the types that it declares, and float32 for inputs without a declared type.
    """
    layer = getattr(apply_fn, "layer", None)
    with explain(f"dtype={dtype!r}"):
        if isinstance(dtype, list | tuple | Mapping):
            return map_shapes(lambda shape, one: jnp.dtype(one), shapes, dtype)
        kind = jnp.dtype("float32" if dtype is None else dtype)
        if not is_shape(shapes) and not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(f"one integer type for several inputs; give a type for each, in the structure of {shapes}")
    if (is_shape(shapes) and dtype is not None) or not isinstance(layer, Model):
        return map_shapes(lambda shape: kind, shapes)
    declared = [jnp.dtype(source.dtype or kind) for source in layer.sources]
    kinds = (one if dtype is None or jnp.issubdtype(one, jnp.integer) else kind for one in declared)
    return map_shapes(lambda shape, one: one, shapes, layer.structure.unflatten(kinds))


def cast_inputs(name: str, shapes: Any, dtypes: Any, x: Any) -> Any:
    """Return the arrays of an input in the types that a program takes.

    Raises TypeError for input that is not an array of real numbers; ValueError for numbers that an integer type cannot
    represent.
    """

    def cast(_: Any, dtype: Any, value: Any) -> Any:
        if getattr(value, "dtype", None) == dtype:
            return value
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name}: the input is of type {array.dtype}; {dtype} is expected")
        with np.errstate(invalid="ignore"):
            result = array.astype(dtype)
            if not jnp.issubdtype(dtype, jnp.floating) and (result != array).any():
                raise ValueError(f"{name}: the input of type {array.dtype} has numbers that {dtype} cannot represent")
        return result

    return map_shapes(cast, shapes, dtypes, x)


# -- symbols for unknown sizes

_LONG = 2**14  # a length that every common model accepts


def symbolic_inputs(function: Any, shapes: Any, dtypes: Any, *, shared: bool) -> Any:
    """Return a ``jax.ShapeDtypeStruct`` for each input, with symbols for None.

    All batches have the same symbol. A symbol for a length represents the shortest valid one and all longer ones.
    shared: whether the lengths of all inputs along one axis are equal.
    """
    flat: list = jax.tree.leaves(shapes, is_leaf=is_shape)
    tree: Any = jax.tree.structure(shapes, is_leaf=is_shape)
    names = [[_name(which, axis, size, shared) for axis, size in enumerate(one)] for which, one in enumerate(flat)]
    lengths = {name for one in names for name in one[1:] if not name.isdecimal()}

    def accepted(lengths: dict[str, int]) -> bool:
        sizes = [tuple(int(n) if n.isdecimal() else lengths.get(n) for n in one) for one in names]
        try:
            function.layer.output_shape(tree.unflatten(sizes))
        except (ValueError, TypeError):
            return False
        return True

    def with_length(name: str, length: int) -> bool:
        return accepted(long | {name: length})

    long = dict.fromkeys(lengths, _LONG)
    shortest = dict.fromkeys(lengths, 0)
    if isinstance(function, Apply) and accepted(long):
        for name in lengths:  # any length longer than an accepted one is accepted, too
            shortest[name] = 1 + bisect.bisect_left(range(1, _LONG), True, key=functools.partial(with_length, name))
    scope = jax_export.SymbolicScope([f"{name} >= {n}" for name, n in sorted(shortest.items()) if n > 1])
    symbols = [jax_export.symbolic_shape(f"({', '.join(one)},)", scope=scope) for one in names]
    return tree.unflatten(map(jax.ShapeDtypeStruct, symbols, jax.tree.leaves(dtypes)))


def _name(which: int, axis: int, size: int | None, shared: bool) -> str:
    if size is not None:
        return str(size)
    return "batch" if not axis else f"n{axis}" if shared or not which else f"n{axis}_{which}"
