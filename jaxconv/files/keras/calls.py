"""Layer calls in a functional model's config, in the forms of Keras 1, 2 and 3, and the tensors they refer to.

A reference is a list ``[layer, number of the call, index of the output]``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Reference = list[Any]


class Tensor(NamedTuple):
    """A tensor argument of a function, and its shape if the file has it. Other arguments may be constants."""

    reference: Reference
    shape: Any = None


def is_tensor(value: Any) -> bool:
    """Return whether an argument of a call is a tensor in Keras 3's form."""
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def is_reference(value: Any) -> bool:
    """Return whether a value begins like a reference; Keras 2 adds keyword arguments after the three parts."""
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def references(value: Any) -> Iterator[Reference]:
    """Yield each reference in a call, in a list of calls, or in the inputs or outputs of a graph.

    >>> list(references([["a", 0, 0, {"mask": ["b", 0, 1]}], ["c", 1, 0]]))
    [['a', 0, 0, {'mask': ['b', 0, 1]}], ['b', 0, 1], ['c', 1, 0]]
    """
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"]
        else:
            yield from references(list(value.values()))
    elif is_reference(value):
        yield value
        if len(value) > 3 and isinstance(value[3], Mapping):
            yield from references(list(value[3].values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item)


def without_slashes(value: Any) -> Any:
    """Return the same structure with "/" replaced by "." in the names of layers."""
    if isinstance(value, Mapping):
        return {key: without_slashes(item) for key, item in value.items()}
    if is_reference(value):
        return [value[0].replace("/", "."), *(without_slashes(item) for item in value[1:])]
    return [without_slashes(item) for item in value] if isinstance(value, list) else value
