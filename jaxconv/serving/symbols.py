"""Symbols for the unknown sizes of a model's inputs, and the shortest lengths that they stand for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import export as jax_export

from jaxconv.contract import Apply
from jaxconv.serving.inputs import is_shape

_LONG = 2**14  # a length that every usual model accepts


def symbolic_inputs(function: Any, shapes: Any, dtypes: Any, *, shared: bool) -> Any:
    """Return a ``jax.ShapeDtypeStruct`` for each input, with symbols for None.

    All batches have the same symbol. A symbol for a length stands for the shortest legal one and all longer ones.
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
    least = dict.fromkeys(lengths, 0)
    if isinstance(function, Apply) and accepted(long):
        least = {name: _least(functools.partial(with_length, name)) for name in lengths}
    scope = jax_export.SymbolicScope([f"{name} >= {n}" for name, n in sorted(least.items()) if n > 1])
    symbols = [jax_export.symbolic_shape(f"({', '.join(one)},)", scope=scope) for one in names]
    return tree.unflatten(map(jax.ShapeDtypeStruct, symbols, jax.tree.leaves(dtypes)))


def _name(which: int, axis: int, size: int | None, shared: bool) -> str:
    if size is not None:
        return str(size)
    return "batch" if not axis else f"n{axis}" if shared or not which else f"n{axis}_{which}"


def _least(accepted: Callable[[int], bool]) -> int:
    """Return the smallest accepted number up to a length that is accepted, where larger ones are accepted too."""
    low, high = 0, _LONG
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return high
