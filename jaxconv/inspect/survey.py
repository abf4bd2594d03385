"""A model layer by layer, in the order of its calls: shapes, weights, multiply-adds, receptive fields.

Knows containers by their graphs and layers by what they say of themselves.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from jaxconv.contract.layer import Layer, Params
from jaxconv.inspect.receptive_field import Field, Fields, through
from jaxconv.models.container import Container


class Row(NamedTuple):
    """One call of one layer.

    name: of the layer, after those of the containers around it: "encoder/conv1d". kind: its class.
    output: the shape, or the structure of shapes, that it gives.
    trainable, fixed: how many weights it has; 0 at a second call of a shared layer.
    multiply_adds: for one example; None where it is not known. fields: the receptive fields of its (first) output's
    axes after the batch. depth: in how many containers it stands; a container's row comes before those of what is in
    it, and counts them.
    """

    name: str
    kind: str
    output: Any
    trainable: int
    fixed: int
    multiply_adds: int | None
    fields: Fields
    depth: int = 0


def survey(layer: Layer, shape: Any) -> list[Row]:
    """Give a row for the whole model, whose name is empty, and one for each call of each layer in it.

    Args:
        layer: any layer.
        shape: the input's, batch first; a structure of them for several inputs. Lengths may be None.

    Raises:
        ValueError: the layer does not take this input; the layer inside that refuses is named.

    >>> rows = survey(jaxconv.Sequential([jaxconv.Conv1D(8, 3), jaxconv.Conv1D(8, 3)]), (None, 10, 2))
    >>> [(row.name, row.multiply_adds, row.fields[0].size) for row in rows[1:]]
    [('conv1d', 384, 3), ('conv1d_1', 1152, 5)]
    """
    shape = layer.read_shape(shape)
    params = jax.eval_shape(lambda key: layer.init(key, shape)[0], jax.random.key(0))
    flat = layer.flat_inputs(shape) if isinstance(layer, Container) else [shape]
    inputs = [_whole(one) for one in flat]
    if not isinstance(layer, Container) and isinstance(shape, list):
        inputs = [_whole(one) for one in shape]
    return _rows("", layer, shape, inputs, params, 0)[0]


def _whole(shape: Sequence[int | None]) -> Fields:
    return (Field(),) * (len(shape) - 1)


def _rows(
    name: str, layer: Layer, shape: Any, inputs: list[Fields], params: Params, depth: int
) -> tuple[list[Row], list[Fields]]:
    """Give the rows of one call, and the fields of its outputs."""
    output = layer.output_shape(shape)
    parts = [layer.select(params, fixed=fixed) for fixed in (False, True)]
    trainable, fixed = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in parts)
    if not isinstance(layer, Container):
        outputs = layer.output_structure.flatten_up_to(output)
        fields = [through(layer.windows(shape), inputs, len(one) - 1) for one in outputs]
        row = Row(name, type(layer).__name__, output, trainable, fixed, layer.multiply_adds(shape), fields[0], depth)
        return [row], fields
    inside, values, seen = [], list(inputs), set()
    for child_name, child, given, takes in _calls(layer, shape):
        own = {} if child_name in seen else params.get(child_name, {})
        seen.add(child_name)
        path = f"{name}/{child_name}" if name else child_name
        rows, fields = _rows(path, child, given, [values[place] for place in takes], own, depth + 1)
        inside += rows
        values += fields
    gives = [values[place] for place in layer.graph.gives]
    counts = [row.multiply_adds for row in inside if row.depth == depth + 1]
    total = None if None in counts else sum(count or 0 for count in counts)
    seen_last = gives[0] if gives else ()
    whole = Row(name, type(layer).__name__, output, trainable, fixed, total, seen_last, depth)
    return [whole, *inside], gives


def _calls(container: Container, shape: Any) -> Iterator[tuple[str, Layer, Any, tuple[int, ...]]]:
    """Give (name, layer, input shape, places of what it takes) of each call in a container."""
    children, values = container.children, container.flat_inputs(container.read_shape(shape))
    for (name, takes, structure), out in zip(container.graph.calls, container.shapes(shape), strict=True):
        yield name, children[name], structure.unflatten(values[place] for place in takes), takes
        values += children[name].output_structure.flatten_up_to(out)
